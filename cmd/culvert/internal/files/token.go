package files

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/config"
)

const tokenKey = "admin.token"

// A Token is the file in admin.token. Its goroutine, watch, reads the file again when it
// changes. If the newest version is wrong, the one before stays in use.
type Token struct {
	use       func(admin.Token)
	log       *slog.Logger
	other     chan struct{} // room for one request: the configuration names another file
	running   sync.WaitGroup
	unwatched Unwatched // only for watch

	mu      sync.Mutex     // held while the file is read and used
	config  *config.Loaded // that runs
	current admin.Token
	problem error // why the newest version isn't in use; nil: it is
}

// OpenToken reads the file of a configuration, if it names one. It calls use with the token,
// and again when the token changes.
func OpenToken(c *config.Loaded, log *slog.Logger, use func(admin.Token)) (*Token, error) {
	t := &Token{use: use, log: log, other: make(chan struct{}, 1), config: c.Compact()}
	var err error
	if t.current, err = readToken(c); err != nil {
		return nil, err
	}
	use(t.current)
	return t, nil
}

// readToken returns the token of a configuration, or the zero value if it names none. An error
// has its place, and not the path: that may be the token, in place of its file.
func readToken(c *config.Loaded) (admin.Token, error) {
	path := c.Admin.Token
	if path == "" || c.Admin.Listen == "" {
		return admin.Token{}, nil
	}
	text, err := readRegular(path)
	if err != nil {
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			err = path.Err
		}
		return admin.Token{}, c.Errorf(tokenKey, "the file can't be read: %w: write one with openssl rand -hex 32, which culvert's user can read", err)
	}
	token, err := admin.NewToken(text)
	if err != nil {
		return token, c.Errorf(tokenKey, "the file %w", err)
	}
	return token, nil
}

// maxTokenFile is more than a token can have.
const maxTokenFile = 4 << 10 // bytes

func readRegular(path string) (string, error) {
	info, err := os.Stat(path) // opening a pipe could wait for ever
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it isn't a regular file, so culvert can't read it again")
	}
	if err != nil {
		return "", err
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(file, maxTokenFile))
	return string(text), err
}

// Change is the part of a reload that reads the file of next.
func (t *Token) Change(_, next *config.Loaded) (commit, undo func(), err error) {
	token, err := readToken(next)
	if err != nil {
		return nil, nil, err
	}
	return func() {
		t.mu.Lock()
		t.config, t.problem = next.Compact(), nil
		t.set(token)
		t.mu.Unlock()
		Ask(t.other)
	}, nil, nil
}

// set uses a token. mu is held.
func (t *Token) set(token admin.Token) {
	if token != t.current {
		t.current = token
		t.use(token)
	}
}

// Reload reads the file again, for an operator who asks for it. It reports whether there is
// one.
func (t *Token) Reload() (anything bool) {
	t.update(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.config.Admin.Token != ""
}

// Problems returns a line if the newest version of the file is wrong.
func (t *Token) Problems() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.problem == nil {
		return nil
	}
	return []string{t.problem.Error()}
}

// update reads the file again. asked means that an operator wants an answer: without news, too.
func (t *Token) update(asked bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.problem
	var token admin.Token
	if token, t.problem = readToken(t.config); t.problem != nil {
		if asked || before == nil || before.Error() != t.problem.Error() {
			t.log.Warn("admin token not reloaded: culvert continues with the old one", "cause", t.problem.Error())
		}
		return
	}
	if before != nil {
		t.log.Info("solved: something was wrong with the file of the admin token", "problem", before.Error())
	}
	t.set(token)
}

// Start watches the file until ctx ends. Wait waits for the end.
func (t *Token) Start(ctx context.Context) {
	t.running.Go(func() { t.watch(ctx) })
}

// Wait waits for the end of Start's goroutine.
func (t *Token) Wait() { t.running.Wait() }

func (t *Token) watch(ctx context.Context) {
	w := NewWatch(QuietTime, LongestUnrest)
	defer w.Close()
	look := func() {
		err := t.setWatch(w) // before the reading, or it could miss a change
		t.unwatched.Tell(t.log, "can't watch the file with the admin token: send SIGHUP after a change", err)
		t.update(false)
	}
	lost := func(err error) {
		t.log.Debug("the kernel may have lost changes of the file with the admin token", "cause", err.Error())
	}
	Ask(t.other) // the file may have changed since the start
	w.Follow(ctx, lost, look, t.other, look)
}

// setWatch watches the file. It opens the watch with the first one: the kernel has only so
// many.
func (t *Token) setWatch(w *Watch) error {
	t.mu.Lock()
	var paths []string
	if path := t.config.Admin.Token; path != "" && t.config.Admin.Listen != "" {
		paths = []string{path}
	}
	t.mu.Unlock()
	if w.kernel == nil && paths != nil {
		if err := w.Open(); err != nil {
			return err
		}
	}
	return w.Set(paths)
}
