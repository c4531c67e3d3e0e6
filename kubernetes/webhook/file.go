package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// lookEvery is how often files are read again, at most. They are read when somebody
// needs them, so nothing has to watch them.
const lookEvery = 5 * time.Second

// files are files that stand for a value, such as a certificate and its key. The
// zero value isn't usable.
type files[T any] struct {
	names []string
	parse func(contents [][]byte) (T, error)
	log   *slog.Logger

	mu     sync.Mutex
	looked time.Time
	value  T

	// looking is held by the goroutine that reads the files. A file system that hangs
	// blocks nobody else: the others use the value that is there.
	looking  sync.Mutex
	contents [][]byte // of the value
	problem  string   // the reported one, "" if there is none
}

// CertificateFiles returns the certificate of two files (PEM). The function loads
// them again when they change. If they are wrong then, the earlier certificate stays
// in use.
func CertificateFiles(cert, key string, log *slog.Logger) (func() (*tls.Certificate, error), error) {
	return load([]string{cert, key}, log, func(contents [][]byte) (*tls.Certificate, error) {
		pair, err := tls.X509KeyPair(contents[0], contents[1])
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", cert, key, err)
		}
		return &pair, nil
	})
}

// AuthorityFile returns the CA certificates of a file (PEM). The function loads it
// again, as [CertificateFiles] does.
func AuthorityFile(name string, log *slog.Logger) (func() (*x509.CertPool, error), error) {
	return load([]string{name}, log, func(contents [][]byte) (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(contents[0]) {
			return nil, fmt.Errorf("%s: no certificate (PEM) in it", name)
		}
		return pool, nil
	})
}

// load reads the files, and returns the function that reads them again.
func load[T any](names []string, log *slog.Logger, parse func([][]byte) (T, error)) (func() (T, error), error) {
	f := &files[T]{names: names, parse: parse, log: log}
	if err := f.look(); err != nil {
		return nil, err
	}
	return f.current, nil
}

// current returns the value, which is at most [lookEvery] old, unless another goroutine
// is just reading the files. It never returns an error: a value that was loaded stays.
func (f *files[T]) current() (T, error) {
	f.mu.Lock()
	fresh := time.Since(f.looked) < lookEvery
	f.mu.Unlock()
	if !fresh && f.looking.TryLock() {
		f.again()
		f.looking.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.value, nil
}

// again reads the files again, and reports a problem once.
func (f *files[T]) again() {
	before := f.problem
	f.problem = ""
	if err := f.look(); err != nil {
		f.problem = err.Error()
	}
	switch {
	case f.problem != "" && f.problem != before:
		f.log.Error("a file can't be loaded: the version loaded before stays in use", slog.String("error", f.problem))
	case f.problem == "" && before != "":
		f.log.Info("the files are right again", slog.Any("files", f.names))
	}
}

// look reads the files, and parses them if they have changed. After an error it is
// called again at the next need: somebody may be in the middle of replacing them.
func (f *files[T]) look() error {
	var contents [][]byte
	var errs []error
	for _, name := range f.names {
		text, err := os.ReadFile(name)
		contents, errs = append(contents, text), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	value := f.value // only look changes it
	if f.contents == nil || !slices.EqualFunc(contents, f.contents, slices.Equal[[]byte]) {
		var err error
		if value, err = f.parse(contents); err != nil {
			return err
		}
		if f.contents != nil {
			f.log.Info("files were loaded again", slog.Any("files", f.names))
		}
		f.contents = contents
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.value, f.looked = value, time.Now()
	return nil
}
