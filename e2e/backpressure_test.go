package e2e

import (
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// What may lie between a sender that was stopped and the one that stopped it:
// culvert's windows and messages, and below them the sockets' buffers, which the
// kernel lets grow where HTTP/2's windows don't stop it before.
func inFlight(transport wire.Transport) int64 {
	if transport.Multiplexed() {
		return 2 * mib
	}
	return 14 * mib
}

// A backend that reads nothing stops the client, on every transport, and what the
// client was let send is not held by culvert.
func TestBackendThatReadsNothingStopsTheClient(t *testing.T) {
	b := startBackend(t, backendOptions{})
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		t.Parallel()
		c := startCulvert(t, b.address, culvertOptions{})
		if err := works(t, transport, c.address, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		before := c.rss(t)
		conn := dial(t, transport, c.address)
		call := open(t, conn, wire.Bidi, probe.Script{Read: probe.ReadNone, Hang: true})
		var sent atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := uint64(0); call.Send(wire.Request(i, 64*kib)) == nil; i++ {
				sent.Add(64 * kib)
			}
		}()
		stopped := settled(t, sent.Load)
		grown := c.peak(t) - before
		t.Logf("the client was stopped after %d KiB; culvert grew by %d KiB", stopped/kib, grown/kib)
		if stopped > inFlight(transport) {
			t.Errorf("the client was let send %d bytes, want up to %d", stopped, inFlight(transport))
		}
		if stopped < 64*kib {
			t.Errorf("the client was let send %d bytes only", stopped)
		}
		if grown > 4*mib {
			t.Errorf("culvert grew by %d KiB", grown/kib)
		}
		if r := b.record(t, call.id, probe.Began, patience); r.Received != 0 {
			t.Errorf("the backend read %d requests, want none", r.Received)
		}
		conn.Reset() // nothing less frees a writer for certain
		<-done
	})
}

// A client that reads nothing stops the backend, on every transport, and loses
// nothing by it.
func TestClientThatReadsNothingStopsTheBackend(t *testing.T) {
	b := startBackend(t, backendOptions{})
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		t.Parallel()
		c := startCulvert(t, b.address, culvertOptions{})
		if err := works(t, transport, c.address, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		before := c.rss(t)
		conn := dial(t, transport, c.address)
		call := post(t, conn, wire.ServerStream, probe.Script{Replies: 1 << 20, ReplyBytes: 64 * kib})
		b.record(t, call.id, probe.Began, patience)
		sent := func() int64 { r, _ := b.saw(t, call.id); return r.SentBytes }
		stopped := settled(t, sent)
		grown := c.peak(t) - before
		t.Logf("the backend was stopped after %d KiB; culvert grew by %d KiB", stopped/kib, grown/kib)
		if stopped > inFlight(transport) {
			t.Errorf("the backend was let send %d bytes, want up to %d", stopped, inFlight(transport))
		}
		if grown > 4*mib {
			t.Errorf("culvert grew by %d KiB", grown/kib)
		}
		// It goes on where it stopped. The last reply is beyond what was under way.
		for i := range uint64(stopped/(64*kib)) + 100 {
			if _, err := wire.RecvReply(call, i); err != nil {
				t.Fatalf("reply %d: %v", i, err)
			}
		}
		call.Close()
		b.record(t, call.id, probe.Cancelled, cutIsSeen)
	})
}

// One direction that is stopped leaves the other alone.
func TestStoppedRequestsLetRepliesThrough(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		t.Parallel()
		conn := dial(t, transport, c.address)
		call := open(t, conn, wire.Bidi, probe.Script{Read: probe.ReadNone, Replies: 2000, ReplyBytes: 16 * kib, ReplyEvery: 1})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := uint64(0); call.Send(wire.Request(i, 64*kib)) == nil; i++ {
			}
		}()
		e := finish(call, 0)
		if e.status == nil || e.status.Code != 0 || e.replies != 2000 {
			t.Errorf("%v, want 2000 replies and OK", e)
		}
		conn.Reset() // frees the writer
		<-done
	})
}

// A backend that ends a call early, with the client's upload under way, still has
// its whole answer delivered, if that fits the window of a stream: to a client that
// goes on sending, and begins to
// read only later.
func TestEarlyAnswerArrivesBesideAnUpload(t *testing.T) {
	const replies = 20
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		t.Parallel()
		conn := dial(t, transport, c.address)
		call := open(t, conn, wire.Bidi, probe.Script{Read: probe.ReadNone, Replies: replies, ReplyBytes: 3 * kib, Code: uint32(codes.Aborted), Message: "enough"})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := uint64(0); call.Send(wire.Request(i, 64*kib)) == nil; i++ {
			}
		}()
		b.record(t, call.id, probe.Ended, patience)
		<-time.After(1500 * time.Millisecond) // a client that is slow, or far away
		if e := finish(call, 0); e.status == nil || e.status.Code != codes.Aborted || e.replies != replies {
			t.Errorf("%v, want %d replies and ABORTED", e, replies)
		}
		conn.Reset() // frees the writer
		<-done
	})
}
