package proxytls

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// How often files are checked. The check follows links, so it sees an atomic
// rename, a link that is swapped (as Kubernetes does with a volume) and a file on a
// network drive. The kernel's notifications don't reliably report any of these.
const (
	lookEvery = 5 * time.Second
	// After a fault: somebody may be in the middle of replacing a certificate and
	// its key.
	lookAgain = time.Second
	// The clock of a file system may stand still between two changes.
	coarseTime = 2 * time.Second
	// maxFileBytes is far over every certificate, and enough for a list of some
	// hundred thousand revoked ones.
	maxFileBytes = 32 << 20
)

// A watcher loads files again when one of them changes.
type watcher struct {
	files []string
	load  func(contents) error // changes everything, or nothing and returns the reason
	// state is called after each look. It returns the certificates in use, and the
	// problems with them.
	state func(now time.Time) ([]Certificate, []error)

	certificate     func(Certificate) // each may be nil
	problem, mended func(error)

	stop    chan struct{}
	closing sync.Once
	running sync.WaitGroup

	problems atomic.Pointer[[]error] // the reported ones; a reader needn't wait for a drive that doesn't answer

	mu       sync.Mutex // held during a look
	seen     contents
	failed   error                // of the last load
	doubtful bool                 // failed isn't reported yet
	told     map[string]certPhase // of certificates, by file
}

// certPhase is the reported phase of a certificate.
type certPhase struct {
	fingerprint     [sha256.Size]byte
	ending, expired bool
}

// contents are the contents of the files, by name.
type contents map[string]content

type content struct {
	data []byte
	sum  [sha256.Size]byte
	err  error
	info os.FileInfo
	read time.Time
}

// start loads the files for the first time and begins to watch them.
func (w *watcher) start() error {
	w.stop = make(chan struct{})
	w.told = map[string]certPhase{}
	w.problems.Store(new([]error))
	w.seen = readAll(w.files, nil)
	if err := w.load(w.seen); err != nil {
		return err
	}
	w.seen.forgetData()
	w.tell(time.Now())
	if len(w.files) > 0 {
		w.running.Go(w.watch)
	}
	return nil
}

// close may be called again: at culvert's end, a reload may close what the end closes.
func (w *watcher) close() {
	w.closing.Do(func() { close(w.stop) })
	w.running.Wait()
}

func (w *watcher) watch() {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		select {
		case <-w.stop:
			return
		case now := <-timer.C:
			timer.Reset(w.look(now))
		}
	}
}

// look loads the files that have changed. It returns when to look again.
func (w *watcher) look(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	fresh := readAll(w.files, w.seen)
	if !fresh.same(w.seen) {
		w.failed = w.load(fresh.withData())
		w.doubtful = w.failed != nil
		w.seen = fresh
		w.seen.forgetData()
		if w.doubtful {
			return lookAgain
		}
	}
	w.doubtful = false
	w.tell(now)
	return lookEvery
}

// reload is a look that the operator asked for.
func (w *watcher) reload() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	fresh := readAll(w.files, nil)
	w.failed, w.doubtful = w.load(fresh), false
	w.seen = fresh
	w.seen.forgetData()
	w.tell(time.Now())
	return w.failed
}

// current returns the reported problems that still exist.
func (w *watcher) current() []error { return *w.problems.Load() }

func (w *watcher) tell(now time.Time) {
	certificates, problems := w.state(now)
	for _, c := range certificates {
		phase := certPhase{c.Fingerprint, c.Ending(now), c.Expired(now)}
		if w.told[c.File] != phase {
			w.told[c.File] = phase
			if w.certificate != nil {
				w.certificate(c)
			}
		}
	}
	problems = append(stays(w.failed), problems...)
	before := w.current()
	w.problems.Store(&problems)
	for _, err := range without(problems, before) {
		if w.problem != nil {
			w.problem(err)
		}
	}
	for _, err := range without(before, problems) {
		if w.mended != nil {
			w.mended(err)
		}
	}
}

// stays adds to load errors that the earlier version stays in use.
func stays(failed error) []error {
	var errs []error
	for _, err := range split(failed) {
		if about, ok := errors.AsType[*KeyError](err); ok {
			err = keyErrorf(about.Key, "%w: the version loaded before stays in use", about.Err)
		}
		errs = append(errs, err)
	}
	return errs
}

// without returns the errors of all whose text doesn't occur in others.
func without(all, others []error) []error {
	has := map[string]bool{}
	for _, err := range others {
		has[err.Error()] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(err error) bool { return has[err.Error()] })
}

// readAll reads the files, except those that can't have changed since before.
func readAll(files []string, before contents) contents {
	c := contents{}
	for _, name := range files {
		c[name] = read(name, before[name])
	}
	return c
}

func read(name string, before content) content {
	now := time.Now()
	info, err := os.Stat(name)
	if err == nil && before.info != nil && os.SameFile(info, before.info) &&
		info.ModTime().Equal(before.info.ModTime()) && info.Size() == before.info.Size() &&
		before.read.Sub(info.ModTime()) > coarseTime {
		return before
	}
	c := content{info: info, err: err, read: now}
	if err == nil {
		c.data, c.err = readBounded(name, info)
	}
	if c.err != nil {
		c.info = nil
	}
	c.sum = sha256.Sum256(c.data)
	return c
}

func readBounded(name string, info os.FileInfo) ([]byte, error) {
	if !info.Mode().IsRegular() { // a pipe could be read only once, and may block
		return nil, errors.New("is not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("is larger than %d MiB", maxFileBytes>>20)
	}
	return data, err
}

// same reports whether the files have the same contents, or the same errors.
func (c contents) same(before contents) bool {
	return maps.EqualFunc(c, before, func(now, was content) bool {
		return now.sum == was.sum && fmt.Sprint(now.err) == fmt.Sprint(was.err)
	})
}

// withData reads the contents that were not read, or forgotten, because they had
// not changed.
func (c contents) withData() contents {
	for name, f := range c {
		if f.data == nil && f.err == nil {
			c[name] = read(name, content{})
		}
	}
	return c
}

// forgetData drops the contents of the files: keys need not be in memory twice.
func (c contents) forgetData() {
	for name, f := range c {
		f.data = nil
		c[name] = f
	}
}

// read returns the contents of a file in a key.
func (c contents) read(key, name string) ([]byte, error) {
	f := c[name]
	if f.err != nil {
		return nil, keyErrorf(key, "%s: %w", name, cause(f.err))
	}
	return bytes.TrimPrefix(f.data, byteOrderMark), nil
}

// byteOrderMark is the mark with which Windows editors begin a file. Without its
// removal, PEM would begin with the second block.
var byteOrderMark = []byte("\xef\xbb\xbf")
