package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/status"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/agent"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/edge"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A rig is an edge that agents reach directly. The e2e test has culvert between them.
type rig struct {
	edge    *edge.Edge
	agents  string // where they connect
	address string // for HTTP
	client  *http.Client
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{edge: edge.New(10 * time.Millisecond), client: &http.Client{Transport: new(http.Transport)}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service := grpc.NewServer()
	tunnelpb.RegisterEdgeServer(service, r.edge)
	state := health.NewServer()
	state.SetServingStatus(tunnelpb.Edge_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(service, state)
	var serving sync.WaitGroup
	serving.Go(func() { _ = service.Serve(listener) }) // ends with the server
	public := httptest.NewServer(r.edge.NewHandler())
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		public.Close()
		service.Stop()
		serving.Wait()
		r.edge.Wait()
	})
	r.agents, r.address = listener.Addr().String(), public.URL
	return r
}

// join starts an agent with a web server, and returns when the edge has it. leave ends it.
func (r *rig) join(t *testing.T, name string, handler http.HandlerFunc) (leave func()) {
	t.Helper()
	web := httptest.NewServer(handler)
	ctx, cancel := context.WithCancel(t.Context())
	a := agent.Agent{Name: name, Culvert: r.agents, Web: web.Listener.Addr().String(), Log: t.Logf}
	var running sync.WaitGroup
	running.Go(func() { a.Run(ctx) })
	leave = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(func() {
		leave()
		web.Close()
	})
	r.wait(t, name, true)
	return leave
}

