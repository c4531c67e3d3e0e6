package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The programs of "make bench-since". Both have their logs on and count their allocations and
// collections. Both have metrics, which somebody reads each second, unless the older one is
// from a time before them.
const (
	older1 = "older, GOMAXPROCS=1"
	older2 = "older, GOMAXPROCS=2"
	today1 = "today's, GOMAXPROCS=1"
	today2 = "today's, GOMAXPROCS=2"
)

// sinceLoads are the loads that both programs meet, each with one thread and with two.
var sinceLoads = []cell{
	{name: "unary, gRPC-Web, 64 connections", shape: unary, client: newWebClient, streams: 64, size: 1 << 10},
	{name: "unary, a WebSocket each, 64 clients", shape: unary, client: newWebSocketClient, streams: 64, size: 1 << 10},
	{name: "unary, native gRPC, 64 connections", shape: unary, client: newGRPCClient(64), streams: 64, size: 1 << 10},
	{name: "duplex, WebSocket, 4 streams", shape: duplex, client: newWebSocketClient, streams: 4, size: 1 << 10},
	{name: "duplex, native gRPC, 4 connections", shape: duplex, client: newGRPCClient(4), streams: 4, size: 1 << 10},
	{name: "server stream, WebSocket", shape: serverStream, client: newWebSocketClient, streams: 1, size: 1 << 10},
	{name: "server stream, gRPC-Web", shape: serverStream, client: newWebClient, streams: 1, size: 1 << 10},
	{name: "server stream, native gRPC", shape: serverStream, client: newGRPCClient(1), streams: 1, size: 1 << 10},
	{name: "ping-pong, WebSocket, 64 streams", shape: pingPong, client: newWebSocketClient, streams: 64, size: 1 << 10},
	{name: "ping-pong, native gRPC, 64 connections", shape: pingPong, client: newGRPCClient(64), streams: 64, size: 1 << 10},
}

var sincePrograms = [][2]string{{older1, today1}, {older2, today2}}

func (a *arena) sinceOlder(ctx context.Context, procs int) (*peer, error) {
	p, err := a.ofAnyTime(ctx, tallyMetrics, a.sinceEnv(procs), a.bins.olderCounting)
	if err == nil && scrapeOnce(ctx, p.metricsPage()) == nil {
		p.scraper = scrape(ctx, p.metricsPage())
	}
	return p, err
}

func (a *arena) sinceToday(ctx context.Context, procs int) (*peer, error) {
	p, err := a.ofAnyTime(ctx, tallyMetrics, a.sinceEnv(procs), a.bins.culvertCounting)
	if err == nil {
		p.scraper = scrape(ctx, p.metricsPage())
	}
	return p, err
}

// sinceEnv is the environment of a program with so many threads.
func (*arena) sinceEnv(procs int) []string {
	return []string{"GOMAXPROCS=" + strconv.Itoa(procs), countersVariable + freeAddress()}
}

// since compares the programs, and prints each row as it comes.
func (p *page) since(ctx context.Context, a *arena) {
	for _, c := range sinceLoads {
		for i, programs := range sincePrograms {
			name := fmt.Sprintf("%s, GOMAXPROCS=%d", c.name, i+1)
			if !p.o.only.MatchString(name) {
				continue
			}
			s := &comparison{}
			if err := s.run(ctx, a, c, programs); err != nil {
				p.lost(name, err)
				continue
			}
			fmt.Printf("%s\n%s", name, s)
		}
	}
	p.tallies(ctx, a)
}

