package bridge

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestWithoutMemory: without memory for calls a WebSocket is still opened, to
// tell its call so; a tunnel, which tells nobody anything, isn't. Without any,
// who is there gets one answer, and nobody else gets in.
func TestWithoutMemory(t *testing.T) {
	const (
		grpcWeb   = "POST /a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web+proto\r\ncontent-length: 0\r\n\r\n"
		upgrade   = "GET /a.B/C HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: "
		webSocket = upgrade + "grpc-websockets\r\n\r\n"
		tunnel    = upgrade + tunnelName + "\r\n\r\n"
	)
	var spent, gone atomic.Bool
	obs := newObserver()
	s := newServer(t, Config{Backend: refusing, Observer: obs, MemorySpent: spent.Load, MemoryGone: gone.Load})
	address := serve(t, s)
	for _, row := range []struct {
		name        string
		spent, gone bool
		ask         string
		want        int
	}{
		{"a WebSocket while there is some", false, false, webSocket, http.StatusSwitchingProtocols},
		{"a tunnel while there is some", false, false, tunnel, http.StatusSwitchingProtocols},
		{"a call without", true, false, grpcWeb, http.StatusOK}, // the status is in its trailers
		{"a WebSocket without", true, false, webSocket, http.StatusSwitchingProtocols},
		{"a tunnel without", true, false, tunnel, http.StatusServiceUnavailable},
		{"a call without any", true, true, grpcWeb, http.StatusOK},
		{"a WebSocket without any", true, true, webSocket, http.StatusServiceUnavailable},
		{"a tunnel without any", true, true, tunnel, http.StatusServiceUnavailable},
		{"a connection without any", true, true, "", http.StatusServiceUnavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			connected := row.ask != ""
			spent.Store(row.spent && !connected)
			gone.Store(row.gone && !connected)
			conn, err := (&net.Dialer{}).DialContext(within(t, patience), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience)) // it is open
			from := bufio.NewReader(conn)
			ask := func(request string) *http.Response {
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				res, err := http.ReadResponse(from, nil)
				if err != nil {
					t.Fatal(err)
				}
				return res
			}
			if connected { // it is accepted once a call was answered on it
				before := ask(grpcWeb)
				_, _ = io.Copy(io.Discard, before.Body) // the next answer shows if it failed
				_ = before.Body.Close()                 // as above
				spent.Store(row.spent)
				gone.Store(row.gone)
			}
			res := ask(row.ask)
			defer res.Body.Close()
			if res.StatusCode != row.want {
				t.Fatalf("answered %d, want %d", res.StatusCode, row.want)
			}
			if row.want == http.StatusServiceUnavailable {
				body, _ := io.ReadAll(res.Body) // what came is judged
				if res.Header.Get("Retry-After") != "5" || !strings.Contains(string(body), report.KeyMemory) {
					t.Errorf("the answer %q, Retry-After %q, doesn't name %s or when to come back", body, res.Header.Get("Retry-After"), report.KeyMemory)
				}
			}
			if !row.spent {
				return
			}
			if r := await(t, "the refusal", obs.refused); r.Key != report.KeyMemory || r.Reason != report.ReasonLimitExceeded || r.Peer == "" {
				t.Errorf("the Observer is told of %+v", r)
			}
		})
	}
}
