package telemetry

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A MetricsExport sends what Metrics shows to a receiver of OTLP, once in each interval and at its
// end. Only the export's goroutine waits for the receiver. What the receiver doesn't take is
// dropped: the counts in the next export have it.
type MetricsExport struct {
	to       *exporter
	from     prometheus.Gatherer
	interval time.Duration
	began    time.Time // since when the counters count that don't tell it

	last context.Context // of the exports: it ends when patience at the end of culvert does
	cut  context.CancelFunc
	done chan struct{} // closed at the end of culvert
	ran  sync.WaitGroup
}

// Export begins to export to the receiver. It doesn't wait for the receiver. Close must follow.
func (m *Metrics) Export(to Receiver, interval time.Duration, log *slog.Logger) (*MetricsExport, error) {
	e, err := to.open(signalMetrics, log)
	if err != nil {
		return nil, err
	}
	return newMetricsExport(e, m.registry, interval), nil
}

func newMetricsExport(to *exporter, from prometheus.Gatherer, interval time.Duration) *MetricsExport {
	x := &MetricsExport{to: to, from: from, interval: interval, began: time.Now(), done: make(chan struct{})}
	x.last, x.cut = context.WithCancel(context.Background())
	x.ran.Go(x.run)
	return x
}

// SetHeaders replaces the headers of the requests to the receiver, such as a token that has a new
// value.
func (x *MetricsExport) SetHeaders(all map[string]string) { x.to.setHeaders(all) }

// Exports returns the counts of values.
func (x *MetricsExport) Exports() Exports { return x.to.exports(0) }

func (x *MetricsExport) run() {
	next := time.NewTicker(x.interval)
	defer next.Stop()
	for {
		select {
		case <-next.C:
			x.export()
		case <-x.done:
			x.export()
			return
		}
	}
}

// export sends the metrics, in one request or, if they are many, in several.
func (x *MetricsExport) export() {
	all, err := x.from.Gather()
	if err != nil { // it has what could be gathered
		x.to.tell(err, 0)
	}
	ctx, cancel := context.WithTimeout(x.last, x.interval)
	defer cancel()
	for b := range batchesOf(all, time.Now(), x.began) {
		if cause := ctx.Err(); cause != nil {
			x.to.drop(b.count, cmp.Or(err, cause))
			continue
		}
		err = x.to.export(ctx, b)
	}
}

// Close exports the metrics once more, for as long as patience lasts, and ends the goroutine.
func (x *MetricsExport) Close(patience time.Duration) {
	late := time.AfterFunc(patience, x.cut)
	defer late.Stop()
	defer x.cut()
	close(x.done)
	x.ran.Wait()
	x.to.close()
}
