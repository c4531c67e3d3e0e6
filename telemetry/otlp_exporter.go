package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// A requestReceiver takes requests.
type requestReceiver interface {
	// send returns how many items the receiver rejected although it took the request, and why
	// it rejected them or didn't take the request.
	send(ctx context.Context, request []byte) (rejected int64, err error)
	close()
}

// An exporter sends the items of a signal. It counts those that the receiver takes and those that
// it doesn't. Only one goroutine exports.
type exporter struct {
	signal signal
	to     requestReceiver
	once   sender // what to sends with
	source source
	limit  time.Duration // of an export, with its retries
	log    *slog.Logger  // whose lines aren't exported: a failure to export lines must not make more of them

	failed, exported atomic.Int64

	told   time.Time // when a line said that exports fail
	untold int64     // items dropped since, as told
}

// export sends a batch, and returns why its items, or some of them, were dropped.
func (e *exporter) export(all context.Context, b batch) error {
	ctx, cancel := context.WithTimeout(all, e.limit)
	defer cancel()
	rejected, err := e.to.send(ctx, e.source.request(b.items))
	if err != nil && rejected == 0 {
		rejected = b.count
	}
	rejected = min(rejected, b.count)
	e.exported.Add(b.count - rejected)
	switch {
	case err == nil:
		return nil
	case errors.Is(all.Err(), context.Canceled):
		err = errEnded
	case all.Err() == nil && ctx.Err() != nil:
		err = fmt.Errorf("culvert gave up after %v (otlp.timeout): %w", e.limit, err)
	}
	e.drop(rejected, err)
	return err
}

var errEnded = errors.New("the receiver hadn't taken them when culvert ended")

// overflowed tells of items that were dropped because the receiver takes less than there is.
func (e *exporter) overflowed(items int64) {
	e.tell(fmt.Errorf("there are more %s than the receiver takes: have it take more, or %s", e.signal.items, e.signal.fewer), items)
}

func (e *exporter) setHeaders(all map[string]string) { e.once.setHeaders(all) }

func (e *exporter) drop(items int64, err error) {
	e.failed.Add(items)
	e.tell(err, items)
}

// tellEvery limits the lines about exports that fail.
const tellEvery = time.Minute

// tell logs that an export failed, once in a while.
func (e *exporter) tell(err error, items int64) {
	now := time.Now()
	if !e.told.IsZero() && now.Sub(e.told) < tellEvery {
		e.untold += items
		return
	}
	e.log.Warn("an export by OTLP failed: if the receiver doesn't take this signal, set its key to none",
		"signal", e.signal.name, "key", "otlp."+e.signal.name, "dropped", e.untold+items, "cause", cut(err.Error()))
	e.told, e.untold = now, 0
}

func (e *exporter) close() { e.to.close() }

// Exports are the counts of what a signal's receiver got: of spans, values of metrics, or lines.
type Exports struct {
	Signal     string // "traces", "metrics" or "logs"
	Exported   int64  // the receiver took them
	Overflowed int64  // dropped because the queue was full
	Failed     int64  // dropped because the receiver didn't take them in time
}

func (e *exporter) exports(overflowed int64) Exports {
	return Exports{e.signal.name, e.exported.Load(), overflowed, e.failed.Load()}
}
