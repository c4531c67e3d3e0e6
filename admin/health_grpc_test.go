package admin

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/internal/parts"
)

const (
	serving    = healthpb.HealthCheckResponse_SERVING
	notServing = healthpb.HealthCheckResponse_NOT_SERVING
	unknown    = healthpb.HealthCheckResponse_SERVICE_UNKNOWN
)

// dialHealth serves h as culvert does, and returns a client.
func dialHealth(t *testing.T, h *Health) healthpb.HealthClient {
	t.Helper()
	return dialServer(t, h.Server(slog.New(slog.DiscardHandler), nil))
}

func dialServer(t *testing.T, server *http.Server) healthpb.HealthClient {
	t.Helper()
	cc, err := grpc.NewClient(parts.Serve(t, server), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return healthpb.NewHealthClient(cc)
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestGRPCHealthIsReadiness: a client of grpc.health.v1 learns what /readyz says, and
// the state of each backend.
func TestGRPCHealthIsReadiness(t *testing.T) {
	h := new(Health)
	client := dialHealth(t, h)
	for _, step := range []struct {
		ready                  bool
		backends               []Backend
		whole, orders, noSuch  healthpb.HealthCheckResponse_ServingStatus
		readyz                 int
		readyzText             string
		ordersCode, noSuchCode codes.Code
	}{
		{false, nil, notServing, 0, 0, 503, "accepts no new calls", codes.NotFound, codes.NotFound},
		{true, nil, serving, 0, 0, 200, "ready\n", codes.NotFound, codes.NotFound},
		{true, []Backend{{Name: "orders"}}, serving, notServing, 0, 200, "ready\n", codes.OK, codes.NotFound},
		{true, []Backend{{Name: "orders", Needed: true, Cause: "refused\n\x1b[2J"}}, notServing, notServing, 0, 503, "health.depends_on can't take calls\nbackend orders: no connection takes calls: refused \ufffd[2J\n", codes.OK, codes.NotFound},
		{true, []Backend{{Name: "orders", Needed: true, Usable: true}}, serving, serving, 0, 200, "ready\n", codes.OK, codes.NotFound},
		{false, []Backend{{Name: "orders", Usable: true}}, notServing, notServing, 0, 503, "accepts no new calls", codes.OK, codes.NotFound},
	} {
		h.SetReady(step.ready)
		h.SetBackends(func() []Backend { return step.backends })
		for _, c := range []struct {
			service string
			want    healthpb.HealthCheckResponse_ServingStatus
			code    codes.Code
		}{{"", step.whole, codes.OK}, {"orders", step.orders, step.ordersCode}, {"users", step.noSuch, step.noSuchCode}} {
			got, err := client.Check(within(t), &healthpb.HealthCheckRequest{Service: c.service})
			if got.GetStatus() != c.want || status.Code(err) != c.code {
				t.Errorf("%+v: Check of %q: %v, %v; want %v, %v", step, c.service, got.GetStatus(), err, c.want, c.code)
			}
		}
		all := map[string]healthpb.HealthCheckResponse_ServingStatus{"": step.whole}
		if len(step.backends) > 0 {
			all["orders"] = step.orders
		}
		list, err := client.List(within(t), &healthpb.HealthListRequest{})
		got := make(map[string]healthpb.HealthCheckResponse_ServingStatus)
		for name, s := range list.GetStatuses() {
			got[name] = s.GetStatus()
		}
		if err != nil || !maps.Equal(got, all) {
			t.Errorf("%+v: List: %v, %v; want %v", step, got, err, all)
		}
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		if w.Code != step.readyz || !strings.Contains(w.Body.String(), step.readyzText) {
			t.Errorf("%+v: /readyz is %d %q", step, w.Code, w.Body)
		}
	}
}

// TestWatchTellsOfADrainAtOnce, and of backends.
func TestWatchTellsOfADrainAtOnce(t *testing.T) {
	h := new(Health)
	var mu sync.Mutex
	usable := false
	h.SetBackends(func() []Backend {
		mu.Lock()
		defer mu.Unlock()
		return []Backend{{Name: "orders", Usable: usable}}
	})
	client := dialHealth(t, h)
	watch := func(service string) func(want healthpb.HealthCheckResponse_ServingStatus) {
		stream, err := client.Watch(within(t), &healthpb.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		return func(want healthpb.HealthCheckResponse_ServingStatus) {
			t.Helper()
			got, err := stream.Recv()
			if err != nil || got.GetStatus() != want {
				t.Fatalf("Watch of %q: %v, %v; want %v", service, got.GetStatus(), err, want)
			}
		}
	}
	whole, orders, noSuch := watch(""), watch("orders"), watch("users")
	whole(notServing)
	orders(notServing)
	noSuch(unknown)
	h.SetReady(true)
	whole(serving)
	mu.Lock()
	usable = true
	mu.Unlock()
	orders(serving) // at the next look
	h.SetReady(false)
	whole(notServing)
	orders(notServing)
}

// TestWatchEndsWithTheServer: its client gets a status, and not only the end of the
// connection.
func TestWatchEndsWithTheServer(t *testing.T) {
	h := new(Health)
	server := h.Server(slog.New(slog.DiscardHandler), nil)
	stream, err := dialServer(t, server).Watch(within(t), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := server.Shutdown(within(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "culvert ends" {
		t.Errorf("the Watch ends with %v", err)
	}
}

// TestWatchLooksAtBackends at its interval, and doesn't repeat itself.
func TestWatchLooksAtBackends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := new(Health)
		h.SetReady(true)
		usable := make(chan bool, 1)
		now := false
		h.SetBackends(func() []Backend {
			select {
			case now = <-usable:
			default:
			}
			return []Backend{{Name: "orders", Usable: now}}
		})
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/grpc.health.v1.Health/Watch", bytes.NewReader(requestOf(t, "orders")))
		r.ProtoMajor = 2
		w := httptest.NewRecorder()
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.Handler().ServeHTTP(w, r)
		}()
		time.Sleep(10 * watchInterval)
		usable <- true
		time.Sleep(watchInterval)
		synctest.Wait()
		cancel()
		<-done
		if got, want := w.Body.String(), "\x00\x00\x00\x00\x02\x08\x02"+"\x00\x00\x00\x00\x02\x08\x01"; got != want {
			t.Errorf("the Watch says %q, want %q", got, want)
		}
		if h.watches.running != 0 {
			t.Errorf("%d Watches run", h.watches.running)
		}
	})
}

// TestWatchesShareTheirLooks: however many there are, the backends are asked for their
// state a few times a second.
func TestWatchesShareTheirLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := new(Health)
		var looks atomic.Int64
		h.SetBackends(func() []Backend {
			looks.Add(1)
			return []Backend{{Name: "orders"}}
		})
		ctx, cancel := context.WithCancel(t.Context())
		var watches sync.WaitGroup
		for range maxWatches {
			time.Sleep(watchInterval / maxWatches)
			watches.Go(func() {
				r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/grpc.health.v1.Health/Watch", bytes.NewReader(requestOf(t, "orders")))
				r.ProtoMajor = 2
				h.Handler().ServeHTTP(httptest.NewRecorder(), r)
			})
		}
		time.Sleep(10 * watchInterval)
		cancel()
		watches.Wait()
		if got, most := looks.Load(), int64(11*watchInterval/lookInterval)+1; got > most || got < 10 {
			t.Errorf("%d looks in 11 s, want at most %d", got, most)
		}
	})
}

