package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	bins    programs
	rounds  int
	measure time.Duration
	only    *regexp.Regexp
	older   string
	since   bool
	out     string
	profile string
}

func run() error {
	var o options
	serve := flag.Bool("serve-backend", false, "be the backend")
	flag.StringVar(&o.bins.culvert, "culvert", "bin/culvert", "culvert's program")
	flag.StringVar(&o.bins.grpcwebproxy, "grpcwebproxy", "bin/grpcwebproxy", "grpcwebproxy's program")
	flag.StringVar(&o.bins.vanguard, "vanguard", "bin/vanguard", "the program of e2e/bench/vanguard")
	flag.StringVar(&o.bins.nginx, "nginx", "nginx", "nginx's program")
	flag.StringVar(&o.bins.source, "source", ".", "culvert's source, for the build that counts allocations, and its benchmarks")
	flag.StringVar(&o.older, "older", "", "commit of an older culvert, to compare instructions and allocations with; needs valgrind")
	flag.BoolVar(&o.since, "since", false, "compare culvert with the older one, by turns, and measure nothing else")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each cell is run with each program")
	flag.DurationVar(&o.measure, "time", 2*time.Second, "how long each run is measured")
	only := flag.String("only", "", "run only the cells whose names this regular expression matches")
	flag.StringVar(&o.out, "out", "", "write the page to this file; a table of which -only matches no row stays as it is")
	flag.StringVar(&o.profile, "profile", "", "leave CPU profiles of culvert under the streams of -since in this folder, and measure nothing")
	flag.Parse()
	if *serve {
		return serveBackend(os.Stdout)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return err
	}
	bins := []*string{&o.bins.culvert}
	switch {
	case o.profile != "":
	case !o.since:
		bins = append(bins, &o.bins.grpcwebproxy, &o.bins.vanguard, &o.bins.nginx)
	case o.older == "":
		return errors.New("-since needs -older, the commit to compare with")
	}
	for _, bin := range bins {
		if *bin, err = program(*bin); err != nil {
			return err
		}
	}
	if o.older != "" {
		for _, name := range []string{"valgrind", "callgrind_control"} {
			if _, err := program(name); err != nil {
				return fmt.Errorf("-older counts instructions with Debian's package valgrind: %w", err)
			}
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	a, err := openArena(ctx, o.bins)
	if err != nil {
		return err
	}
	defer a.close()
	if a.bins.culvertCounting, err = buildCounting(a.dir, o.bins.source, "culvert-counting"); err != nil {
		return err
	}
	if o.older != "" {
		if a.bins.older, a.bins.olderCounting, err = buildOlder(a.dir, o.bins.source, o.older); err != nil {
			return err
		}
	}
	if o.profile != "" {
		return profileLoads(ctx, a, o)
	}
	page := &page{o: o}
	if o.since {
		page.since(ctx, a)
		return errors.Join(append(page.failed, ctx.Err())...)
	}
	for _, c := range slices.Concat(table, tlsTable, sweep()) {
		if o.only.MatchString(c.name) {
			r, err := c.run(ctx, a, o)
			if err != nil {
				page.lost(c.name, err)
				continue
			}
			page.cell(r)
		}
	}
	page.weights(ctx, a, slices.Concat(weights, agentCosts), &page.weighed)
	page.weights(ctx, a, operation, &page.operated)
	page.weights(ctx, a, connectCosts, &page.costs)
	page.weights(ctx, a, convertCosts, &page.converts)
	page.weights(ctx, a, messageCosts, &page.bare)
	page.weights(ctx, a, dialCosts, &page.dialled)
	page.weights(ctx, a, authCosts, &page.identified)
	page.scripts(ctx, a)
	if o.older != "" {
		page.tallies(ctx, a)
	}
	if ctx.Err() != nil {
		return ctx.Err() // a page of half a run would look like a whole one
	}
	return errors.Join(page.write(a), errors.Join(page.failed...))
}

// tallies counts instructions and allocations, beside the older culvert.
func (p *page) tallies(ctx context.Context, a *arena) {
	for _, t := range tallies {
		if !p.o.only.MatchString(t.name) {
			continue
		}
		counts, err := t.run(ctx, a)
		if err != nil {
			p.lost(t.name, err)
			continue
		}
		p.tally(t, counts)
	}
}

// lost notes a row that couldn't be measured. The others are measured all the same, and
// the run fails in the end.
func (p *page) lost(name string, err error) {
	err = fmt.Errorf("%s: %w", name, err)
	fmt.Fprintln(os.Stderr, "bench: not measured:", err)
	p.failed = append(p.failed, err)
}

// weights measures those of a table.
func (p *page) weights(ctx context.Context, a *arena, table []weight, into *[]string) {
	for _, w := range table {
		if !p.o.only.MatchString(w.name) {
			continue
		}
		figures, err := w.figures(ctx, a)
		if err != nil {
			p.lost(w.name, err)
			continue
		}
		*into = append(*into, p.weight(w, figures))
	}
}

// figures measures each peer.
func (w weight) figures(ctx context.Context, a *arena) (map[string]float64, error) {
	figures := make(map[string]float64)
	for _, name := range w.peers {
		figure, err := w.run(ctx, a, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		figures[name] = figure
	}
	return figures, nil
}

// program finds an executable; the processes have a working folder of their own.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// A result is what a cell's runs gave: each peer's figures, one a round.
type result struct {
	cell
	figures map[string][]figure
	mallocs float64 // culvert's, a message
}

// maxTries is how often another program than culvert may try a run: grpcwebproxy
// breaks off a stream now and then that its flow control lost count of.
const maxTries = 3

// run meets the peers one after the other, in each round again, so that what
// the machine does meanwhile meets all of them.
func (c cell) run(ctx context.Context, a *arena, o options) (*result, error) {
	r := &result{cell: c, figures: make(map[string][]figure)}
	rounds := o.rounds
	if c.bound == 0 && !c.overTLS() {
		rounds = max(rounds/3, 1) // the many cells of the sweep only show the shape
	}
	for round := range rounds {
		for _, name := range c.peers {
			f, err := c.meet(ctx, a, name, o.measure)
			for try := 1; err != nil && !strings.HasPrefix(name, "culvert") && try < maxTries; try++ {
				fmt.Fprintf(os.Stderr, "%s, round %d, once more: %s: %v\n", c.name, round+1, name, err)
				f, err = c.meet(ctx, a, name, o.measure)
			}
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round+1, name, err)
			}
			r.figures[name] = append(r.figures[name], f)
		}
	}
	if c.overTLS() {
		return r, nil // crypto/tls allocates little: what culvert itself does is counted in plaintext
	}
	return r, c.count(ctx, a, o, r)
}

// count meets the culvert that counts its allocations.
func (c cell) count(ctx context.Context, a *arena, o options, r *result) error {
	p, err := a.culvert(ctx, newCounting(), nil)
	if err != nil {
		return err
	}
	defer p.stop()
	f, err := c.load(ctx, a, p, c.client, o.measure)
	if err != nil {
		return fmt.Errorf("counting: %w", err)
	}
	r.mallocs = f.mallocs
	return nil
}

// meet starts a peer, loads it and stops it.
func (c cell) meet(ctx context.Context, a *arena, name string, measure time.Duration) (figure, error) {
	p, err := peerStarts[name](ctx, a)
	if err != nil {
		return figure{}, err
	}
	defer p.stop()
	dial := c.client
	if name == "direct" {
		dial = c.direct
	}
	return c.load(ctx, a, p, dial, measure)
}

// load loads a running peer.
func (c cell) load(ctx context.Context, a *arena, p *peer, dial func(*peer) client, measure time.Duration) (figure, error) {
	l := &load{client: dial(p), streams: c.streams, size: c.size}
	defer l.client.close()
	l.stuck = func() {
		fmt.Fprintf(os.Stderr, "%s doesn't end: %d messages came through\n", p.name, l.passed.Load())
		p.explain()
		a.backend.explain()
	}
	return l.run(ctx, p, c.shape, measure)
}