// wait waits until the edge has an agent, or hasn't.
func (r *rig) wait(t *testing.T, name string, want bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err := poll(ctx, func() error {
		for _, a := range r.edge.Agents() {
			if a.Name == name {
				if want {
					return nil
				}
				return fmt.Errorf("the edge has %s", name)
			}
		}
		if want {
			return fmt.Errorf("the edge has no %s", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) request(t *testing.T, ctx context.Context, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.address+"/a%2Fb?c=d", body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// wantStatus sends a request without a body.
func (r *rig) wantStatus(t *testing.T, want int) {
	t.Helper()
	res, err := r.client.Do(r.request(t, t.Context(), nil))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != want {
		t.Errorf("the status is %s, want %d", res.Status, want)
	}
}

// The web server gets the request as it was, and the client the response.
func TestRequestAndResponse(t *testing.T) {
	r := newRig(t)
	r.join(t, "oslo", func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		w.Header().Add("X-Two", "1")
		w.Header().Add("X-Two", "2")
		w.WriteHeader(http.StatusTeapot)
		_, _ = fmt.Fprintln(w, req.Method, req.RequestURI, req.Host, req.ContentLength, req.Header.Get("X-Bytes"), string(body), err)
	})
	req := r.request(t, t.Context(), strings.NewReader("hello"))
	req.Host = "shop.example"
	req.Header.Set("X-Bytes", "a\xffb")
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	if want := "POST /a%2Fb?c=d shop.example 5 a\xffb hello <nil>\n"; string(got) != want || err != nil {
		t.Errorf("the web server saw %q, %v; want %q", got, err, want)
	}
	if res.StatusCode != http.StatusTeapot || len(res.Header["X-Two"]) != 2 {
		t.Errorf("the response is %s with %v", res.Status, res.Header)
	}
}

// Both bodies go on at the same time.
func TestConversation(t *testing.T) {
	r := newRig(t)
	r.join(t, "oslo", func(w http.ResponseWriter, req *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		for word := make([]byte, 5); ; {
			if _, err := io.ReadFull(req.Body, word); err != nil {
				return
			}
			_, _ = w.Write(word)
			_ = control.Flush()
		}
	})
	body, words := io.Pipe()
	go func() { _, _ = words.Write([]byte("first")) }() // ends when the request is read
	res, err := r.client.Do(r.request(t, t.Context(), body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	for _, want := range []string{"first", "again", "third"} {
		if want != "first" {
			_, _ = words.Write([]byte(want)) // the read below tells
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
			t.Fatalf("%q came back, %v; want %q", got, err, want)
		}
	}
	_ = words.Close()
	if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
		t.Errorf("then came %q, %v", rest, err)
	}
}

// A response that breaks off is no whole one for the client.
func TestBrokenResponse(t *testing.T) {
	r := newRig(t)
	read := make(chan struct{})
	r.join(t, "oslo", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		<-read
		panic(http.ErrAbortHandler)
	})
	res, err := r.client.Do(r.request(t, t.Context(), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	half := make([]byte, len("half"))
	if _, err := io.ReadFull(res.Body, half); err != nil {
		t.Fatal(err)
	}
	close(read)
	if rest, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("after %q the response ends with %q, without an error", half, rest)
	}
}

// A web server may answer before it has the whole body. The rest isn't sent to it.
func TestEarlyResponse(t *testing.T) {
	r := newRig(t)
	r.join(t, "oslo", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})
	body, upload := io.Pipe()
	defer func() { _ = upload.Close() }()
	res, err := r.client.Do(r.request(t, t.Context(), body)) // the body never ends
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("the status is %s", res.Status)
	}
}

// When a client leaves, the web server's work for it ends.
func TestClientLeaves(t *testing.T) {
	r := newRig(t)
	began, ended := make(chan struct{}), make(chan struct{})
	r.join(t, "oslo", func(_ http.ResponseWriter, req *http.Request) {
		close(began)
		<-req.Context().Done()
		close(ended)
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-began
		cancel()
	}()
	res, err := r.client.Do(r.request(t, ctx, nil))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the request ends with %v, %v", res, err)
	}
	select {
	case <-ended:
	case <-time.After(2 * time.Minute):
		t.Error("the web server still works")
	}
}

// An agent that leaves first serves the requests that it has.
func TestAgentLeaves(t *testing.T) {
	r := newRig(t)
	began, finish := make(chan struct{}), make(chan struct{})
	leave := r.join(t, "oslo", func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		<-finish
		_, _ = io.WriteString(w, "whole")
	})
	var leaving sync.WaitGroup
	leaving.Go(func() {
		<-began
		leave()
	})
	go func() {
		<-began
		r.wait(t, "oslo", false) // new requests don't go to it
		close(finish)
	}()
	res, err := r.client.Do(r.request(t, t.Context(), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if got, err := io.ReadAll(res.Body); string(got) != "whole" || err != nil {
		t.Errorf("the response is %s %q, %v", res.Status, got, err)
	}
	leaving.Wait()
	r.wantStatus(t, http.StatusServiceUnavailable)
}

// Without a web server there is no response, and the agent goes on.
func TestNoWebServer(t *testing.T) {
	r := newRig(t)
	var worksNow atomic.Bool
	r.join(t, "oslo", func(http.ResponseWriter, *http.Request) {
		if !worksNow.Swap(true) {
			panic(http.ErrAbortHandler)
		}
	})
	r.wantStatus(t, http.StatusBadGateway)
	r.wantStatus(t, http.StatusOK)
}

// Nobody gets a status that HTTP doesn't have.
func TestBadStatus(t *testing.T) {
	r := newRig(t)
	call := r.call(t, &tunnelpb.Frame{Part: &tunnelpb.Frame_Hello{Hello: &tunnelpb.Hello{Agent: "bad"}}})
	r.wait(t, "bad", true)
	for _, code := range []uint32{0, 101, 1000, 1<<32 - 1} {
		var asking sync.WaitGroup
		asking.Go(func() { r.wantStatus(t, http.StatusBadGateway) })
		id := nextRequest(t, call)
		if err := call.Send(&tunnelpb.Frame{Request: id, Part: &tunnelpb.Frame_Headers{Headers: &tunnelpb.Headers{Status: code}}}); err != nil {
			t.Fatal(err)
		}
		asking.Wait()
	}
}

// nextRequest reads until a request begins, and returns its id.
func nextRequest(t *testing.T, call grpc.BidiStreamingClient[tunnelpb.Frame, tunnelpb.Frame]) uint64 {
	t.Helper()
	for {
		frame, err := call.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if frame.GetHeaders() != nil {
			return frame.GetRequest()
		}
	}
}

// An agent that breaks the rules of frames loses its own stream, with the reason.
func TestBadAgents(t *testing.T) {
	r := newRig(t)
	frame := func(f *tunnelpb.Frame) func(uint64) *tunnelpb.Frame {
		return func(id uint64) *tunnelpb.Frame {
			f.Request = id
			return f
		}
	}
	for name, c := range map[string]struct {
		answer func(id uint64) *tunnelpb.Frame // to a request
		want   string
	}{
		"data without headers": {frame(&tunnelpb.Frame{Part: &tunnelpb.Frame_Data{Data: []byte("x")}}), "data outside its body"},
		"credit":               {frame(&tunnelpb.Frame{Part: &tunnelpb.Frame_Window{Window: 1 << 31}}), "the window is"},
		"nothing":              {frame(&tunnelpb.Frame{}), "none of a request"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			call := r.call(t, &tunnelpb.Frame{Part: &tunnelpb.Frame_Hello{Hello: &tunnelpb.Hello{Agent: "bad"}}})
			r.wait(t, "bad", true)
			var asking sync.WaitGroup
			asking.Go(func() { r.wantStatus(t, http.StatusBadGateway) })
			if err := call.Send(c.answer(nextRequest(t, call))); err != nil {
				t.Fatal(err)
			}
			wantInvalid(t, call, c.want)
			asking.Wait()
		})
	}
	t.Run("no_hello", func(t *testing.T) {
		wantInvalid(t, r.call(t, &tunnelpb.Frame{Request: 1, Part: &tunnelpb.Frame_Data{Data: []byte("x")}}), "must be hello")
	})
}

func (r *rig) call(t *testing.T, first *tunnelpb.Frame) grpc.BidiStreamingClient[tunnelpb.Frame, tunnelpb.Frame] {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+r.agents, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	call, err := tunnelpb.NewEdgeClient(conn).ForwardHTTP(t.Context())
	if err == nil {
		err = call.Send(first)
	}
	if err != nil {
		t.Fatal(err)
	}
	return call
}

func wantInvalid(t *testing.T, call grpc.BidiStreamingClient[tunnelpb.Frame, tunnelpb.Frame], want string) {
	t.Helper()
	for {
		_, err := call.Recv()
		if err == nil {
			continue // frames of the request
		}
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("the stream ends with %v, want %v with %q", err, codes.InvalidArgument, want)
		}
		return
	}
}
