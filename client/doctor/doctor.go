package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/culvert-grpc/culvert/client/internal/cors"
	"github.com/culvert-grpc/culvert/client/internal/header"
	"github.com/culvert-grpc/culvert/client/internal/network"
	"github.com/culvert-grpc/culvert/internal/pathservice"
)

// Options are how to examine the way to an edge.
type Options struct {
	Proxy     string        // the proxy's URL; "": the environment's; "none": none
	ConnectTo string        // the host and port to connect to in place of the edge's; "": the edge's
	TLS       *tls.Config   // nil: the system's CAs. If it verifies nothing, none of Headers is sent
	Headers   []string      // of calls: "name: value", which may be a credential
	Origin    string        // of the page that would call: "https://app.example.com"; "": none
	Idle      time.Duration // how long to leave connections alone; 0: not at all

	// Progress is told of each finding as it comes, from several goroutines. It may be nil.
	Progress func(Finding)

	dialer func(ctx context.Context, network, address string) (net.Conn, error) // for tests
	lookup func(ctx context.Context, host string) ([]string, error)             // for tests
}

// The limits of a run without Options.Idle. The last two together are less than 30 s.
const (
	patience       = 4 * time.Second // a probe's, for one answer
	callLimit      = 2*patience + time.Second
	connectLimit   = 8 * time.Second  // each: a name; TCP and the proxy's answer
	handshakeLimit = 5 * time.Second  // TLS
	reachLimit     = 15 * time.Second // all these
	waysLimit      = 14 * time.Second // all ways, which are examined at once
)

// A Report is what a run has found.
type Report struct {
	URL      string    `json:"url"`
	Proxy    string    `json:"proxy,omitempty"` // host and port
	Time     time.Time `json:"time"`
	Findings []Finding `json:"findings"`
	Judgement
	Notes []string `json:"notes,omitempty"` // what the run left out, and why
}

// Run examines the way to an edge: "https://edge.example.com". An error says that the options
// are wrong: a broken network is a finding.
func Run(ctx context.Context, address string, o Options) (*Report, error) {
	x, err := newExamination(address, o)
	if err != nil {
		return nil, err
	}
	x.run(ctx)
	return &Report{URL: x.target.String(), Proxy: x.net.Via(x.target), Time: time.Now().UTC().Truncate(time.Second), Findings: x.found.list(), Judgement: judgementOf(x.found, x.circumstances()), Notes: x.notes}, nil
}

// An examination is a run.
type examination struct {
	o      Options
	target network.Target
	page   *cors.Page  // of Options.Origin; nil: none
	header http.Header // of calls
	net    network.Network
	notes  []string
	calls  pace
	turns  *semaphore.Weighted // of the probes that open connections

	mu      sync.Mutex
	found   findings
	service *serviceFacts // nil: unknown
	named   string        // the product that decrypts TLS and that an answer names; "": none

	// Set before the ways are examined.
	state *tls.ConnectionState // nil: plaintext, or no handshake
	h2    bool                 // ALPN has chosen h2, or the target is plaintext
}

func newExamination(address string, o Options) (*examination, error) {
	target, err := network.ParseTarget(address)
	if err != nil {
		return nil, err
	}
	x := &examination{o: o, target: target, found: findings{}, turns: semaphore.NewWeighted(probesAtOnce)}
	if x.o.lookup == nil {
		x.o.lookup = net.DefaultResolver.LookupHost
	}
	fields, err := header.Parse(o.Headers)
	if err != nil {
		return nil, fmt.Errorf("-H: %w", err)
	}
	x.header = make(http.Header, len(fields))
	for name, values := range fields {
		x.header[http.CanonicalHeaderKey(name)] = values
	}
	x.net = network.Network{ConnectTo: o.ConnectTo, TLS: cmp.Or(o.TLS, &tls.Config{MinVersion: tls.VersionTLS12}), Dialer: o.dialer}
	if err := x.net.CheckConnectTo(); err != nil {
		return nil, err
	}
	if x.net.Proxy, err = network.Through(o.Proxy); err != nil {
		return nil, err
	}
	if _, err := x.net.ProxyFor(target); err != nil {
		return nil, err
	}
	if x.net.Secrets = len(x.header) > 0; x.net.Secrets && x.net.MayCarrySecrets(target) != nil {
		x.notes = append(x.notes, "The headers of -H weren't sent, because nothing verifies who would get them: "+withheld(target))
		x.header, x.net.Secrets = nil, false
	}
	switch o.Origin {
	case "":
		return x, nil
	case "null":
		return nil, errors.New("--origin: null has no page to look at: write it as https://app.example.com")
	}
	if x.page, err = cors.New(o.Origin, target, x.header.Get("Cookie") != ""); err != nil {
		return nil, err
	}
	return x, nil
}

