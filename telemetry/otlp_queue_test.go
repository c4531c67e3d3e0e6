package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A receiver takes some time, and then answers.
type receiver struct {
	takes    time.Duration
	rejected int64
	answer   error
	requests chan []byte
}

func (r *receiver) send(ctx context.Context, request []byte) (int64, error) {
	r.requests <- request
	select {
	case <-time.After(r.takes):
		return r.rejected, r.answer
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (*receiver) close() {}

func queueTo(r *receiver, log *bytes.Buffer) *itemQueue {
	r.requests = make(chan []byte, 100)
	q := newItemQueue()
	q.start(exporterTo(r, log))
	return q
}

func exporterTo(r requestReceiver, log io.Writer) *exporter {
	return &exporter{signal: signalTraces, to: r, limit: 10 * time.Second, log: slog.New(slog.NewTextHandler(log, nil))}
}

// aSpan has a tenth of a batch.
var aSpan = message(nil).text(spanName, strings.Repeat("x", batchBytes/10))

// batchSpans is how many of it fit into a batch.
const batchSpans = 9

func addSpans(q *itemQueue, n int) {
	for range n {
		q.add(aSpan)
	}
}

func TestQueueGathersABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{}
		q := queueTo(r, new(bytes.Buffer))
		begin := time.Now()
		addSpans(q, 3)
		if spans, _ := readRequest(t, <-r.requests); len(spans) != 3 || time.Since(begin) != batchDelay {
			t.Errorf("%d spans left after %v, want 3 after %v", len(spans), time.Since(begin), batchDelay)
		}
		synctest.Wait()
		begin = time.Now()
		addSpans(q, batchSpans+1)
		if spans, _ := readRequest(t, <-r.requests); len(spans) != batchSpans || time.Since(begin) != 0 {
			t.Errorf("%d spans left after %v, want %d at once", len(spans), time.Since(begin), batchSpans)
		}
		q.close(time.Second)
		if got := q.to.exported.Load(); got != batchSpans+4 {
			t.Errorf("%d spans count as exported", got)
		}
	})
}

// TestSlowReceiverCostsSpans: calls don't wait for it, and the queue is bounded.
func TestSlowReceiverCostsSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{takes: time.Hour}
		var log bytes.Buffer
		q := queueTo(r, &log)
		begin := time.Now()
		addSpans(q, 1)
		<-r.requests
		addSpans(q, maxBatches*batchSpans+5)
		if time.Since(begin) != batchDelay {
			t.Errorf("adding took until %v", time.Since(begin))
		}
		if got := q.overflowed.Load(); got != 5 {
			t.Errorf("%d spans were dropped, want 5", got)
		}
		<-r.requests
		if got := time.Since(begin); got != batchDelay+10*time.Second {
			t.Errorf("the next batch left after %v, want %v", got, batchDelay+10*time.Second)
		}
		begin = time.Now()
		q.close(2 * time.Second)
		if got := time.Since(begin); got != 2*time.Second {
			t.Errorf("the end took %v, want 2s", got)
		}
		if got := q.to.failed.Load(); got != 1+maxBatches*batchSpans {
			t.Errorf("%d spans count as refused, want %d", got, 1+maxBatches*batchSpans)
		}
		if got := log.String(); strings.Count(got, "an export by OTLP failed") != 1 || !strings.Contains(got, "gave up after 10s (otlp.timeout)") {
			t.Errorf("the log has:\n%s", got)
		}
		addSpans(q, 1)
		if got := q.overflowed.Load(); got != 6 {
			t.Errorf("a span behind the end was not dropped")
		}
	})
}

// TestReceiverThatTakesTooLittle: the log says so although each export succeeds.
func TestReceiverThatTakesTooLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{takes: 5 * time.Second}
		var log bytes.Buffer
		q := queueTo(r, &log)
		addSpans(q, 1)
		<-r.requests
		addSpans(q, maxBatches*batchSpans+5)
		time.Sleep(time.Minute)
		addSpans(q, 1)
		q.close(time.Minute)
		if got := log.String(); strings.Count(got, "an export by OTLP failed") != 1 || !strings.Contains(got, "dropped=5 ") || !strings.Contains(got, "lower traces.ratio") {
			t.Errorf("the log has:\n%s", got)
		}
	})
}

// TestSpansThatAreLateForTheEnd: the log says so, rather than that a context was cancelled.
func TestSpansThatAreLateForTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q := queueTo(&receiver{takes: time.Hour}, &log)
		addSpans(q, 2)
		q.close(time.Second)
		if got := log.String(); !strings.Contains(got, "dropped=2 ") || !strings.Contains(got, "when culvert ended") {
			t.Errorf("the log has:\n%s", got)
		}
	})
}

func TestRefusalsAreToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: errors.New("401 " + strings.Repeat("x", 10_000))}
		var log bytes.Buffer
		q := queueTo(r, &log)
		for range 3 {
			addSpans(q, 1)
			<-r.requests
			time.Sleep(25 * time.Second)
		}
		time.Sleep(time.Minute)
		addSpans(q, 1)
		q.close(time.Second)
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[1], "dropped=3 ") || len(lines[0]) > 500 {
			t.Errorf("the log has:\n%.2000s", log.String())
		}
	})
}

// TestRejectedSpansCount: those that a receiver rejects although it takes the request.
func TestRejectedSpansCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{rejected: 2, answer: errors.New("no room")}
		q := queueTo(r, new(bytes.Buffer))
		addSpans(q, 5)
		<-r.requests
		q.close(time.Second)
		if exported, failed := q.to.exported.Load(), q.to.failed.Load(); exported != 3 || failed != 2 {
			t.Errorf("%d count as exported, %d as dropped", exported, failed)
		}
	})
}
