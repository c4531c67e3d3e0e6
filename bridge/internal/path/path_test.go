package path

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/rules"
)

func newService() *Service {
	return New(Options{Words: rules.InFile, Account: memory.New(1<<30, 0), HeaderBytes: 64 << 10})
}

// dial connects to the server of a Service, which has no bridge before it.
func dial(t testing.TB, s *Service) *grpc.ClientConn {
	t.Helper()
	server := s.newServer()
	backend, stop := upstream.InProcess(server)
	cc, err := grpc.NewClient(backend.Target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{})),
		grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) { return backend.Dial(ctx, to) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cc.Close() // it is open
		stop()
		server.Stop()
	})
	return cc
}

// begin begins an Echo of the peer.
func begin(ctx context.Context, t testing.TB, cc *grpc.ClientConn, peer string, doctor bool) grpc.ClientStream {
	t.Helper()
	stream, err := cc.NewStream(metadata.NewOutgoingContext(ctx, Metadata(peer, doctor, nil)), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, Echo)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// echoed sends a message and reports how the call goes on: nil once the message has come back.
func echoed(stream grpc.ClientStream, message string) error {
	_ = stream.SendMsg([]byte(message)) // the next line has why it failed
	var got []byte
	if err := stream.RecvMsg(&got); err != nil {
		return err
	}
	if string(got) != message {
		return fmt.Errorf("%q came back as %q", message, got)
	}
	return nil
}

func TestBoundsOfACall(t *testing.T) {
	for name, c := range map[string]struct {
		doctor   bool
		message  string
		messages int // that come back
		says     string
	}{
		"messages":                  {false, "m", 8, "at most 8 messages (doctor) (begin another call, or set doctor for longer ones)"},
		"empty messages":            {false, "", 8, "at most 8 messages (doctor)"},
		"large messages":            {false, strings.Repeat("m", 64), 8, "at most 8 messages (doctor)"},
		"bytes, with the doctor on": {true, strings.Repeat("m", 64<<10), 16, "at most 1048576 bytes of messages (doctor) (begin another call)"},
	} {
		t.Run(name, func(t *testing.T) {
			stream := begin(parts.Within(t, parts.Patience), t, dial(t, newService()), "192.0.2.1", c.doctor)
			for i := range c.messages {
				if err := echoed(stream, c.message); err != nil {
					t.Fatalf("message %d: %v", i+1, err)
				}
			}
			st := status.Convert(echoed(stream, c.message))
			info := parts.ErrorInfo(t, st)
			if st.Code() != codes.ResourceExhausted || !strings.Contains(st.Message(), c.says) || info.GetDomain() != report.ErrorDomain || info.GetReason() != string(report.ReasonLimitExceeded) || info.GetMetadata()["limit"] != "doctor" {
				t.Errorf("one more: %v with %v", st, info)
			}
			end := Ending(upstream.Status{Status: st})
			if own, ok := end.(*ended); !ok || own.reason != report.ReasonLimitExceeded { //nolint:errorlint // it is wrapped by nothing
				t.Errorf("the bridge sees %v", end)
			}
		})
	}
}

// TestQuotas: an address has its share, by rate and at once, and all together have theirs.
func TestQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cc := dial(t, newService())
		takes := func(peer string) bool {
			t.Helper()
			err := echoed(begin(ctx, t, cc, peer, false), "m")
			if st := status.Convert(err); err != nil && (st.Code() != codes.ResourceExhausted || !strings.Contains(st.Message(), "too many calls of culvert.v1.Path") || !strings.Contains(fmt.Sprint(st.Details()), string(report.ReasonLimitExceeded))) {
				t.Fatalf("refused with %v", err)
			}
			return err == nil
		}
		most := func(peer string) (n int) {
			for takes(peer) {
				n++
			}
			return n
		}
		for second, want := range []int{20, 20, 20, 4, 0} { // 64 at once
			if got := most("192.0.2.1:1"); got != want {
				t.Errorf("in second %d, %d calls of one address begin, want %d", second, got, want)
			}
			time.Sleep(time.Second) // in the bubble
		}
		if !takes("192.0.2.2:1") {
			t.Error("another address is refused")
		}
		time.Sleep(time.Second)
		all := 0
		for i := range 50 {
			all += most(fmt.Sprintf("198.51.100.%d:1", i))
		}
		if all != 200 {
			t.Errorf("%d calls of all begin in a second, want 200", all)
		}
	})
}

