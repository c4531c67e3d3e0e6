package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/auth/internal/cache"
	"github.com/culvert-grpc/culvert/auth/internal/check"
	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/auth/internal/rules"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/tries"
)

// An external is a service that judges calls, as a way.
type external struct {
	*part[*check.Checker]
	way     int
	inAllOf bool
	own     []string // metadata that only the service sets
	opened  rate.Sometimes
	log     *slog.Logger

	failures *failures
	known    *cache.Cache[struct{}] // credentials that the service has permitted lately
}

// Bounds of what is known. An entry takes less than 200 bytes.
const (
	knownFor     = 10 * time.Minute
	knownEntries = 16 << 10
)

// reserved reports whether no issuer and no service may set metadata of the name on its way to
// the backend.
func reserved(name string) bool { return bridge.ReservedRequest(name) }

// newExternal makes the checker, or takes over that of before if its settings are the same.
func newExternal(of *Config, before *Authenticator, failures *failures) (*external, *Mistake) {
	cfg, log := of.External, of.Logger
	e := &external{
		log: log, opened: rate.Sometimes{First: 1, Interval: openLogEvery}, own: slices.Concat(cfg.Own, cfg.AnswerNames),
		failures: failures, known: &cache.Cache[struct{}]{MaxEntries: knownEntries, MaxBytes: knownEntries},
	}
	for i := range e.own {
		e.own[i] = strings.ToLower(e.own[i])
	}
	if (cfg.Target == "") == (cfg.URL == "") {
		return nil, mistake("external", "needs an address or a url, and not both")
	}
	if before != nil && before.external != nil && cfg.TLS == before.config.External.TLS && reflect.DeepEqual(cfg, before.config.External) && slices.Equal(of.keyNames(), before.config.keyNames()) && before.external.take() {
		e.part, e.known = before.external.part, before.external.known
		return e, nil
	}
	options := check.Options{
		Timeout: cfg.Timeout, FailOpen: cfg.FailOpen, Concurrent: cfg.Concurrent, Bytes: cfg.Bytes, Names: cfg.Names, Own: cfg.Own, Secrets: of.keyNames(),
		Reserved: reserved, ReservedDown: bridge.ReservedResponse, Cache: check.Cache{TTL: cfg.CacheTTL, Entries: cfg.CacheEntries},
	}
	var checker *check.Checker
	var err error
	if cfg.Target != "" {
		checker, err = check.NewGRPC(check.GRPC{Target: cfg.Target, TLS: cfg.TLS}, options)
	} else {
		checker, err = check.NewHTTP(check.HTTP{URL: cfg.URL, TLS: cfg.TLS, Get: cfg.Get, AnswerNames: cfg.AnswerNames}, options)
	}
	if err != nil {
		return nil, mistake("external", "can't be asked: %v", err)
	}
	e.part = newPart(checker, func() { _ = checker.Close() }) // of a connection that nobody uses
	return e, nil
}

// asked is what a service says of a call.
type asked struct {
	said    rules.Said
	answer  check.Answer
	refusal *check.Refusal // nil: it permits the call
}

// ask asks the service. An error is a fault, or the end of ctx.
//
// A question costs the service more than a call costs culvert. So refusals count against the
// address of a caller whom nobody knows: no other way has identified it, and the service has
// permitted nothing with its credential lately.
func (e *external) ask(ctx context.Context, r *bridge.AuthRequest, ofCall, identified bool) (asked, error) {
	q := e.request(r)
	key, has := e.value.Credentials(&q)
	_, known := e.known.Get(key, q.Start)
	known = known || identified
	client := tries.Client(q.Peer.Addr())
	if !known && e.failures.over(client) {
		return asked{}, faultOf(tooManyFailures, report.KeyAuthExternal)
	}
	answer, err := e.value.Check(ctx, q)
	if refusal, is := errors.AsType[*check.Refusal](err); is {
		if !known && refusal.Kind != check.Unavailable && !answer.Cached {
			e.failures.count(client)
		}
		return asked{refusal: refusal}, nil
	}
	if err != nil {
		return asked{}, err
	}
	switch {
	case answer.Open == nil && has && !answer.Cached: // a cache's answers don't last as long as this
		e.known.Put(key, struct{}{}, 1, q.Start.Add(knownFor), q.Start)
	case answer.Open != nil:
		e.opened.Do(func() {
			e.log.Warn("calls pass that the authorization service didn't judge, as fail_open says", slog.Any("error", answer.Open))
		})
	}
	id := &identity.Identity{Subject: answer.Subject, Kind: identity.External}
	return asked{said: rules.Said{Finding: rules.Valid, Identity: id, OfCall: ofCall}, answer: answer}, nil
}

// request describes a call to the service. Credentials that aren't metadata of the call are in
// it as if they were.
func (e *external) request(r *bridge.AuthRequest) check.Request {
	p := &r.Peer
	q := check.Request{
		ID: r.ID, Method: r.Method, Authority: r.Authority, Scheme: r.Scheme, Route: r.Route, Start: time.Now(),
		Metadata: e.metadata(r), Peer: addressOf(p.Addr),
	}
	if r.Local != nil {
		q.Local = addressOf(r.Local.String())
	}
	if p.TLS != nil {
		q.SNI = p.TLS.ServerName
	}
	if p.Client != nil {
		q.Principals = principals(p)
		if c := certificateOf(p); c != nil {
			q.CertificateHash = sha256.Sum256(c.Raw)
		}
	}
	return q
}

// principals returns the names in the client's certificate, without those that look like a URI
// and aren't its SPIFFE ID: the service couldn't tell them from one.
func principals(p *bridge.Peer) (names []string) {
	if p.Client.SPIFFE != "" {
		names = append(names, p.Client.SPIFFE)
	}
	for _, name := range append(slices.Clip(p.Client.DNS), p.Client.CommonName) {
		if name != "" && !looksLikeURI(name) {
			names = append(names, name)
		}
	}
	return names
}

func (e *external) metadata(r *bridge.AuthRequest) metadata.MD {
	md, copied := r.Metadata, false
	set := func(name string, values []string) {
		if len(values) == 0 || len(md[name]) > 0 {
			return
		}
		if !copied {
			md, copied = maps.Clone(md), true
		}
		if md == nil {
			md = make(metadata.MD)
		}
		md[name] = values
	}
	set("cookie", r.Own.Cookie)
	if r.Conn == nil {
		return md
	}
	if c, is := r.Conn.Value.(*connection); is {
		set("authorization", c.request.Credentials.Authorization)
		set("cookie", c.request.Credentials.Cookie)
		if token := c.request.Credentials.Bearer; token != "" {
			set("authorization", []string{"Bearer " + token})
		}
	}
	return md
}
