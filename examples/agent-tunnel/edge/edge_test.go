package edge

import (
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/frames"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	native    = tunnelpb.Transport_TRANSPORT_GRPC
	webSocket = tunnelpb.Transport_TRANSPORT_WEBSOCKET
)

func register(t *testing.T, e *Edge, name string, using tunnelpb.Transport, reachable ...tunnelpb.Transport) tunnelpb.Transport {
	t.Helper()
	answer, err := e.Register(t.Context(), &tunnelpb.RegisterRequest{Agent: name, Using: using, Reachable: reachable})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetTransport()
}

// An agent is told a transport that reaches the edge, or the one that it uses.
func TestRegisterNamesATransport(t *testing.T) {
	both := []tunnelpb.Transport{native, webSocket}
	for _, c := range []struct {
		percent   uint32
		using     tunnelpb.Transport
		reachable []tunnelpb.Transport
		want      tunnelpb.Transport
	}{
		{0, native, both, native},
		{0, webSocket, both, native},
		{100, native, both, webSocket},
		{100, webSocket, both, webSocket},
		{0, webSocket, both[1:], webSocket}, // behind a firewall
		{100, native, both[:1], native},
		{100, native, nil, native},
	} {
		e := New(0)
		e.Move(c.percent)
		if got := register(t, e, "oslo", c.using, c.reachable...); got != c.want {
			t.Errorf("at %d %%, an agent on %v that reaches the edge by %v is told %v, want %v", c.percent, c.using, c.reachable, got, c.want)
		}
	}
	if _, err := New(0).Register(t.Context(), &tunnelpb.RegisterRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an agent without a name gets %v", err)
	}
}

// About so many percent move, and those that have moved stay when more do.
func TestPercentage(t *testing.T) {
	e := New(0)
	var before []int
	for _, percent := range []uint32{1, 10, 25, 50, 99} {
		e.Move(percent)
		var moved []int
		for i := range 2000 {
			if register(t, e, fmt.Sprintf("agent-%d.example", i), native, native, webSocket) == webSocket {
				moved = append(moved, i)
			}
		}
		if got, want := float64(len(moved))/20, float64(percent); got < want-3 || got > want+3 {
			t.Errorf("%.1f %% moved, want %v", got, want)
		}
		for _, i := range before {
			if !slices.Contains(moved, i) {
				t.Errorf("at %d %% agent %d goes back", percent, i)
			}
		}
		before = moved
	}
}

// A sink keeps the frames that an agent would get.
type sink struct{ frames []*tunnelpb.Frame }

func (s *sink) Send(f *tunnelpb.Frame) error {
	s.frames = append(s.frames, f)
	return nil
}

// A draining stream begins no request, and tells its agent after its last one.
func TestDrainingStream(t *testing.T) {
	got := new(sink)
	s := &stream{sender: &frames.Sender{Stream: got}, working: new(sync.WaitGroup), open: make(map[uint64]*frames.Exchange)}
	x, err := s.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Receive(&tunnelpb.Frame{Part: &tunnelpb.Frame_Headers{Headers: new(tunnelpb.Headers)}}); err != nil {
		t.Fatal(err)
	}
	if err := x.Receive(&tunnelpb.Frame{Part: &tunnelpb.Frame_Trailers{Trailers: new(tunnelpb.Trailers)}}); err != nil {
		t.Fatal(err)
	}
	s.drain()
	if _, err := s.begin(t.Context()); !errors.Is(err, errDraining) {
		t.Errorf("a new request: %v, want %v", err, errDraining)
	}
	if len(got.frames) > 0 {
		t.Errorf("with a request under way the agent got %v", got.frames)
	}
	s.finish(x)
	if len(got.frames) != 1 || got.frames[0].GetDrain() == nil {
		t.Errorf("after the last request the agent got %v, want drain alone", got.frames)
	}
}

// An answerer is the agent of a stream: it answers each request at once.
type answerer struct{ stream *stream }

func (a *answerer) Send(f *tunnelpb.Frame) error {
	if f.GetHeaders() == nil {
		return nil
	}
	a.stream.mu.Lock()
	x := a.stream.open[f.GetRequest()]
	a.stream.mu.Unlock()
	return errors.Join(
		x.Receive(&tunnelpb.Frame{Part: &tunnelpb.Frame_Headers{Headers: &tunnelpb.Headers{Status: http.StatusOK}}}),
		x.Receive(&tunnelpb.Frame{Part: &tunnelpb.Frame_Trailers{Trailers: new(tunnelpb.Trailers)}}))
}

// A stream may begin to drain between the choice of it and its request: the next choice
// takes the request.
func TestRequestMeetsADrain(t *testing.T) {
	e := New(0)
	left := &stream{agent: "left", draining: true}
	there := &stream{agent: "there", working: &e.working, open: make(map[uint64]*frames.Exchange)}
	there.sender = &frames.Sender{Stream: &answerer{there}}
	e.add(left)
	e.add(there)
	for range 2 { // one of them meets the drain
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://any.localhost/", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := e.roundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	e.Wait()
}

// An answer that comes before the body was read ends its HTTP/1.1 connection alone.
func TestAnswerBeforeTheBodyIsRead(t *testing.T) {
	log := new(strings.Builder)
	server := httptest.NewUnstartedServer(New(0).NewHandler()) // it has no agents
	server.Config.ErrorLog = stdlog.New(log, "", 0)
	server.Start()
	for range 20 {
		res, err := server.Client().Post(server.URL, "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusServiceUnavailable || !res.Close {
			t.Errorf("without an agent: %s, and the connection is closed: %v", res.Status, res.Close)
		}
	}
	server.Close() // waits for its connections
	if log.Len() > 0 {
		t.Error(log)
	}
}
