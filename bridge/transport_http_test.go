package bridge

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// TestCutReadEndsTheContext checks what httpStream.readCut relies on: after a read
// that a past deadline broke off, the context of an HTTP/1.1 request has ended, so
// net/http's connection can serve no further call.
func TestCutReadEndsTheContext(t *testing.T) {
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := errors.Join(rc.EnableFullDuplex(), rc.SetReadDeadline(socket.LongAgo)); err != nil {
			t.Error(err)
		}
		if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the read ends with %v, want %v", err, os.ErrDeadlineExceeded)
		}
		if r.Context().Err() == nil {
			t.Error("the context of a request whose read was cut goes on")
		}
	}))
	defer hs.Close()
	conn := tcpTo(t, hs.Listener.Addr().String())
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience)) // just opened
	if n, err := conn.Read(make([]byte, 1)); n == 0 {
		t.Errorf("no answer came: %v", err)
	}
}

// TestTrailersOnlyAnswerHasNoLength, by which HTTP/2 server it may be served: a
// client would take it for metadata.
func TestTrailersOnlyAnswerHasNoLength(t *testing.T) {
	backend := startBackend(t, func(grpc.ServerStream) error { return status.Error(codes.NotFound, "nothing") })
	client := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	defer client.CloseIdleConnections()
	client.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	for _, standard := range []bool{false, true} {
		address := serve(t, newServer(t, Config{Backend: Backend{Target: backend}, StandardHTTP2: standard}))
		r, err := http.NewRequestWithContext(within(t, patience), http.MethodPost, "http://"+address+"/a.B/C", bytes.NewReader(framed(0, nil)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("Te", "trailers")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body) // there is none
		_ = answer.Body.Close()
		if got := answer.Header.Get("Grpc-Status"); got != "5" {
			t.Errorf("by net/http: %v: the header has the status %q, want 5 in a Trailers-Only answer", standard, got)
		}
		if got, has := answer.Header["Content-Length"]; has {
			t.Errorf("by net/http: %v: the answer has the Content-Length %q", standard, got)
		}
	}
}

// TestUnknownCodingOfTheBodyIsRefusedFirst: before the call is admitted, so that it uses no
// quota.
func TestUnknownCodingOfTheBodyIsRefusedFirst(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	address := serve(t, newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Limits: Limits{Address: Quota{CallsPerSecond: 1}}}))
	const message = "\x00\x00\x00\x00\x01a"
	for range 3 {
		if _, body := postUnary(t, address, message, "Content-Type", "application/grpc-web+proto", "Content-Encoding", "br"); !strings.Contains(body, "grpc-status: 12\r\n") {
			t.Errorf("a body in br was answered with %q, want UNIMPLEMENTED", body)
		}
	}
	if _, body := postUnary(t, address, message, "Content-Type", "application/grpc-web+proto"); !strings.Contains(body, "grpc-status: 0\r\n") {
		t.Errorf("the first right call was answered with %q, want OK", body)
	}
}
