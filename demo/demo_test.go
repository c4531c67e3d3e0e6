package demo

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// running is a demo in the background, with its output.
type running struct {
	lines *bufio.Scanner
	stop  func() error // ends it and returns what Run returned
}

func startDemo(t *testing.T, run func(context.Context, Config) error, listen string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1) // Run's result
	go func() {
		err := run(ctx, Config{NewBridge: newBridge, Listen: listen, Out: write, Version: "test"})
		_ = write.CloseWithError(err) // never fails
		ended <- err
	}()
	d := &running{lines: bufio.NewScanner(read)}
	d.stop = func() error {
		cancel()
		for d.lines.Scan() { // nobody else reads on
		}
		return <-ended
	}
	return d
}

// until reads up to a line that matches and returns the pattern's first group.
func (d *running) until(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for d.lines.Scan() {
		if m := re.FindStringSubmatch(d.lines.Text()); m != nil {
			return m[1]
		}
	}
	t.Fatalf("it ended without a line like %q: %v", pattern, d.lines.Err())
	return ""
}

func TestFirstURLIsThePageAndCallsAreShown(t *testing.T) {
	d := startDemo(t, Run, freePorts)
	url := d.until(t, `(https?://\S+)`)
	d.until(t, `(Ctrl-C)`)
	c := newChecker("")
	defer c.client.CloseIdleConnections()
	if _, text := ask(t, c.client, http.MethodGet, url, http.NoBody); !strings.Contains(text, "<title>culvert demo</title>") {
		t.Errorf("%s gives %q, want the page", url, text)
	}
	end, err := callWeb(t.Context(), c.client, strings.TrimSuffix(url, "/"), "/culvert.demo.v1.Demo/None", nil, &healthpb.HealthCheckRequest{}, func([]byte) error { return nil })
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown method ended with %v, %v, want UNIMPLEMENTED", end, err)
	}
	d.until(t, `(UNIMPLEMENTED +grpc-web +culvert\.demo\.v1\.Demo/None)`)
	if err := d.stop(); err != nil {
		t.Errorf("the end is reported as %v, want nil", err)
	}
}

func TestTakenPortIsReplaced(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	d := startDemo(t, Run, taken.Addr().String())
	instead := d.until(t, `^`+regexp.QuoteMeta(taken.Addr().String())+` .* (127\.0\.0\.1:\d+)\b`)
	if url := d.until(t, `http://(\S+)/`); url != instead {
		t.Errorf("the page is on %s, want %s as said", url, instead)
	}
	if err := d.stop(); err != nil {
		t.Error(err)
	}
}

// The backend and its proxy stay on loopback when the page listens on all
// addresses.
func TestBackendsProxyIsOnLoopback(t *testing.T) {
	runStageOn(t, "0.0.0.0:0", newServer(0), func(_ context.Context, s *stage) {
		if !tcpAddr(s.pageListener).IP.IsUnspecified() || !tcpAddr(s.proxyListener).IP.IsUnspecified() {
			t.Errorf("the page and its proxy are on %s and %s, want all addresses", s.pageListener.Addr(), s.proxyListener.Addr())
		}
		if !tcpAddr(s.backendListener).IP.IsLoopback() || !tcpAddr(s.backendProxyListener).IP.IsLoopback() {
			t.Errorf("the backend and its proxy are on %s and %s, want loopback addresses", s.backendListener.Addr(), s.backendProxyListener.Addr())
		}
		for _, viaProxy := range []bool{false, true} {
			r, err := s.callNative(t.Context(), laneDirect, viaProxy)
			if err != nil {
				t.Fatal(err)
			}
			if answered := r.Calls[0].Answered; answered == viaProxy {
				t.Errorf("via the proxy %v: got %+v, want the backend's answer only without the proxy", viaProxy, r)
			}
		}
	})
}

func TestImpossibleAddressIsAnError(t *testing.T) {
	for name, run := range map[string]func(context.Context, Config) error{"demo": Run, "backend": RunBackend} {
		if err := startDemo(t, run, "192.0.2.1:0").stop(); err == nil {
			t.Errorf("%s: an address that isn't this machine's is no error", name)
		}
	}
}

func TestBackendServesAlone(t *testing.T) {
	d := startDemo(t, RunBackend, freePorts)
	conn, err := grpc.NewClient(d.until(t, `listens on (\S+)`), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
	if err := d.stop(); err != nil {
		t.Error(err)
	}
}

// TestStoppedBeforeItServes: an interrupt at that moment isn't a failure.
func TestStoppedBeforeItServes(t *testing.T) {
	ln, err := net.Listen("tcp", freePorts)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer()
	server.Stop()
	if err := serveGRPC(server, ln); err != nil {
		t.Error(err)
	}
}

func TestOriginsAreTheDemosOwn(t *testing.T) {
	got := origins(net.IPv4(127, 0, 0, 1), 80, 81)
	want := []string{"http://localhost:80", "http://localhost:81", "http://127.0.0.1:80", "http://127.0.0.1:81"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := origins(net.IPv6unspecified, 80); !slices.Contains(got, "http://127.0.0.1:80") || !slices.Contains(got, "http://localhost:80") {
		t.Errorf("on all addresses: got %q, want loopback among them", got)
	}
}

func TestTextFromPeersCantActOnATerminal(t *testing.T) {
	var out strings.Builder
	term := newTerminal(&out, true)
	hostile := "a\x1b[2Jb\r\nc\u009b31md\u202ee\x00"
	term.call(Call{Transport: "grpc", Method: "/" + hostile, Status: status.New(codes.Internal, hostile), Duration: time.Second})
	term.refused(Refusal{Reason: "ORIGIN_DENIED", Peer: "127.0.0.1", Detail: hostile})
	term.check("a check", hostile, nil)
	plain := regexp.MustCompile(`\x1b\[\d+m`).ReplaceAllString(out.String(), "")
	if strings.ContainsAny(plain, "\x1b\r\u009b\u202e\x00") || strings.Count(plain, "\n") != 3 {
		t.Errorf("got %q, want three lines without a character that acts", plain)
	}
	if want := `a\u001b[2Jb\u000d\u000ac\u009b31md\u202ee\u0000`; strings.Count(plain, want) != 4 {
		t.Errorf("got %q, want %s four times", plain, want)
	}
	if got := printable(strings.Repeat("é", maxPeerText+1)); got != strings.Repeat("é", maxPeerText)+"…" {
		t.Errorf("got %q, want it cut short", got)
	}
}

func TestColourIsAsked(t *testing.T) {
	var out strings.Builder
	newTerminal(&out, false).call(Call{Status: status.New(codes.OK, "")})
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("got %q, want no colour", out.String())
	}
}
