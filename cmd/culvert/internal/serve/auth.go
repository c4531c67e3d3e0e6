package serve

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/culvert-grpc/culvert/auth"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/files"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

// A gatekeeper has the Authenticator of the configuration that runs. A reload replaces it, and
// the bridge closes the old one. Its Follower has the Authenticator read its files again when
// they change.
type gatekeeper struct {
	*files.Follower
	log    *slog.Logger
	secure func(*auth.Config) // sets the TLS of the services that are asked

	mu       sync.Mutex
	current  *auth.Authenticator // nil: nobody is asked
	settings *auth.Config        // of current
	config   *config.Loaded      // that runs
	problem  error               // why the newest version of a file isn't in use; nil: it is
}

// openGatekeeper makes the Authenticator of a configuration, if that has one.
func openGatekeeper(c *config.Loaded, log *slog.Logger, secure func(*auth.Config)) (*gatekeeper, error) {
	g := &gatekeeper{log: log, secure: secure, config: c.Compact()}
	g.Follower = files.NewFollower(log, "can't watch the files of auth: send SIGHUP after a change", "the kernel may have lost changes of the files of auth", g.files, g.update)
	commit, _, err := g.change(nil, c)
	if err != nil {
		return nil, err
	}
	commit()
	return g, nil
}

// change is the part of a reload that makes the Authenticator of next. The bridge gets it at
// once, so undo follows if it doesn't take it. What judges nothing else stays as it is.
func (g *gatekeeper) change(_, next *config.Loaded) (commit, undo func(), err error) {
	settings := wiring.Auth(next)
	if settings != nil {
		settings.Logger = g.log
		g.secure(settings)
	}
	g.mu.Lock()
	before, had := g.current, g.settings
	g.mu.Unlock()
	after := before
	if !reflect.DeepEqual(settings, had) {
		after = nil
		if settings != nil {
			if after, err = auth.New(*settings, before); err != nil {
				return nil, nil, wiring.AuthPlaced(err, next)
			}
		}
	}
	g.use(after, settings)
	commit = func() {
		if after != before {
			g.tell(&next.Auth)
		}
		g.mu.Lock()
		g.config = next.Compact()
		g.mu.Unlock()
		g.Ask()
	}
	undo = func() {
		g.use(before, had)
		if after != before && after != nil {
			_ = after.Close() // nobody has asked it
		}
	}
	return commit, undo, nil
}

func (g *gatekeeper) use(a *auth.Authenticator, settings *auth.Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a != g.current {
		g.problem = nil
	}
	g.current, g.settings = a, settings
}

// tell logs what culvert judges calls by.
func (g *gatekeeper) tell(a *config.Auth) {
	if !a.Enabled() {
		g.log.Info("calls aren't authenticated any more")
		return
	}
	g.log.Info("calls are authenticated", "ways", strings.Join(a.Ways(), " "), "rules", len(a.Rules), "enforce", a.Enforce)
}

// into has the bridge ask the Authenticator.
func (g *gatekeeper) into(cfg *bridge.Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.current != nil {
		cfg.Authenticator = g.current
		cfg.VouchedHeaders = slices.Concat(cfg.VouchedHeaders, g.current.Vouched())
		cfg.CredentialHeaders = g.current.CredentialHeaders()
	}
}

func (g *gatekeeper) now() *auth.Authenticator {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current
}

// reload reads the files again, for an operator who asks for it. It reports whether there are
// any.
func (g *gatekeeper) reload() (anything bool) {
	if len(g.files()) == 0 {
		return false
	}
	g.update(true)
	return true
}

// update reads the files again. asked means that they have changed or that an operator asks for
// it, so somebody wants an answer.
func (g *gatekeeper) update(asked bool) {
	a := g.now()
	if a == nil {
		return
	}
	err := a.Reload()
	g.mu.Lock()
	defer g.mu.Unlock()
	if a != g.current { // a reload of the configuration has read the files
		return
	}
	err = wiring.AuthPlaced(err, g.config)
	before := g.problem
	switch g.problem = err; {
	case err != nil && (asked || before == nil || before.Error() != err.Error()):
		g.log.Warn("keys of auth not read again: culvert continues with the old ones", "cause", err.Error())
	case err == nil && before != nil:
		g.log.Info("solved: something was wrong with a file of auth", "problem", before.Error())
	case err == nil && asked:
		g.log.Info("keys of auth read again", "files", strings.Join(a.Files(), " "))
	}
}

// problems returns a line for each problem that doesn't keep culvert from serving, without the
// cause: other hosts may read it.
func (g *gatekeeper) problems() (all []string) {
	a := g.now()
	if a == nil {
		return nil
	}
	state := a.State()
	for i, s := range state.Issuers {
		if s.Problem != "" {
			all = append(all, fmt.Sprintf("%s: culvert can't get the newest keys of the issuer %s: the log says why", config.Entry("auth.issuers", i), s.Name))
		}
	}
	if state.APIKeys != nil && state.APIKeys.Problem != "" {
		all = append(all, "auth.api_keys.file: the newest version isn't in use: the log says why")
	}
	return all
}

func (g *gatekeeper) files() []string {
	if a := g.now(); a != nil {
		return a.Files()
	}
	return nil
}

// close ends what the Authenticator has running. Nobody asks it any more.
func (g *gatekeeper) close() {
	if a := g.now(); a != nil {
		_ = a.Close() // it has nothing to lose
	}
}
