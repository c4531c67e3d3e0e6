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

// The rounds of moreCPU, and how long each measures a program.
const (
	moreRounds = 9
	moreTime   = 2 * time.Second
)

// moreCPU returns how much more CPU time a message takes with a program than with
// another, in percent.
func moreCPU(c cell, than string) func(context.Context, *arena, string) (float64, error) {
	return func(ctx context.Context, a *arena, name string) (float64, error) {
		r := &result{cell: c, figures: make(map[string][]figure)}
		for range moreRounds {
			for _, name := range []string{than, name} {
				f, err := c.meet(ctx, a, name, moreTime)
				if err != nil {
					return 0, err
				}
				r.figures[name] = append(r.figures[name], f)
			}
		}
		less, more := r.medians(than).perMessage, r.medians(name).perMessage
		return 100 * (float64(more)/float64(less) - 1), nil
	}
}
