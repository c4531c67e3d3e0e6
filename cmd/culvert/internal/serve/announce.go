package serve

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/config"
)

// How long the backend may take to list its services before culvert logs a
// warning, how long in later attempts, and the pause between them.
const (
	firstAnswer = 2 * time.Second
	nextAnswer  = 30 * time.Second
	pause       = time.Second
)

// An announcer logs the backends, and the services of each that clients can call.
type announcer struct {
	services func(ctx context.Context, backend string) (open, unnamed []string, err error)
	log      *slog.Logger
	wanted   chan *config.Loaded // compact; room for one: the newest
}

func newAnnouncer(c *config.Loaded, services func(context.Context, string) (open, unnamed []string, err error), log *slog.Logger) *announcer {
	a := &announcer{services: services, log: log, wanted: make(chan *config.Loaded, 1)}
	a.wanted <- c.Compact()
	return a
}

// change is the part of a reload that logs new and changed backends.
func (a *announcer) change(_, next *config.Loaded) (commit, undo func(), err error) {
	return func() {
		select {
		case <-a.wanted: // run hasn't taken it yet
		default:
		}
		a.wanted <- next.Compact()
	}, nil, nil
}

// An announced backend has a goroutine that waits for its services.
type announced struct {
	config.Backend
	cancel context.CancelFunc
}

// run is the announcer's goroutine. It waits for those that it starts.
func (a *announcer) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	known := map[string]announced{}
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-a.wanted:
			now := map[string]announced{}
			for _, b := range c.BackendSections() {
				if before, ok := known[b.Name]; ok && reflect.DeepEqual(before.Backend, *b.Backend) {
					now[b.Name] = before
					delete(known, b.Name)
					continue
				}
				own, stop := context.WithCancel(ctx)
				now[b.Name] = announced{*b.Backend, stop}
				log, address := a.log, "backend"
				if len(c.Backends) > 0 {
					log, address = log.With("backend", b.Name), "address"
					log.Info("backend", "address", b.Address, "tls", b.TLS.Enabled)
				}
				running.Go(func() { a.announce(own, b, log, address) })
			}
			for _, before := range known {
				before.cancel()
			}
			known = now
		}
	}
}

// announce logs the services that clients can call, as soon as the backend lists
// them. address is the name of the attribute for the backend's address.
func (a *announcer) announce(ctx context.Context, b config.BackendSection, log *slog.Logger, address string) {
	for patience := firstAnswer; ; patience = nextAnswer {
		services, unnamed, err := a.list(ctx, b.Name, patience)
		var fault *report.Fault
		switch code := status.Code(err); {
		case ctx.Err() != nil || code == codes.Canceled: // serve ends, or the bridge has let the backend go
			return
		case err == nil:
			log.Info("services that clients can call", "services", strings.Join(services, " "), "count", len(services))
			if len(unnamed) > 0 {
				log.Warn("services that clients can't call: no pattern in methods.allow matches", "services", strings.Join(unnamed, " "), "count", len(unnamed),
					"key", "methods.allow", "hint", "add a pattern for them (--allow-method), or add them to methods.deny to end this warning")
			}
			return
		case errors.Is(err, bridge.ErrNoReflection):
			log.Info("the backend has no reflection: clients can call its services, but culvert can't list them")
			return
		case errors.As(err, &fault): // a reload has removed the backend and is about to say so
		case code != codes.DeadlineExceeded && code != codes.Unavailable:
			log.Warn("the backend doesn't list its services: clients can call them", "cause", err.Error())
			return
		case patience == firstAnswer:
			log.Warn("the backend doesn't answer yet: calls end UNAVAILABLE until it does", address, b.Address, "cause", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (a *announcer) list(ctx context.Context, backend string, patience time.Duration) (open, unnamed []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return a.services(ctx, backend)
}