// profileLoads leaves a CPU profile of today's program for each load in a folder. Unary calls
// over a WebSocket each are left out, and "make profile" leaves out samples of opening a stream:
// with them the compiler inlines so much into the functions that open one that their frames no
// longer fit into the stack that a call begins with, and copying it takes a native call 56
// thousand instructions. TestInstructionsOfACall shows whether that has happened all the same.
func profileLoads(ctx context.Context, a *arena, o options) error {
	if err := os.MkdirAll(o.profile, 0o700); err != nil {
		return err
	}
	for _, c := range sinceLoads {
		if strings.HasPrefix(c.name, "unary, a WebSocket") || !o.only.MatchString(c.name) {
			continue
		}
		p, err := a.sinceToday(ctx, 1)
		if err != nil {
			return err
		}
		written := p.profile(filepath.Join(o.profile, strings.NewReplacer(" ", "-", ",", "").Replace(c.name)+".pprof"), o.measure)
		_, err = c.load(ctx, a, p, c.client, o.measure)
		written()
		p.stop()
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// A comparison is what two programs had in their turns: the older one first. Each start
// has moreTurns turns.
type comparison struct {
	starts [][][2]figure
	peaks  [2][]float64 // MiB
}

func (s *comparison) run(ctx context.Context, a *arena, c cell, programs [2]string) error {
	for range moreStarts {
		turns, peaks, err := c.takeTurns(ctx, a, side{programs[0], c.client}, side{programs[1], c.client})
		if err != nil {
			return err
		}
		s.starts = append(s.starts, turns)
		for i, peak := range peaks {
			s.peaks[i] = append(s.peaks[i], float64(peak)/(1<<20))
		}
	}
	return nil
}

// sinceFigures are the figures that are compared.
var sinceFigures = []struct {
	name, unit string
	of         func(figure) float64
}{
	{"CPU a message", "µs", func(f figure) float64 { return micros(f.perMessage) }},
	{"messages a second", "", func(f figure) float64 { return f.rate }},
	{"p50", "ms", func(f figure) float64 { return micros(f.p50) / 1e3 }},
	{"p99", "ms", func(f figure) float64 { return micros(f.p99) / 1e3 }},
	{"allocations a message", "", func(f figure) float64 { return f.mallocs }},
	{"bytes allocated a message", "B", func(f figure) float64 { return f.allocated }},
	{"collections in 1,000 messages", "", func(f figure) float64 { return f.collected }},
}

// String returns a line for each figure that the load has.
func (s *comparison) String() string {
	text := ""
	for _, figure := range sinceFigures {
		var older, today []float64
		var ratios [][]float64
		for _, turns := range s.starts {
			var ofStart []float64
			for _, took := range turns {
				before, now := figure.of(took[0]), figure.of(took[1])
				older, today = append(older, before), append(today, now)
				if before > 0 {
					ofStart = append(ofStart, now/before)
				}
			}
			ratios = append(ratios, ofStart)
		}
		if median(today) == 0 && median(older) == 0 {
			continue
		}
		text += fmt.Sprintf("    %-30s older %10.2f  today %10.2f %-2s  %s\n", figure.name, median(older), median(today), figure.unit, judged(ratios))
	}
	return text + fmt.Sprintf("    %-30s older %10.2f  today %10.2f MiB (%+.1f)\n", "peak memory", median(s.peaks[0]), median(s.peaks[1]), median(s.peaks[1])-median(s.peaks[0]))
}

// judged tells the median of the ratios of all turns, and its noise: the starts' medians
// without the lowest and highest sixth. For 12 starts that is the interval which holds
// the true median in 96 of 100 cases, whatever their distribution.
func judged(starts [][]float64) string {
	var ofStarts []float64
	for _, ratios := range starts {
		if len(ratios) > 0 {
			ofStarts = append(ofStarts, median(ratios))
		}
	}
	if len(ofStarts) == 0 {
		return "the older one has none"
	}
	slices.Sort(ofStarts)
	cut := len(ofStarts) / 6
	low, high := ofStarts[cut], ofStarts[len(ofStarts)-1-cut]
	verdict := "within noise"
	switch {
	case low > 1:
		verdict = "MORE"
	case high < 1:
		verdict = "less"
	}
	return fmt.Sprintf("%.3f× (%.3f to %.3f): %s", median(slices.Concat(starts...)), low, high, verdict)
}
