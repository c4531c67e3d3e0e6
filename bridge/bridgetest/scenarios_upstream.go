package bridgetest

import (
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

var upstreamScenarios = []scenario{
	{"backend down, then up", 0, backendDownThenUp},
	{"backend stops in the middle of a call", streamedReplies, backendStops},
	{"backend stops gracefully in the middle of a call", streamedReplies, backendStopsGracefully},
	{"backend restarts", 0, backendRestarts},
	{"denied method", anyMethod, deniedMethod},
	{"allowed methods", anyMethod, allowedMethods},
	{"services that show the backend's inside", anyMethod, insideServices},
}

// hosts counts what ownHost has returned.
var hosts atomic.Uint32

// ownHost returns a loopback address for one trial, so that no other takes the port
// of its backend while the backend is down. Only Linux has more than one such
// address.
func ownHost() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1"
	}
	n := hosts.Add(1)
	return fmt.Sprintf("127.1.%d.%d", byte(n>>8), byte(n))
}

// freeAddress returns an address on which nobody listens.
func (t *trial) freeAddress() string {
	t.Helper()
	ln, err := net.Listen("tcp", ownHost()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (t *trial) wantSent(r result, want string) {
	t.Helper()
	if got := r.info().GetMetadata()["sent"]; got != want {
		t.Errorf("status %q says sent=%q, want %q", r.status.Message(), got, want)
	}
}

func backendDownThenUp(t *trial) {
	address := t.freeAddress()
	t.startCulvert(address)
	t.startClient(t.address)
	for range 2 {
		r := t.unary(call{}, hello)
		t.wantCulvert(r, codes.Unavailable, report.ReasonUpstreamUnreachable)
		t.wantSent(r, "no")
	}
	t.startBackend(address, echo)
	t.wantServedWithin(servedAgain, hello)
}

// servedAgain bounds the time until calls work after the backend's return: an attempt to
// connect each second, on a busy machine. grpc-go's own pauses become two minutes long.
const servedAgain = 20 * time.Second

// wantServedWithin calls until a call succeeds with these replies. Each refusal
// must be UNAVAILABLE.
func (t *trial) wantServedWithin(d time.Duration, want ...[]byte) {
	t.Helper()
	begin := time.Now()
	var r result
	if problem := parts.PollFor(patience, func() string {
		switch r = t.unary(call{}, hello); r.status.Code() {
		case codes.OK:
			return ""
		case codes.Unavailable:
			return r.status.String()
		}
		t.Fatalf("status %v, want UNAVAILABLE or OK", r.status)
		return ""
	}); problem != "" {
		t.Fatalf("calls don't work again within %v: %s", patience, problem)
	}
	t.wantOK(r, want...)
	if took := time.Since(begin); took > d {
		t.Errorf("calls work %v after the backend's return, want at most %v", took, d)
	}
}

func backendStops(t *trial) {
	t.serve(trickle(nil))
	s, _ := t.begin(t.client, call{})
	// Before culvert would ask a silent backend for a sign of life.
	t.endsWithin(9*time.Second, "a call whose backend was stopped", func() {
		t.backend.server.Stop()
		r := s.anyEnd()
		if r.status == nil {
			t.Fatalf("the call ended without a status: %v", r.err)
		}
		t.wantCulvert(r, codes.Unavailable, report.ReasonUpstreamReset)
		t.wantSent(r, "maybe")
	})
}

// backendStopsGracefully sends GOAWAY; the running call continues to its end.
func backendStopsGracefully(t *trial) {
	next := make(chan struct{})
	t.serve(t.lastReply(next))
	s, _ := t.begin(t.client, call{})
	stopped := make(chan struct{})
	go func() { defer close(stopped); t.backend.server.GracefulStop() }()
	defer func() { <-stopped }()
	// The backend has begun to stop when it takes no more connections.
	t.awaitRefused(t.backend.address)
	close(next)
	t.wantOK(s.end(), hello)
}

// awaitRefused waits until nobody listens on the address.
func (t *trial) awaitRefused(address string) {
	t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		_ = c.Close() // it was accepted once too often
		select {
		case <-poll.C:
		case <-t.ctx.Done():
			t.Fatalf("%s still accepts connections", address)
		}
	}
}

func backendRestarts(t *trial) {
	t.startBackend(ownHost()+":0", echo)
	t.startCulvert(t.backend.address)
	t.startClient(t.address)
	t.wantOK(t.unary(call{}, hello), hello)
	t.backend.stop()
	address := t.backend.address
	r := t.unary(call{}, hello)
	if r.status.Code() != codes.Unavailable {
		t.Errorf("status %v, want UNAVAILABLE", r.status)
	}
	t.startBackend(address, echo)
	t.wantServedWithin(servedAgain, hello)
}

func deniedMethod(t *trial) {
	t.serve(echo, func(c *bridge.Config) { c.DenyMethods = []string{"culvert.test.Scenario/Den*"} })
	t.wantRefused(call{method: "/culvert.test.Scenario/Denied"}, codes.Unimplemented, report.ReasonNoRoute)
	t.noneReached()
}

func allowedMethods(t *trial) {
	t.serve(echo, func(c *bridge.Config) {
		c.AllowMethods = []string{"culvert.test.Scenario/*", "grpc.channelz.v1.Channelz/*"}
	})
	t.wantRefused(call{method: "/culvert.test.Other/Call"}, codes.Unimplemented, report.ReasonNoRoute)
	t.noneReached()
	t.wantOK(t.unary(call{method: "/grpc.channelz.v1.Channelz/GetServers"}, hello), hello)
}

func insideServices(t *trial) {
	t.serve(echo)
	for _, method := range []string{"/grpc.channelz.v1.Channelz/GetServers", "/grpc.binarylog.v1.BinaryLog/Read"} {
		t.wantRefused(call{method: method}, codes.Unimplemented, report.ReasonNoRoute)
	}
	t.noneReached()
}
