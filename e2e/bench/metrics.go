package main

import "context"

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
