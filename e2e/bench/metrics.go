package main

import (
	"context"
	"time"
)

// culvertMetrics is culvertOne with metrics. The other culverts have no address to
// read metrics on, so they count nothing.
const culvertMetrics = "culvert, GOMAXPROCS=1, metrics"

func (a *arena) culvertMetrics(ctx context.Context) (*peer, error) {
	p, err := a.culvert(ctx, a.bins.culvert, []string{"GOMAXPROCS=1"}, "--health-listen", freeAddress())
	if err != nil {
		return nil, err
	}
	p.name = culvertMetrics
	return p, nil
}

// The rounds of metricsCost, and how long each measures a program.
const (
	metricsRounds = 9
	metricsTime   = 2 * time.Second
)

// metricsCost returns how much more CPU time a message takes with metrics, in percent.
func metricsCost(c cell) func(context.Context, *arena, string) (float64, error) {
	return func(ctx context.Context, a *arena, _ string) (float64, error) {
		r := &result{cell: c, figures: make(map[string][]figure)}
		for range metricsRounds {
			for _, name := range []string{culvertOne, culvertMetrics} {
				f, err := c.meet(ctx, a, name, metricsTime)
				if err != nil {
					return 0, err
				}
				r.figures[name] = append(r.figures[name], f)
			}
		}
		off, on := r.medians(culvertOne).perMessage, r.medians(culvertMetrics).perMessage
		return 100 * (float64(on)/float64(off) - 1), nil
	}
}