func withheld(t network.Target) string {
	if !t.Secure {
		return "the connection is plaintext."
	}
	return "--insecure accepts any certificate."
}

// note takes a finding. All ways ask the service's half: the first answer that works counts, or
// else the first one.
func (x *examination) note(f Finding) {
	x.mu.Lock()
	earlier, again := x.found[f.Probe]
	if again = again && f.Probe == probeService && (f.Result != works || earlier.Result == works); !again {
		x.found[f.Probe] = f
	}
	x.mu.Unlock()
	if x.o.Progress != nil && !again {
		x.o.Progress(f)
	}
}

// probe makes a probe, and notes what it finds.
func (x *examination) probe(ctx context.Context, p Probe, limit time.Duration, ask func(context.Context) Finding) Finding {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	f := ask(ctx).of(p)
	f.Took = time.Since(began)
	x.note(f)
	return f
}

// try makes a probe that opens a connection. If it can't, it tries once more when the others have
// ended: somebody may limit connections.
func (x *examination) try(ctx context.Context, p Probe, limit time.Duration, ask func(context.Context) Finding) Finding {
	return x.probe(ctx, p, limit, func(ctx context.Context) Finding {
		if err := x.turns.Acquire(ctx, 1); err != nil {
			return found(unknown, "other probes took too long").because(causeNoConnection)
		}
		f := ask(ctx)
		x.turns.Release(1)
		if f.Cause == causeNoConnection && x.turns.Acquire(ctx, probesAtOnce) == nil {
			if again := ask(ctx); ctx.Err() == nil {
				f = again
			}
			x.turns.Release(probesAtOnce)
		}
		return f
	})
}

// probesAtOnce is more than there are.
const probesAtOnce = 100

func (x *examination) earlier(p Probe) Finding {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.found[p]
}

func (x *examination) run(ctx context.Context) {
	var beside sync.WaitGroup
	if x.page != nil {
		beside.Go(func() { x.probe(ctx, probePage, connectLimit+handshakeLimit, x.fetchPage) })
	}
	defer beside.Wait()
	if !x.connect(ctx) {
		return
	}
	x.ways(ctx)
	if x.o.Idle > 0 {
		x.idle(ctx)
	}
}

// ways examines all ways at once.
func (x *examination) ways(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, waysLimit)
	defer cancel()
	var ways sync.WaitGroup
	ways.Go(func() { x.native(ctx) })
	ways.Go(func() { x.socket(ctx) })
	x.web(ctx, &ways)
	if x.page != nil {
		ways.Go(func() { x.try(ctx, probePreflight, callLimit, x.preflight) })
	}
	ways.Wait()
	x.judgeDecryption()
}

// A pace spreads calls, so that some of pathservice.CallsPerSecond are left for others.
type pace struct {
	mu   sync.Mutex
	next time.Time
}

const between = time.Second / (pathservice.CallsPerSecond * 4 / 5)

// wait waits for the turn of a call.
func (p *pace) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	pause := max(0, p.next.Sub(now))
	p.next = now.Add(pause + between)
	p.mu.Unlock()
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