// TestWatchesAreBounded: further ones are refused, and the place of one that ends is
// free again.
func TestWatchesAreBounded(t *testing.T) {
	h := new(Health)
	h.watches.running = maxWatches - 1
	client := dialHealth(t, h)
	ctx, cancel := context.WithCancel(within(t))
	first, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Recv(); err != nil {
		t.Fatal(err)
	}
	second, err := client.Watch(within(t), &healthpb.HealthCheckRequest{})
	if err == nil {
		_, err = second.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a Watch too many: %v", err)
	}
	cancel()
	for { // the end of the first is told to nobody
		third, err := client.Watch(within(t), &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = third.Recv()
		}
		if err == nil {
			break
		}
		if status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
	}
}

// TestWrongHealthRequests get a status, and cost nothing else.
func TestWrongHealthRequests(t *testing.T) {
	h := new(Health)
	client := dialHealth(t, h)
	for what, want := range map[string]struct {
		service string
		option  grpc.CallOption
		code    codes.Code
	}{
		"a long name":  {strings.Repeat("a", maxHealthRequest), grpc.EmptyCallOption{}, codes.ResourceExhausted},
		"a compressed": {strings.Repeat("a", 500), grpc.UseCompressor(gzip.Name), codes.Unimplemented},
	} {
		if _, err := client.Check(within(t), &healthpb.HealthCheckRequest{Service: want.service}, want.option); status.Code(err) != want.code {
			t.Errorf("%s: %v, want %v", what, err, want.code)
		}
	}
	for body, want := range map[string]string{
		"":                                 "3 the request has no message",
		"\x00\x00\x00\x00":                 "3 the request has no message",
		"\x00\x00\x00\x00\x02\x0a":         "3 the message is cut off",
		"\x00\xff\xff\xff\xff":             "8 the message is over the limit of 1024 bytes",
		"\x00\x00\x00\x00\x01\x0a":         "3 the message is no HealthCheckRequest",
		"\x00\x00\x00\x00\x03\x0a\x01\xff": "3 the message is no HealthCheckRequest",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/grpc.health.v1.Health/Check", strings.NewReader(body))
		r.ProtoMajor = 2
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, r)
		if got := w.Header().Get("Grpc-Status") + " " + w.Header().Get("Grpc-Message"); got != want || w.Body.Len() > 0 {
			t.Errorf("%q: %q and %q, want %q", body, got, w.Body, want)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/grpc.health.v1.Health/Watch", nil)
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusHTTPVersionNotSupported {
		t.Errorf("over HTTP/1.1: %d %q", w.Code, w.Body)
	}
}

// requestOf returns a request in gRPC's frame.
func requestOf(t testing.TB, service string) []byte {
	t.Helper()
	message, err := proto.Marshal(&healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// FuzzReadHealth: a request is one name in a frame, or an error with a code.
func FuzzReadHealth(f *testing.F) {
	f.Add(requestOf(f, ""))
	f.Add(requestOf(f, "orders"))
	f.Add([]byte("\x01\x00\x00\x00\x00"))
	f.Add([]byte("\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var request healthpb.HealthCheckRequest
		code, err := readHealth(bytes.NewReader(in), &request)
		switch {
		case (err == nil) != (code == codes.OK):
			t.Errorf("%q: %v with %v", in, code, err)
		case err == nil && len(request.GetService()) > maxHealthRequest:
			t.Errorf("%q: a name of %d bytes", in, len(request.GetService()))
		}
	})
}