func TestReportHasFactsAndNoValues(t *testing.T) {
	leaf := []byte("a certificate")
	sum := sha256.Sum256(leaf)
	facts := &Facts{
		Version: "1.2.3", Transport: "connect", HTTP: "HTTP/1.1", Certificates: [][]byte{leaf},
		TLS:    &tls.ConnectionState{Version: tls.VersionTLS13, NegotiatedProtocol: "h2"},
		Header: http.Header{"Authorization": {"Bearer secret"}, "Via": {"1.1 inside-a, 1.1 inside-b", "1.1 c"}, "X-Forwarded-For": {"10.0.0.1"}},
	}
	cc := dial(t, newService())
	var got []byte
	if err := cc.Invoke(metadata.NewOutgoingContext(parts.Within(t, parts.Patience), Metadata("192.0.2.1", true, facts)), Report, []byte(nil), &got); err != nil {
		t.Fatal(err)
	}
	message := new(structpb.Struct)
	if err := proto.Unmarshal(got, message); err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"secret", "inside", "10.0.0.1"} {
		if strings.Contains(string(text), value) {
			t.Errorf("the report has the value %q: %s", value, text)
		}
	}
	at, err := time.Parse(time.RFC3339, message.GetFields()["time"].GetStringValue())
	if err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("the time is %v, %v", at, err)
	}
	delete(message.GetFields(), "time")
	want := map[string]any{
		"version": "1.2.3", "transport": "connect", "http": "HTTP/1.1",
		"tls":     map[string]any{"version": "TLS 1.3", "alpn": "h2", "certificate_sha256": []any{hex.EncodeToString(sum[:])}},
		"headers": []any{"authorization", "via", "x-forwarded-for"},
		"proxies": map[string]any{"via": 3.0, "x-forwarded-for": 1.0},
	}
	if fmt.Sprint(message.AsMap()) != fmt.Sprint(want) {
		wanted, _ := json.Marshal(want) // for people
		t.Errorf("got  %s\nwant %s and the time", text, wanted)
	}
}

func TestReportIsBounded(t *testing.T) {
	facts := &Facts{Header: http.Header{}}
	for i := range 10_000 {
		facts.Header[fmt.Sprintf("X-%0200d", i)] = []string{""}
	}
	if n := len(facts.message(time.Now())); n > Large.MessageBytes {
		t.Errorf("a report has %d bytes, more than a message may", n)
	}
}

// TestNothingStartsWithoutACall, and Close ends what a call has started, also one that runs.
func TestNothingStartsWithoutACall(t *testing.T) {
	s := newService()
	if s.stop != nil {
		t.Error("the server runs")
	}
	u, err := s.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(parts.Within(t, parts.Patience))
	defer cancel(nil)
	stream, err := u.Open(ctx, cancel, upstream.Request{Method: Echo, Metadata: Metadata("192.0.2.1", false, nil), ID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	if _, err := stream.Recv(); err == nil {
		t.Error("a call has outlived Close")
	}
	u.Release()
	if _, err := s.Acquire(); err == nil {
		t.Error("a call begins after Close")
	}
}

// TestCloseKeepsNobodyWaiting: while Close waits for calls, another call is refused at once.
func TestCloseKeepsNobodyWaiting(t *testing.T) {
	s := newService()
	waits, end, refused := make(chan struct{}), make(chan struct{}), make(chan error)
	s.stop = func() {
		close(waits)
		<-end // as a handler may keep it
	}
	var closing sync.WaitGroup
	closing.Go(s.Close)
	parts.Await(t, "Close", waits)
	closing.Go(func() {
		_, err := s.Acquire()
		refused <- err
	})
	if err := parts.Await(t, "a call's refusal", refused); err == nil {
		t.Error("a call begins during Close")
	}
	close(end)
	closing.Wait()
}

// TestTicks: the messages come at their times.
func TestTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(t.Context(), Metadata("192.0.2.1", false, nil)))
		defer cancel()
		stream, err := dial(t, newService()).NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, Ticks)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(stream.SendMsg([]byte{}), stream.CloseSend()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for n := range 4 {
			var m []byte
			if err := stream.RecvMsg(&m); err != nil || len(m) != 0 {
				t.Fatalf("message %d: %q, %v", n, m, err)
			}
			if got, want := time.Since(began), time.Duration(n)*400*time.Millisecond; got != want {
				t.Errorf("message %d came after %v, want %v", n, got, want)
			}
		}
		if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
			t.Errorf("the call ended with %v", err)
		}
	})
}
