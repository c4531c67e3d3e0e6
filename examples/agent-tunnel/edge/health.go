package edge

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// CheckAgents asks the web server behind each agent for /healthz, through the tunnel, at
// each interval until the context ends. An agent that doesn't answer 200 within patience
// gets no requests until it does. Its next check waits for the answer; those of the other
// agents don't.
func (e *Edge) CheckAgents(ctx context.Context, interval, patience time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var checks sync.WaitGroup
	defer checks.Wait()
	var waiting sync.Map // names of agents that haven't answered yet
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, a := range e.snapshot() {
			if _, is := waiting.LoadOrStore(a.name, true); !is {
				checks.Go(func() {
					defer waiting.Delete(a.name)
					e.check(ctx, a, patience)
				})
			}
		}
	}
}

func (e *Edge) check(ctx context.Context, a agent, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	healthy := healthy(ctx, a)
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := e.agents[a.name]; now != nil && now.stream == a.stream { // otherwise it has moved, and the next check counts
		now.healthy = healthy
	}
}

func healthy(ctx context.Context, a agent) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.name+".localhost/healthz", nil)
	if err != nil {
		return false // a name that no URL can have
	}
	res, err := a.stream.RoundTrip(r)
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }() // never fails
	return res.StatusCode == http.StatusOK
}
