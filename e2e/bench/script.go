package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A scriptLoad is a load of clients in JavaScript, which e2e/node/speed.js runs.
type scriptLoad struct {
	name    string
	place   string // "chromium" or "node"
	load    string
	figure  string // the key in the script's output
	unit    string
	clients []string // culvert's own, and those that it is compared with
	bound   float64  // the largest multiple of the best other figure over WebSockets that culvert's may be; 0: no bound
	exactly float64  // the figure that culvert's must be; 0: no bound
}

const (
	culvertWeb = "@culvert/web"
	improbable = "improbable"
	niceWeb    = "nice-grpc-web"
	connectWeb = "connect-web"
)

// scriptClients are the columns of the table.
var scriptClients = []string{culvertWeb, improbable, niceWeb, connectWeb}

var (
	socketClients = []string{culvertWeb, improbable, niceWeb} // connect-web has no two-way calls
	nodeClients   = []string{culvertWeb, improbable}
)

// scriptLoads are the loads, with the bounds that @culvert/web is held to.
var scriptLoads = []scriptLoad{
	{"in a page: bidirectional, 256 messages in flight, 1 KiB", "chromium", "two-way", "micros", "µs", socketClients, 0.85, 0},
	{"in a page: ping-pong, 1 KiB", "chromium", "ping-pong", "micros", "µs", socketClients, 1.3, 0},
	{"in a page: unary, 8 at once, 1 KiB", "chromium", "unary", "micros", "µs", scriptClients, 0.35, 0},
	{"in a page: server stream, 1 KiB", "chromium", "server stream", "micros", "µs", scriptClients, 0.3, 0},
	{"in a page: of 500 bidirectional streams, open at once", "chromium", "streams", "streams", "", socketClients, 0, 500},
	{"in a page: WebSockets for these 500", "chromium", "streams", "sockets", "", []string{culvertWeb}, 0, 5},
	{"in a page: first message on a new connection, latency", "chromium", "first message", "millis", "ms", socketClients, 0, 0},
	{"in Node: bidirectional, 256 messages in flight, 1 KiB", "node", "two-way", "micros", "µs", nodeClients, 1.35, 0},
	{"in Node: ping-pong, 1 KiB", "node", "ping-pong", "micros", "µs", nodeClients, 1.5, 0},
}

// run runs the load with each client in every round, and returns the medians by client.
func (l scriptLoad) run(ctx context.Context, a *arena, o options) (map[string]float64, error) {
	rounds := make(map[string][]float64)
	for round := range o.rounds {
		for _, client := range l.clients {
			f, err := l.meet(ctx, a, client, o.measure)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round+1, client, err)
			}
			rounds[client] = append(rounds[client], f)
		}
	}
	medians := make(map[string]float64)
	for client, figures := range rounds {
		medians[client] = median(figures)
	}
	return medians, nil
}

// meet runs the script once against a culvert of its own, and returns the load's figure.
func (l scriptLoad) meet(ctx context.Context, a *arena, client string, measure time.Duration) (float64, error) {
	p, err := a.culvert(ctx, &peer{name: "culvert"}, nil)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	ctx, cancel := context.WithTimeout(ctx, 2*measure+time.Minute)
	defer cancel()
	script := exec.CommandContext(ctx, "node", "speed.js", l.place, client, l.load, "http://"+p.address, strconv.FormatInt(measure.Milliseconds(), 10))
	script.Dir = filepath.Join(a.bins.source, "e2e", "node")
	script.Env = append(os.Environ(), "TMPDIR="+a.dir)
	script.Cancel = func() error { return script.Process.Signal(syscall.SIGTERM) } // it ends the browser
	script.WaitDelay = 5 * time.Second
	var said strings.Builder
	script.Stderr = &said
	out, err := script.Output()
	var figures map[string]float64
	if err = errors.Join(err, ctx.Err()); err == nil {
		err = json.Unmarshal(out, &figures)
	}
	figure, ok := figures[l.figure]
	if err == nil && !ok {
		err = fmt.Errorf("it says nothing of %s", l.figure)
	}
	if err != nil {
		return 0, fmt.Errorf("speed.js: %w\n%s%s", err, &said, out)
	}
	return figure, nil
}

// against returns the best of the other clients over WebSockets, and culvert's figure as a
// multiple of that client's. Without a comparison it returns "–" and 0. connect-web's fetch
// has a column and no part in the bounds: a browser parses its frames outside of the page's
// thread, which is what is measured.
func (l scriptLoad) against(figures map[string]float64) (string, float64) {
	others := slices.DeleteFunc(slices.Clone(l.clients), func(name string) bool { return name == culvertWeb || name == connectWeb })
	if len(others) == 0 || l.exactly > 0 {
		return "–", 0
	}
	best := slices.MinFunc(others, func(a, b string) int { return cmp.Compare(figures[a], figures[b]) })
	return best, figures[culvertWeb] / figures[best]
}

// limit returns the bound, and reports whether culvert's client misses it.
func (l scriptLoad) limit(figures map[string]float64) (bound string, missed bool) {
	_, ratio := l.against(figures)
	switch {
	case l.exactly > 0:
		return fmt.Sprintf("%g", l.exactly), figures[culvertWeb] != l.exactly
	case l.bound > 0:
		return fmt.Sprintf("%.2f×", l.bound), ratio > l.bound
	default:
		return "–", false
	}
}

// scripts measures the loads and adds their rows to the page.
func (p *page) scripts(ctx context.Context, a *arena) {
	for _, l := range scriptLoads {
		if !p.o.only.MatchString(l.name) {
			continue
		}
		figures, err := l.run(ctx, a, p.o)
		if err != nil {
			p.lost(l.name, err)
			continue
		}
		p.script(l, figures)
	}
}
