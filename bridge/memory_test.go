package bridge

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestWithoutMemory: where its address has all the memory there is, a client that is
// connected is told so in its call's own protocol, and a new connection gets one answer.
func TestWithoutMemory(t *testing.T) {
	const (
		grpcWeb   = "POST /a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web+proto\r\ncontent-length: 0\r\n\r\n"
		upgrade   = "GET /a.B/C HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: "
		webSocket = upgrade + "grpc-websockets\r\n\r\n"
		tunnel    = upgrade + tunnelName + "\r\n\r\n"
		room      = 1 << 20
	)
	obs := newObserver()
	s := newServer(t, Config{Backend: refusing, Observer: obs, Memory: room})
	address := serve(t, s)
	use := s.policy.Load().quotas.Call(s.edge.Own().Scope(), nil, address, nil)
	if err := use.Begin(""); err != nil {
		t.Fatal(err)
	}
	defer use.End()
	for _, row := range []struct {
		name  string
		spent bool
		ask   string
		want  int
	}{
		{"a WebSocket while there is some", false, webSocket, http.StatusSwitchingProtocols},
		{"a tunnel while there is some", false, tunnel, http.StatusSwitchingProtocols},
		{"a call without", true, grpcWeb, http.StatusOK}, // the status is in its trailers
		{"a WebSocket without", true, webSocket, http.StatusSwitchingProtocols},
		{"a connection without", true, "", http.StatusServiceUnavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			connected := row.ask != ""
			others := s.account.NewEntry()
			others.Own(use.Memory())
			defer others.Settle()
			spend := func() {
				if row.spent {
					others.Add(memory.Fixed, room)
				}
			}
			if !connected {
				spend()
			}
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
				spend()
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
