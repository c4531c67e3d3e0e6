package bridgetest

import (
	"bytes"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
)

// chaosScenarios cut at many moments. They check that a call reported as OK was
// whole, at both ends, and that every other call ends with a status.
var chaosScenarios = []scenario{
	{"backend's connection cut again and again", streamedReplies, backendCutOften},
	{"client's connection cut in the last bytes of its request", plaintext | parted, clientCutLate},
	{"cancel at any moment", streamedReplies, cancelAnyMoment},
	{"drain under load", 0, drainUnderLoad},
}

// backendCutOften has a relay in front of the backend that cuts after an increasing
// number of answer bytes, while calls run beside each other.
func backendCutOften(t *trial) {
	want := numbered(20)
	t.startBackend("", replyWith(want...))
	r := startRelay(t, t.backend.address, false)
	t.atEnd(r.close)
	t.startCulvert(r.address)
	t.startClient(t.address)
	ended := make(map[codes.Code]int)
	for round := range 15 {
		r.how.Store(int32(round % 2))
		t.wantServedWithin(servedAgain, want...)
		r.backLeft.Store(int64(50 + 190*round)) // four answers have some 2200
		var calls []*callT
		for range 4 {
			calls = append(calls, t.tryAsk(t.client, call{}, hello))
		}
		for _, s := range calls {
			got := s.end()
			ended[got.status.Code()]++
			switch got.status.Code() {
			case codes.OK:
				t.wantOK(got, want...)
			case codes.Unavailable:
				if len(got.messages) > len(want) || !bytes.Equal(bytes.Join(got.messages, nil), bytes.Join(want[:len(got.messages)], nil)) {
					t.Errorf("messages %s before the cut", abridged(got.messages))
				}
			default:
				t.Errorf("status %v, want OK or UNAVAILABLE", got.status)
			}
		}
		r.backLeft.Store(-1)
	}
	if ended[codes.OK] == 0 || ended[codes.Unavailable] == 0 {
		t.Errorf("calls ended as %v, want some OK and some cut", ended)
	}
	t.wantServedWithin(servedAgain, want...)
}

// clientCutLate: wherever the request is cut, the backend either sees all of its
// messages before its end, or never sees the end. Each transport is cut at each of the last
// bytes, which are its frames' ends, and at its part of those before. Their step is odd, since
// odd cuts are by RST and even ones by FIN.
func clientCutLate(t *trial) {
	want := numbered(3)
	if t.transport.lacks(manyRequests) != "" {
		want = want[:1]
	}
	t.serve(func(c *backendCall) error {
		got, err := c.recvAll()
		if err == nil && len(got) != len(want) {
			t.Errorf("the backend saw the end after %d messages of %d", len(got), len(want))
		}
		for i, m := range got {
			if !bytes.Equal(m, want[i]) {
				t.Errorf("the backend got message %d as %.40q", i, m)
			}
		}
		if err != nil {
			return err
		}
		return c.send(hello)
	})
	served, cutOff := 0, 0
	const beyondAll = 1 << 30
	through := func(left int64, how cut) int64 {
		r := startRelay(t, t.address, false)
		defer r.close()
		r.how.Store(int32(how))
		r.forthLeft.Store(left)
		cl := t.dial(&dialer{address: r.address})
		defer cl.close()
		s, err := cl.open(t.ctx, call{method: defaultMethod})
		if err != nil {
			cutOff++
			return 0 // a tunnel or a WebSocket that never came up
		}
		for _, m := range want {
			_ = s.send(m) // cut, maybe
		}
		_ = s.closeSend()
		got := (&callT{t: t, stream: s}).anyEnd()
		if got.status != nil && got.status.Code() == codes.OK {
			served++
		} else {
			cutOff++
			s.cancel()
		}
		return beyondAll - r.forthLeft.Load()
	}
	whole := through(beyondAll, cutFIN)
	const last = 16
	first, step := t.part(5)
	for back := int64(0); back < min(whole, 80); back++ {
		if back < last || int(back)%step == first {
			through(whole-back, cut(back%2))
		}
	}
	if served == 0 || cutOff == 0 {
		t.Errorf("%d calls were served and %d cut, want some of each", served, cutOff)
	}
}

// cancelAnyMoment gives up calls at random moments.
func cancelAnyMoment(t *trial) {
	t.serve(flood)
	for i := range 40 {
		s, err := t.client.open(t.ctx, call{method: defaultMethod})
		if err != nil {
			t.Fatal(err)
		}
		steps := []func(){
			func() { _ = s.send(hello) }, // the errors are those of being cancelled
			func() { _ = s.closeSend() },
			func() { _, _ = s.header() },
			func() { _, _ = s.recv() },
			func() { _, _ = s.recv() },
		}
		for _, step := range steps[:i%(len(steps)+1)] {
			step()
		}
		s.cancel()
	}
	t.client.close()
	t.allEnded(t.observer)
	for _, c := range t.backend.seen() {
		t.awaitEvent("the backend's call ends", c.ended)
	}
	t.client = t.dial(&dialer{address: t.address})
	t.nextServed()
}

// drainUnderLoad: calls arrive all the time, on new connections. culvert serves, or
// answers, each call that it took. The kernel resets connections that it had not
// handed over when the listener closed, and those were no calls.
func drainUnderLoad(t *trial) {
	t.serve(echo)
	var served, told atomic.Int64
	loaded := make(chan struct{})
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for t.ctx.Err() == nil {
				end := t.oneCall()
				switch {
				case end == nil:
					return // reset, refused, or a tunnel that wasn't let in
				case end.status.Code() == codes.OK:
					if served.Add(1) == 20 {
						close(loaded)
					}
				case end.status.Code() == codes.Unavailable:
					if end.info() != nil {
						told.Add(1)
					}
					return
				default:
					t.Errorf("a call ended with %v, want OK or UNAVAILABLE", end.status)
					return
				}
			}
		})
	}
	t.awaitEvent("calls are served", loaded)
	wait := t.drain(patience)
	workers.Wait()
	wait()
	t.allEnded(t.observer)
	calls, _, _ := t.observer.ended()
	if int64(len(calls)) != served.Load()+told.Load() {
		t.Errorf("culvert took %d calls; the clients got OK from %d and were told of the end of %d", len(calls), served.Load(), told.Load())
	}
}

// oneCall makes a call on a connection of its own. It returns nil when there
// was none, or when the kernel reset it.
func (t *trial) oneCall() *result {
	cl, err := t.transport.dial(&dialer{address: t.address}, t.clientTLS)
	if err != nil {
		return nil
	}
	defer cl.close()
	r := t.attempt(cl, call{method: defaultMethod})
	if r.status == nil {
		return nil
	}
	return &r
}
