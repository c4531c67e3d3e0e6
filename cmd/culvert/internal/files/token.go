package files

import (
	"log/slog"
	"sync"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/config"
)

const tokenKey = "admin.token"

// A Token is the file in admin.token, which its Follower reads again when it changes. If the
// newest version is wrong, the one before stays in use.
type Token struct {
	*Follower
	use func(admin.Token)

	mu      sync.Mutex     // held while the file is read and used
	config  *config.Loaded // that runs
	current admin.Token
	problem error // why the newest version isn't in use; nil: it is
}

// OpenToken reads the file of a configuration, if it names one. It calls use with the token,
// and again when the token changes.
func OpenToken(c *config.Loaded, log *slog.Logger, use func(admin.Token)) (*Token, error) {
	t := &Token{use: use, config: c.Compact()}
	t.Follower = NewFollower(log, "can't watch the file with the admin token: send SIGHUP after a change", "the kernel may have lost changes of the file with the admin token",
		t.files, func(bool) { t.update(false) })
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
	text, err := readRegular(path, maxTokenFile, "it isn't a regular file, so culvert can't read it again")
	if err != nil {
		return admin.Token{}, c.Errorf(tokenKey, "the file can't be read: %w: write one with openssl rand -hex 32, which culvert's user can read", err)
	}
	token, err := admin.NewToken(string(text))
	if err != nil {
		return token, c.Errorf(tokenKey, "the file %w", err)
	}
	return token, nil
}

// maxTokenFile is more than a token can have.
const maxTokenFile = 4 << 10 // bytes

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
		t.Ask()
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

// files returns the path, if the configuration that runs names a file.
func (t *Token) files() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.config.Admin; a.Token != "" && a.Listen != "" {
		return []string{a.Token}
	}
	return nil
}
