package main

import (
	"context"
	"time"
)

// operation is what culvert promises of routes, metrics, reloads, drains and rest.
// The column of the others has culvert without the routes, streams or metrics.
var operation = []weight{
	{"more CPU time with 1 route than with none, unary calls, native gRPC, 64 clients, 100 B", "%", 3, 1, false, []string{routes1}, moreCPU(unaryCalls, culvertOne)},
	{"more CPU time with 100 routes than with 1, the same calls", "%", 5, 2, false, []string{routes100}, moreCPU(unaryCalls, routes1)},
	{"more CPU time with 10,000 routes than with 1, the same calls", "%", 5, 2, false, []string{routes10000}, moreCPU(unaryCalls, routes1)},
	{"the same with `GOGC=1000`: the lookup without the collector's work", "%", 5, 2, false, []string{routes10000 + rarely}, moreCPU(unaryCalls, routes1+rarely)},
	{"`culvert validate` of 10,000 routes", "ms", 2000, 500, false, []string{routes10000, routes1}, validateTime},
	{"more CPU time with metrics, a scrape each second, the same calls", "%", 5, 2, false, []string{culvertMetrics}, moreCPU(unaryCalls, culvertOne)},
	{"more CPU time with metrics, a scrape each second, WebSocket bidi, full duplex, 4 streams, 100 B", "%", 5, 1, false, []string{culvertMetrics}, moreCPU(cell{shape: duplex, client: newWebSocketClient, streams: 4, size: 100}, culvertOne)},
	{"reload: SIGHUP until the new file applies, 10,000 open streams", "ms", 100, 20, false, []string{manyStreams, noStreams}, reloadTime},
	{"reload to 10,000 routes: SIGHUP until they apply", "ms", 2000, 500, false, alone, reloadRoutesTime},
	{"more memory after 20 reloads, 10,000 open streams", "MiB", 40, 10, false, []string{manyStreams, noStreams}, reloadMemory},
	{"drain: SIGTERM until the exit, 10,000 open streams, `drain_timeout: 10s`", "s", 10, 9.5, false, []string{manyStreams, deafStreams, noStreams}, drainTime},
	{"streams of these 10,000 that ended without a status", "", 0, 0, false, alone, drainBareEnds},
	{"wake-ups a second at rest", "", 20, 5, false, proxies, restWakeUps(0)},
	{"wake-ups a second, 10,000 idle WebSocket streams, a ping each 20 s, compared with grpcwebproxy's", "%", 120, 100, false, alone, shareOfWakeUps(idleStreams, "grpcwebproxy")},
}

var unaryCalls = cell{shape: unary, client: newGRPCClient(64), streams: 64, size: 100}

// moreCPU starts both programs moreStarts times, and has each take moreTurns turns of
// moreTime.
const (
	moreStarts = 12
	moreTurns  = 4
	moreTime   = time.Second
)

// moreCPU returns how much more CPU time a message takes with a program than with
// another, in percent: the median of the turns. The programs take turns, because what
// else a machine does changes from second to second, by more than the bounds allow.
func moreCPU(c cell, than string) measure {
	return moreCPUThan(c, side{than, c.client})
}

// A side is a program, and the client that loads it.
type side struct {
	name   string
	client func(*peer) client
}

// moreCPUThan is moreCPU for a program with another client.
func moreCPUThan(c cell, than side) measure {
	return func(ctx context.Context, a *arena, name string) (float64, error) {
		var ratios []float64
		for range moreStarts {
			turns, _, err := c.takeTurns(ctx, a, than, side{name, c.client})
			if err != nil {
				return 0, err
			}
			for _, took := range turns {
				ratios = append(ratios, float64(took[1].perMessage)/float64(took[0].perMessage))
			}
		}
		return 100 * (median(ratios) - 1), nil
	}
}

// takeTurns starts the programs of two sides and loads one after the other. It returns
// what each had in each turn, and the most memory that each has had in bytes.
func (c cell) takeTurns(ctx context.Context, a *arena, sides ...side) (turns [][2]figure, peaks [2]int64, err error) {
	var peers []*peer
	for _, s := range sides {
		p, err := peerStarts[s.name](ctx, a)
		if err != nil {
			return nil, peaks, err
		}
		defer p.stop()
		peers = append(peers, p)
	}
	for turn := range moreTurns {
		var took [2]figure
		for i := range took {
			at := (turn + i) % 2 // each is first as often
			if took[at], err = c.load(ctx, a, peers[at], sides[at].client, moreTime); err != nil {
				return nil, peaks, err
			}
		}
		turns = append(turns, took)
	}
	for i, p := range peers {
		if peaks[i], err = p.proc.peak(); err != nil {
			return nil, peaks, err
		}
	}
	return turns, peaks, nil
}
