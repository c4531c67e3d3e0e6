package serve

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/logs"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// flushPatience is how long the end of culvert waits for the receivers of OTLP, unless a drain
// leaves less.
const flushPatience = 2 * time.Second

// exports are what culvert exports by OTLP.
type exports struct {
	all    []export
	traces *telemetry.Traces // nil: they aren't exported
	lines  *telemetry.Lines  // from the first line of the log on, which is before there is a receiver
}

// An export sends a signal to a receiver.
type export interface {
	telemetry.Exporter
	SetHeaders(all map[string]string)
	Close(patience time.Duration)
}

// openLog opens the log, whose lines are exported if they have a receiver.
func (e *exports) openLog(o *Options) *logs.Log {
	if o.Config.OTLP.Receiver(config.SignalLogs) == "" {
		return logs.Open(o.Stderr, o.Config.Log, nil)
	}
	e.lines = telemetry.NewLines()
	e.all = append(e.all, e.lines)
	return logs.Open(o.Stderr, o.Config.Log, e.lines)
}

// openExports begins to export what has a receiver.
func (p *program) openExports(cfg *bridge.Config) (err error) {
	to := wiring.Receiver(p.Config.OTLP)
	to.Version, to.Instance = p.Version, fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()) //nolint:gosec // it only differs from others'
	if to.TLS, err = p.keys.Receivers(p.Config); err != nil {
		return err
	}
	var all []telemetry.Exporter
	for _, s := range p.Config.OTLP.Exported() {
		to.Endpoint = p.Config.OTLP.Receiver(s)
		from, err := p.openExport(s, to, cfg)
		if err != nil {
			return p.Config.Errorf("otlp.endpoint", "%w", err)
		}
		all = append(all, from)
		if s != config.SignalLogs {
			p.exports.all = append(p.exports.all, from)
		}
		p.log.Info("exporting by OTLP", "signal", string(s), "endpoint", to.Endpoint, "protocol", p.Config.OTLP.Protocol)
	}
	if m := p.observers.metrics; m != nil && len(all) > 0 {
		m.SetExporters(all...)
	}
	return nil
}

// openExport begins to export a signal. Lines of the log about exports are not exported.
func (p *program) openExport(s config.Signal, to telemetry.Receiver, cfg *bridge.Config) (from export, err error) {
	e := &p.exports
	switch s {
	case config.SignalTraces:
		if e.traces, err = telemetry.OpenTraces(to, wiring.TraceRules(p.Config.Traces), p.log.Local); err != nil {
			return nil, err
		}
		cfg.Observer = report.Observers(e.traces, cfg.Observer)
		return e.traces, nil
	case config.SignalMetrics:
		return p.observers.metrics.Export(to, p.Config.OTLP.MetricsInterval, p.log.Local)
	default:
		return e.lines, e.lines.Open(to, p.log.Local)
	}
}

func (e *exports) any() bool { return len(e.all) > 0 }

// closeExports exports what waits, to all receivers at a time. All calls have ended.
func (p *program) closeExports() {
	patience := patienceUntil(p.ends, flushPatience, minPatience)
	var running sync.WaitGroup
	defer running.Wait()
	for _, x := range p.exports.all {
		running.Go(func() { x.Close(patience) })
	}
}

// changeExports changes which calls are sampled, what the backend gets, and the headers for the
// receivers.
func (p *program) changeExports(_, next *config.Loaded) (commit, undo func(), err error) {
	e := &p.exports
	if !e.any() {
		return nil, nil, nil
	}
	return func() {
		if e.traces != nil {
			e.traces.SetRules(wiring.TraceRules(next.Traces))
		}
		headers := wiring.Receiver(next.OTLP).Headers
		for _, x := range e.all {
			x.SetHeaders(headers)
		}
	}, nil, nil
}
