package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/parts/box"
)

// The names of a test's network.
const (
	edgeAddress = "edge.example.com:443"
	boxAddress  = "proxy.corp.example:3128"
)

// A world is a network in memory, in a bubble of time: nothing depends on the speed of the
// machine.
type world struct {
	t         *testing.T
	authority *parts.Authority // of the edge
	parts.Places
	doctor bool // serve --doctor
	change func(*bridge.Config)
	tls    func(*tls.Config) // of the edge
}

func newWorld(t *testing.T) *world {
	return &world{t: t, authority: parts.NewAuthority(t), Places: parts.Places{}}
}

// startEdge starts a culvert at the edge's address.
func (w *world) startEdge() {
	cfg := bridge.Config{Backend: bridge.Backend{Target: "127.0.0.1:1"}, Doctor: w.doctor}
	if w.change != nil {
		w.change(&cfg)
	}
	b, err := bridge.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.serve(b)
}

// serve serves a culvert at the edge's address.
func (w *world) serve(b *bridge.Server) {
	config := &tls.Config{Certificates: []tls.Certificate{w.authority.Server(w.t, "edge.example.com")}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	if w.tls != nil {
		w.tls(config)
	}
	ln := w.Listen(w.t, edgeAddress)
	var serving sync.WaitGroup
	serving.Go(func() { _ = b.ServeListener(ln, bridge.Listener{TLS: config}) }) // it always returns the error of a closed server
	w.t.Cleanup(func() {
		_ = b.Close()
		_ = ln.Close() // it may be closed
		serving.Wait()
	})
}

// startBox starts a box as the proxy, and returns the options of a doctor that uses it.
func (w *world) startBox(o box.Options) Options {
	o.Listener, o.Dial, o.Roots = w.Listen(w.t, boxAddress), w.Dial, w.authority.Pool
	b := box.Start(w.t, o)
	roots := b.CA
	if o.Tunnel {
		roots = w.authority.Pool
	}
	proxy := "http://" + boxAddress
	if o.User != "" {
		proxy = "http://" + o.User + ":" + o.Password + "@" + boxAddress
	}
	return Options{Proxy: proxy, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, dialer: w.Dial}
}

// direct returns the options of a doctor without a proxy.
func (w *world) direct() Options {
	return Options{Proxy: "none", TLS: &tls.Config{RootCAs: w.authority.Pool, MinVersion: tls.VersionTLS12}, dialer: w.Dial, lookup: func(context.Context, string) ([]string, error) { return []string{"192.0.2.7"}, nil }}
}

// run runs a doctor, and checks that it kept its time.
func (w *world) run(o Options) *Report {
	w.t.Helper()
	began := time.Now()
	r, err := Run(w.t.Context(), "https://edge.example.com", o)
	if err != nil {
		w.t.Fatal(err)
	}
	if took := time.Since(began); took > 30*time.Second+o.Idle {
		w.t.Errorf("it took %v, want at most 30 s", took)
	}
	return r
}

// ids returns the verdicts of a report.
func ids(r *Report) []string {
	var all []string
	for _, v := range r.Verdicts {
		all = append(all, v.ID)
	}
	return all
}

// wantVerdicts compares the verdicts of a report, beside which others aren't allowed.
func wantVerdicts(t *testing.T, r *Report, bidi Possible, want ...string) {
	t.Helper()
	got := ids(r)
	if r.Bidirectional != bidi || !slices.Equal(got, want) {
		t.Errorf("bidirectional streams: %s, verdicts %q\nwant %s, %q\n%s", r.Bidirectional, got, bidi, want, describe(r))
	}
}

func describe(r *Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%-26s %-10s %s %s (%v)\n", f.Probe, f.Result, f.Cause, f.Evidence, f.Took)
	}
	return b.String()
}

// inBubble runs a test in a bubble of time.
func inBubble(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newWorld(t)) })
}

// sorted returns the keys of a table.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
