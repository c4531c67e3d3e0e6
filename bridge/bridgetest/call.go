package bridgetest

import (
	"bytes"
	"cmp"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// open begins a call with the scenario's client.
func (t *trial) open(c call) *callT {
	t.Helper()
	return t.openWith(t.client, c)
}

func (t *trial) openWith(cl client, c call) *callT {
	t.Helper()
	c.method = cmp.Or(c.method, defaultMethod)
	s, err := cl.open(t.ctx, c)
	if err != nil {
		t.Fatalf("open %s: %v", c.method, err)
	}
	return &callT{t: t, stream: s}
}

// ask begins a call with a client whose request is hello.
func (t *trial) ask(cl client, c call) *callT {
	t.Helper()
	s := t.openWith(cl, c)
	s.send(hello)
	s.closeSend()
	return s
}

// unary makes a call with one message and returns its end.
func (t *trial) unary(c call, message []byte) result {
	t.Helper()
	return t.tryAsk(t.client, c, message).end()
}

// tryAsk is ask for a call whose answer may come before everything is sent. Then it tells
// more than the error of sending.
func (t *trial) tryAsk(cl client, c call, message []byte) *callT {
	t.Helper()
	s := t.openWith(cl, c)
	_ = s.stream.send(message)
	_ = s.stream.closeSend()
	return s
}

// attempt makes a call with hello that may be refused, cut, or not even begin.
func (t *trial) attempt(cl client, c call) result {
	t.Helper()
	s, err := cl.open(t.ctx, c)
	if err != nil {
		return result{err: err}
	}
	_ = s.send(hello) // refused already, maybe
	_ = s.closeSend()
	return (&callT{t: t, stream: s}).anyEnd()
}

// A callT is a stream whose errors fail the test.
type callT struct {
	t *trial
	stream
}

func (s *callT) send(b []byte) {
	s.t.Helper()
	if err := s.stream.send(b); err != nil {
		s.t.Fatalf("send %d bytes: %v", len(b), err)
	}
}

func (s *callT) sendRaw(b []byte) {
	s.t.Helper()
	if err := s.stream.sendRaw(b); err != nil {
		s.t.Fatalf("send %d bytes of frames: %v", len(b), err)
	}
}

// sendHalf sends half a message; a client whose body has a length has announced
// the whole.
func (s *callT) sendHalf() {
	s.t.Helper()
	half := frame(0, patterned(100))[:60]
	var err error
	switch h := s.stream.(type) {
	case *http1Stream:
		err = h.sendPart(half)
	case *http2Stream:
		err = h.sendPart(half)
	case *messageStream:
		err = h.sendHalf()
	default:
		err = s.stream.sendRaw(half)
	}
	if err != nil {
		s.t.Fatalf("send half a message: %v", err)
	}
}

func (s *callT) closeSend() {
	s.t.Helper()
	if err := s.stream.closeSend(); err != nil {
		s.t.Fatalf("half-close: %v", err)
	}
}

func (s *callT) header() metadata.MD {
	s.t.Helper()
	md, err := s.stream.header()
	if err != nil {
		s.t.Fatalf("header: %v", err)
	}
	return md
}

// recv returns a message, or fails the test.
func (s *callT) recv() []byte {
	s.t.Helper()
	b, err := s.stream.recv()
	if err != nil {
		s.t.Fatalf("receive: %v, status %v, want a message", err, s.stream.status())
	}
	return b
}

func (s *callT) wantNext(want []byte) {
	s.t.Helper()
	if got := s.recv(); !bytes.Equal(got, want) {
		s.t.Fatalf("got %q, want %q", got, want)
	}
}

// end reads to the call's end, which must be a status.
func (s *callT) end() result {
	s.t.Helper()
	r := s.anyEnd()
	if r.status == nil {
		s.t.Fatalf("the call ended without a status: %v", r.err)
	}
	return r
}

// anyEnd reads to the call's end, which may be a cut.
func (s *callT) anyEnd() (r result) {
	s.t.Helper()
	r.header, r.err = s.stream.header()
	if r.err != nil {
		return r
	}
	for {
		b, err := s.stream.recv()
		if err != nil {
			r.err = err
			break
		}
		r.messages = append(r.messages, b)
	}
	r.status, r.trailer, r.compressed = s.stream.status(), s.stream.trailer(), s.stream.compressed()
	return r
}

// neverOK reads to the call's end, which must not be OK.
func (s *callT) neverOK(name string) {
	s.t.Helper()
	if r := s.anyEnd(); r.status != nil && r.status.Code() == codes.OK {
		s.t.Errorf("%s: told as OK", name)
	}
}

// A result is everything that a client saw of a call.
type result struct {
	header, trailer metadata.MD
	messages        [][]byte
	status          *status.Status // nil: the call was cut
	err             error          // io.EOF with a status
	compressed      int
}

// retry returns culvert's retry delay, or 0.
func (r result) retry() time.Duration {
	for _, d := range r.status.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

func (r result) info() *errdetails.ErrorInfo {
	for _, d := range r.status.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "culvert" {
			return info
		}
	}
	return nil
}
