package serve

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// flushPatience is how long the end of culvert waits for the receiver of traces, unless a drain
// leaves less.
const flushPatience = 2 * time.Second

// openTraces begins to export traces, if there is a receiver.
func (p *program) openTraces(cfg *bridge.Config) (err error) {
	c := p.Config.Traces
	if c.Endpoint == "" {
		return nil
	}
	to := wiring.TraceReceiver(c)
	to.Version, to.Instance = p.Version, fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()) //nolint:gosec // it only differs from others'
	if to.TLS, err = p.keys.TraceReceiver(p.Config); err != nil {
		return err
	}
	t, err := telemetry.OpenTraces(to, wiring.TraceRules(c), p.log.Logger)
	if err != nil {
		return p.Config.Errorf("traces.endpoint", "%w", err)
	}
	p.observers.traces = t
	cfg.Observer = report.Observers(t, cfg.Observer)
	if m := p.observers.metrics; m != nil {
		m.SetSpans(t.Spans)
	}
	p.log.Info("exporting traces", "endpoint", c.Endpoint, "protocol", c.Protocol)
	return nil
}

// closeTraces exports the spans that wait. All calls have ended.
func (p *program) closeTraces() {
	if t := p.observers.traces; t != nil {
		t.Close(patienceUntil(p.ends, flushPatience, minPatience))
	}
}

// changeTraces changes which calls are sampled, what the backend gets, and the headers for the
// receiver.
func (p *program) changeTraces(_, next *config.Loaded) (commit, undo func(), err error) {
	t := p.observers.traces
	if t == nil {
		return nil, nil, nil
	}
	return func() {
		t.SetRules(wiring.TraceRules(next.Traces))
		t.SetHeaders(wiring.TraceReceiver(next.Traces).Headers)
	}, nil, nil
}
