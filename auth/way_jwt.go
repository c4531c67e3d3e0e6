package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/cache"
	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/jwt"
	"github.com/culvert-grpc/culvert/auth/internal/rules"
	"github.com/culvert-grpc/culvert/bridge"
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

	// others are tokens that were read and are for a service. Nil without one.
	others *cache.Cache[struct{}]
}

func (w *tokens) judge(ctx context.Context, p *bridge.Peer, c *credential, f *findings) (finding, bool) {
	switch {
	case c.place > inSubprotocol, c.text == "":
		return finding{}, false
	case c.ofCall && f.refused(): // whatever this one is
		return finding{}, true
	}
	token, seen, err := w.verdicts.Seen(c.text)
	var client netip.Prefix
	if !seen {
		client = tries.Client(addressOf(p.Addr).Addr())
		if jwt.Looks(c.text) && w.failures.over(client) {
			if w.isOther(c.text) {
				return finding{}, false // the service knows whether it was good
			}
			w.failures.unverified.Add(1)
			return refusedFinding(w.issuers[0].way, tooManyFailures), true
		}
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
	switch {
	case !seen:
		token, err = w.verdicts.Verify(ctx, c.text, thumbprint(p))
	case err == nil && token.BoundToCertificate():
		err = token.PresentedWith(thumbprint(p))
	}
	if err == nil {
		i := w.byIssuer[token.Issuer]
		return finding{Said: rules.Said{Finding: rules.Valid, Identity: token.Identity}, way: i.way, token: token, issuer: i}, true
	}
	refused, _ := errors.AsType[*jwt.Error](err) // there is no other
	foreign := refused.Kind == jwt.Foreign
	if !seen && refused.Costly && !(foreign && w.others != nil) {
		w.failures.count(client)
	}
	if foreign && w.others != nil {
		now := time.Now()
		w.others.Put(sha256.Sum256([]byte(c.text)), struct{}{}, 1, now.Add(knownFor), now)
	}
	if foreign || refused.Kind == jwt.Opaque {
		c.foreign, c.opaque = &refused.Refusal, !foreign
		return finding{}, false
	}
	i := w.byIssuer[refused.Issuer]
	if i == nil {
		i = w.issuers[0]
	}
	return refusedFinding(i.way, &refused.Refusal), true
}

// isOther reports whether the token is known to be none of these issuers', so that it needn't be
// read to leave it to the service.
func (w *tokens) isOther(token string) bool {
	if w.others == nil {
		return false
	}
	_, is := w.others.Get(sha256.Sum256([]byte(token)), time.Now())
	return is
}

// thumbprint returns that of the client's certificate. A token may be bound to one that no
// authority has signed (RFC 8705 §2.2): the handshake has proved that the client has its key.
func thumbprint(p *bridge.Peer) jwt.Thumbprint {
	if c := certificateOf(p); c != nil {
		return jwt.ThumbprintOf(c)
	}
	return jwt.Thumbprint{}
}

// newTokens opens the sources of issuers' keys, or takes over those of before, which may be nil.
// The claims are those that rules ask for.
func newTokens(cfg *Config, claims []claim.Requirement, before *Authenticator) (w *tokens, wrong *Mistake) {
	w = &tokens{byIssuer: make(map[string]*issuer), claims: claims}
	if cfg.External != nil {
		w.others = &cache.Cache[struct{}]{MaxEntries: knownEntries, MaxBytes: knownEntries}
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
		if i.keys, wrong = openKeys(from, at, before, cfg.Logger, cfg.Offline); wrong != nil {
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
		if w.others != nil && before.tokens.others != nil {
			w.others = before.tokens.others
		}
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

func (w *tokens) release() {
	for _, i := range w.issuers {
		i.keys.release()
	}
}
