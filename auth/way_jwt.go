package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/auth/internal/jwt"
	"github.com/culvert-grpc/culvert/auth/internal/rules"
	"github.com/culvert-grpc/culvert/internal/tries"
)

// An issuer is one of Config.Issuers, whose tokens are a way of their own.
type issuer struct {
	name, iss string
	way       int
	audiences []string            // of routes that aren't in byRoute; nil with a nil byRoute: the Judge has checked it
	byRoute   map[string][]string // nil: the Judge has checked the audience
	keys      *part[*keySource]
}

// accepts reports whether a token of this issuer is for a route.
func (i *issuer) accepts(t *jwt.Token, route string) bool {
	if i.byRoute == nil {
		return true
	}
	audiences, is := i.byRoute[route]
	if !is {
		audiences = i.audiences
	}
	return slices.ContainsFunc(audiences, t.For)
}

// tokens are the ways of all issuers.
type tokens struct {
	verdicts *jwt.Judge
	issuers  []*issuer
	byIssuer map[string]*issuer // by iss
	failures *failures
	claims   []claim.Requirement // of rules: what verdicts say of tokens, by index
}

func (w *tokens) judge(ctx context.Context, p *presenter, c *credential, f *findings) (finding, bool) {
	if c.place > inSubprotocol || c.text == "" {
		return finding{}, false
	}
	if f.some { // a token of a later place: is its issuer another one?
		i := w.byIssuer[jwt.IssuerOf(c.text)]
		if i == nil {
			return finding{}, false
		}
		if f.has(i.way) {
			return finding{}, true
		}
	}
	token, err := w.verify(ctx, p, c.text)
	if err == nil {
		i := w.byIssuer[token.Issuer]
		return finding{Said: rules.Said{Finding: rules.Valid, Identity: token.Identity}, way: i.way, token: token, issuer: i}, true
	}
	refused, is := errors.AsType[*jwt.Error](err)
	if is && (refused.Kind == jwt.Opaque || refused.Kind == jwt.Foreign) {
		c.foreign, c.opaque = refusalOf(err), refused.Kind == jwt.Opaque
		return finding{}, false
	}
	i := w.byIssuer[jwt.IssuerOf(c.text)]
	if i == nil {
		i = w.issuers[0]
	}
	return refusedFinding(i.way, refusalOf(err)), true
}

// verify returns what the token says if it is good.
func (w *tokens) verify(ctx context.Context, p *presenter, text string) (*jwt.Token, error) {
	token, seen, err := w.verdicts.Seen(text)
	switch {
	case seen && err != nil:
		return nil, err
	case seen && token.BoundToCertificate():
		return token, token.PresentedWith(thumbprint(p))
	case seen:
		return token, nil
	}
	client := tries.Client(p.address().Addr())
	if w.failures.over(client, time.Now()) && w.byIssuer[jwt.IssuerOf(text)] != nil { // others cost no signature
		w.failures.unverified.Add(1)
		return nil, tooManyFailures
	}
	token, err = w.verdicts.Verify(ctx, text, thumbprint(p))
	if refused, is := errors.AsType[*jwt.Error](err); is && refused.Costly {
		w.failures.count(client, time.Now())
	}
	return token, err
}

// thumbprint returns that of the client's certificate. A token may be bound to one that no
// authority has signed (RFC 8705 §2.2): the handshake has proved that the client has its key.
func thumbprint(p *presenter) jwt.Thumbprint {
	if c := p.certificate(); c != nil {
		return jwt.ThumbprintOf(c)
	}
	return jwt.Thumbprint{}
}

// refusalOf returns the refusal of an error of verify.
func refusalOf(err error) *identity.Refusal {
	if refused, is := errors.AsType[*jwt.Error](err); is {
		return &refused.Refusal
	}
	return tooManyFailures
}

// newTokens opens the sources of issuers' keys, or takes over those of before, which may be nil.
// The claims are those that rules ask for.
func newTokens(cfg *Config, claims []claim.Requirement, before *Authenticator, log *keyLog) (w *tokens, wrong *Mistake) {
	w = &tokens{byIssuer: make(map[string]*issuer), failures: new(failures), claims: claims}
	if before != nil && before.tokens != nil {
		w.failures = before.tokens.failures
	}
	defer func() {
		if wrong != nil {
			w.release()
		}
	}()
	var all []jwt.Issuer
	for at := range cfg.Issuers {
		from := &cfg.Issuers[at]
		i := &issuer{name: from.Name, iss: from.Issuer}
		if len(from.RouteAudiences) > 0 {
			i.audiences, i.byRoute = from.Audiences, from.RouteAudiences
		}
		if i.keys, wrong = openKeys(from, at, before, log, cfg.Offline); wrong != nil {
			return w, wrong
		}
		w.issuers, w.byIssuer[i.iss] = append(w.issuers, i), i
		options, wrong := cfg.issuerOptions(at, i)
		if wrong != nil {
			return w, wrong
		}
		if _, err := jwt.NewJudge(jwt.Options{Issuers: []jwt.Issuer{options}}); err != nil {
			return w, mistake(issuerKey(at, ""), "%s", errors.Unwrap(err))
		}
		all = append(all, options)
	}
	if before != nil && before.tokens != nil && before.tokens.same(&before.config, cfg, w) {
		w.verdicts = before.tokens.verdicts
		return w, nil
	}
	judge, err := jwt.NewJudge(jwt.Options{Issuers: all, Claims: claims})
	if err != nil {
		return w, &Mistake{"issuers", err.Error()}
	}
	w.verdicts = judge
	return w, nil
}

func issuerKey(at int, key string) string {
	if key == "" {
		return fmt.Sprintf("issuers[%d]", at)
	}
	return fmt.Sprintf("issuers[%d].%s", at, key)
}

// release releases the keys.
func (w *tokens) release() {
	for _, i := range w.issuers {
		i.keys.release()
	}
}
