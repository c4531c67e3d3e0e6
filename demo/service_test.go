package demo

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"slices"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/demo/demopb"
)

// dialService starts the service on loopback, without pauses in its answers.
func dialService(t *testing.T) *grpc.ClientConn {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(0)
	served := make(chan error, 1) // the server's last word
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it was stopped before it began
			t.Errorf("serving: %v", err)
		}
	})
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestMetadataIsEchoedAsHeadersAndTrailers(t *testing.T) {
	client := demopb.NewDemoClient(dialService(t))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-demo-word", "one", "x-demo-word", "two", "x-demo-raw-bin", "\x00\xff", "x-other", "kept")
	var header, trailer metadata.MD
	res, err := client.Echo(ctx, &demopb.EchoRequest{Text: "hello"}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil || res.GetText() != "hello" {
		t.Fatalf("got %v, %v, want the text back", res, err)
	}
	check := func(what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", what, got, want)
		}
	}
	check("header word", header.Get("x-demo-header-word"), []string{"one", "two"})
	check("header raw", header.Get("x-demo-header-raw-bin"), []string{"\x00\xff"})
	check("trailer word", trailer.Get("x-demo-trailer-word"), []string{"one", "two"})
	check("trailer raw", trailer.Get("x-demo-trailer-raw-bin"), []string{"\x00\xff"})
	var seen []string
	for _, m := range res.GetMetadata() {
		if m.GetKey() == "x-other" || m.GetKey() == "x-demo-raw-bin" {
			seen = append(seen, m.GetKey()+"="+string(m.GetValue()))
		}
	}
	check("metadata in the answer", seen, []string{"x-demo-raw-bin=\x00\xff", "x-other=kept"})
}

func TestStreamSendsItsHeadersBeforeAnyMessage(t *testing.T) {
	stream, err := demopb.NewDemoClient(dialService(t)).Converse(metadata.AppendToOutgoingContext(t.Context(), "x-demo-word", "one"))
	if err != nil {
		t.Fatal(err)
	}
	header, err := stream.Header()
	if got := header.Get("x-demo-header-word"); err != nil || !slices.Equal(got, []string{"one"}) {
		t.Errorf("got %q, %v, want the echo", got, err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if res, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("a conversation without a prompt ended with %v, %v, want io.EOF", res, err)
	}
}

func TestReserveRefusesWithDetails(t *testing.T) {
	client := demopb.NewDemoClient(dialService(t))
	for _, c := range []struct {
		req    *demopb.ReserveRequest
		code   codes.Code
		fields []string
		reason string
		retry  bool
	}{
		{&demopb.ReserveRequest{Name: "Ada", Seats: 2, Day: "Monday"}, codes.OK, nil, "", false},
		{&demopb.ReserveRequest{}, codes.InvalidArgument, []string{"name", "seats", "day"}, "RESERVATION_INVALID", false},
		{&demopb.ReserveRequest{Name: "Ada", Seats: 9, Day: "monday"}, codes.InvalidArgument, []string{"seats"}, "RESERVATION_INVALID", false},
		{&demopb.ReserveRequest{Name: "Ada", Seats: 2, Day: "friday"}, codes.ResourceExhausted, nil, "DAY_FULL", true},
	} {
		_, err := client.Reserve(t.Context(), c.req)
		st := status.Convert(err)
		if st.Code() != c.code {
			t.Errorf("%v: got %v, want %v", c.req, err, c.code)
		}
		var fields []string
		reason, retry := "", false
		for _, d := range st.Details() {
			switch d := d.(type) {
			case *errdetails.BadRequest:
				for _, v := range d.GetFieldViolations() {
					fields = append(fields, v.GetField())
				}
			case *errdetails.ErrorInfo:
				reason = d.GetReason()
			case *errdetails.RetryInfo:
				retry = d.GetRetryDelay().AsDuration() > 0
			}
		}
		if !slices.Equal(fields, c.fields) || reason != c.reason || retry != c.retry {
			t.Errorf("%v: got fields %q reason %q retry %v, want %q %q %v", c.req, fields, reason, retry, c.fields, c.reason, c.retry)
		}
	}
}

func TestCountdownEndsAtZero(t *testing.T) {
	client := demopb.NewDemoClient(dialService(t))
	stream, err := client.Countdown(t.Context(), &demopb.CountdownRequest{From: 3, IntervalMs: 1})
	if err != nil {
		t.Fatal(err)
	}
	var got []uint32
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, res.GetLeft())
	}
	if want := []uint32{3, 2, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, req := range []*demopb.CountdownRequest{{From: maxCountdown + 1}, {IntervalMs: math.MaxUint32}} {
		stream, err := client.Countdown(t.Context(), req)
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: got %v, want INVALID_ARGUMENT", req, err)
		}
	}
}

func TestSumAddsWhatWasSent(t *testing.T) {
	client := demopb.NewDemoClient(dialService(t))
	sum := func(numbers ...int64) (*demopb.SumResponse, error) {
		stream, err := client.Sum(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range numbers {
			if err := stream.Send(&demopb.SumRequest{Number: n}); err != nil {
				t.Fatal(err)
			}
		}
		return stream.CloseAndRecv()
	}
	if res, err := sum(40, -5, 7); err != nil || res.GetSum() != 42 || res.GetCount() != 3 {
		t.Errorf("got %v, %v, want 42 of 3", res, err)
	}
	if _, err := sum(math.MaxInt64, 1); status.Code(err) != codes.OutOfRange {
		t.Errorf("an overflow ended with %v, want OUT_OF_RANGE", err)
	}
}

func TestHealthAndReflectionAreServed(t *testing.T) {
	conn := dialService(t)
	res, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "culvert.demo.v1.Demo"})
	if err != nil || res.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health is %v, %v, want SERVING", res, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	list, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range list.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	if !slices.Contains(names, "culvert.demo.v1.Demo") {
		t.Errorf("reflection lists %q, which lacks the demo's service", names)
	}
}
