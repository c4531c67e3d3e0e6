package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/auth/internal/ratelimit"
	"github.com/culvert-grpc/culvert/bridge"
)

// A limiter is a service that counts calls.
type limiter struct {
	*part[*ratelimit.Limiter]
	opened rate.Sometimes
	log    *slog.Logger
}

// newLimiter makes the limiter, or takes over that of before if its settings are the same.
func newLimiter(of *Config, before *Authenticator) (*limiter, *Mistake) {
	cfg, log := of.RateLimit, of.Logger
	for d, entries := range cfg.Descriptors {
		for e, entry := range entries {
			if name, is := strings.CutPrefix(entry.From, "metadata:"); is && slices.Contains(of.keyNames(), name) {
				return nil, mistake(fmt.Sprintf("rate_limit.descriptors[%d][%d]", d, e), "is from the metadata %q, which has API keys, and the service must not get them: write from: subject", name)
			}
		}
	}
	l := &limiter{log: log, opened: rate.Sometimes{First: 1, Interval: openLogEvery}}
	if before != nil && before.limiter != nil && cfg.TLS == before.config.RateLimit.TLS && reflect.DeepEqual(cfg, before.config.RateLimit) && before.limiter.take() {
		l.part = before.limiter.part
		return l, nil
	}
	options := ratelimit.Options{
		Target: cfg.Target, TLS: cfg.TLS, Domain: cfg.Domain, Timeout: cfg.Timeout, FailClosed: cfg.FailClosed, ReservedDown: bridge.ReservedResponse,
	}
	for d, entries := range cfg.Descriptors {
		var descriptor ratelimit.Descriptor
		for e, entry := range entries {
			to, why := entry.compile()
			if why != nil {
				return nil, mistake(fmt.Sprintf("rate_limit.descriptors[%d][%d]", d, e), "%v", why)
			}
			descriptor = append(descriptor, to)
		}
		options.Descriptors = append(options.Descriptors, descriptor)
	}
	asks, err := ratelimit.New(options)
	if err != nil {
		return nil, mistake("rate_limit", "can't be asked: %v", err)
	}
	l.part = newPart(asks, func() { _ = asks.Close() }) // of a connection that nobody uses
	return l, nil
}

// sourcesOfValues are the words of DescriptorEntry.From.
var sourcesOfValues = map[string]ratelimit.Source{
	"identity": ratelimit.FromIdentity, "subject": ratelimit.FromSubject, "issuer": ratelimit.FromIssuer, "kind": ratelimit.FromKind,
	"method": ratelimit.FromMethod, "service": ratelimit.FromService, "route": ratelimit.FromRoute, "peer": ratelimit.FromPeer,
}

func (e DescriptorEntry) compile() (ratelimit.Entry, error) {
	to := ratelimit.Entry{Key: e.Key, Source: ratelimit.Literal, Text: e.Value}
	name, ofMetadata := strings.CutPrefix(e.From, "metadata:")
	source, known := sourcesOfValues[e.From]
	switch {
	case (e.From == "") == (e.Value == ""):
		return to, errors.New("needs a value or from, and not both")
	case e.From == "":
		return to, nil
	case ofMetadata && name != "":
		to.Source, to.Text = ratelimit.FromMetadata, name
	case known:
		to.Source, to.Text = source, ""
	default:
		return to, fmt.Errorf("has the from %q: write identity, subject, issuer, kind, method, service, route, peer, or metadata: and a name", e.From)
	}
	return to, nil
}

// check counts a call. The error is the fault of one over the limit, or the end of ctx.
func (l *limiter) check(ctx context.Context, r *bridge.AuthRequest, id *identity.Identity) (ratelimit.Answer, error) {
	facts := ratelimit.Facts{Method: r.Method, Route: r.Route, Peer: addressOf(r.Peer.Addr).Addr(), Metadata: r.Metadata}
	if id != nil {
		facts.Kind, facts.Issuer, facts.Subject = string(id.Kind), id.Issuer, id.Subject
	}
	answer, err := l.value.Check(ctx, facts)
	if refusal, is := errors.AsType[*ratelimit.Refusal](err); is {
		return answer, overRate(refusal)
	}
	if answer.Open != nil {
		l.opened.Do(func() {
			l.log.Warn("calls pass that the rate limit service didn't count", slog.Any("error", answer.Open))
		})
	}
	return answer, err
}

const openLogEvery = time.Minute
