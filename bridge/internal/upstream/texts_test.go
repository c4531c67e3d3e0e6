package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestClosedUpstreamSaysSo to the calls that it ends.
func TestClosedUpstreamSaysSo(t *testing.T) {
	arrived := make(chan struct{}) // before that, grpc-go has other words for the end
	u, err := New(report.Backend{Target: startFrames(t, func(*frameConn, uint32) { close(arrived) }).address}, testMessages, testHeaderBytes, memory.New(1<<20, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close() // it is closed
	call, err := openCall(within(t, patience), u, Request{Method: testMethod})
	if err != nil {
		t.Fatal(err)
	}
	<-arrived
	_ = u.Close() // the call shows it
	_, err = call.Recv()
	if f, ok := errors.AsType[*report.Fault](err); !ok || f.Text != "culvert has closed its connections to the backend" {
		t.Errorf("when the upstream is closed, a call ends with %v", err)
	}
}

// TestCausesOfLostConnections: the log has what culvert has read last, with the backend's
// goodbye.
func TestCausesOfLostConnections(t *testing.T) {
	restarting := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
		_ = c.framer.WriteGoAway(id, http2.ErrCodeNo, []byte("restarting \"it\""))
		_ = c.framer.WriteGoAway(id, http2.ErrCodeInternal, nil) // the first counts
		_ = c.flush()
		_ = c.Close()
	}).address})
	const begin, end = "error reading from server: ", `, received prior goaway: code: NO_ERROR, debug data: "restarting \"it\""`
	if e := callUpstream(within(t, patience), t, restarting, nil); !strings.HasPrefix(e.cause, begin) || !strings.HasSuffix(e.cause, end) {
		t.Errorf("a connection that ends after GOAWAY: the cause is %q, want %q and %q in it", e.cause, begin, end)
	}
	cut := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
		c.ok(id)
		_ = c.flush()
		_, _ = c.Write([]byte{0, 0, 8})
		_ = c.Conn.(*net.TCPConn).CloseWrite()
	}).address})
	if e := callUpstream(within(t, patience), t, cut, nil); e.cause != begin+io.ErrUnexpectedEOF.Error() {
		t.Errorf("a connection that ends inside a frame: the cause is %q", e.cause)
	}
}

// TestPicksOfGRPCDontWaitForEachOther checks that grpc-go holds no lock while Pick
// waits: a call that waits for a place holds up no other call. Real time runs here,
// because a bubble would hang.
func TestPicksOfGRPCDontWaitForEachOther(t *testing.T) {
	silent := startFrames(t, func(*frameConn, uint32) {}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	u := upstreamTo(t, report.Backend{Target: silent.address, MaxConnections: 1, QueueTimeout: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	open := func(ctx context.Context) error {
		_, err := openCall(ctx, u, Request{Method: testMethod})
		return err
	}
	if err := open(ctx); err != nil { // it has the only place
		t.Fatal(err)
	}
	waiting.Go(func() { _ = open(ctx) }) // ends with cancel
	poll(t, func() string {
		if queued() == 0 {
			return "no call waits for a place"
		}
		return ""
	})
	late, stop := context.WithTimeout(ctx, time.Millisecond)
	defer stop()
	ended := make(chan error, 1)
	waiting.Go(func() { ended <- open(late) })
	if err := await(t, "the end of a call behind one that waits", ended); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ends with %v, want %v", err, context.DeadlineExceeded)
	}
}
