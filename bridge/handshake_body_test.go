package bridge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestHandshakeWithABody is refused on every transport, and ends the connection: the body
// would be read as frames of the WebSocket, here or by another hop.
func TestHandshakeWithABody(t *testing.T) {
	t.Parallel() // it waits for connections that close late
	address := serve(t, newServer(t, Config{Backend: nowhere, Routes: []Route{
		{Name: "protobuf", Backend: DefaultBackend, Message: &MessageRoute{Path: "/protobuf", Method: "a.B/C", Framing: FramingProtobuf}},
		{Name: "json", Backend: DefaultBackend, Message: &MessageRoute{Path: "/json", Method: "a.B/C", Framing: FramingJSON}},
		{Name: "opamp", Backend: DefaultBackend, Message: &MessageRoute{Path: "/opamp", Method: "a.B/C", Framing: FramingOpAMP}},
		{Name: "rest", Backend: DefaultBackend},
	}}))
	handshake := func(t *testing.T, path, protocol, more string) (code int, text string) {
		t.Helper()
		conn, err := new(net.Dialer).DialContext(within(t, patience), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
		request := "GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
		if protocol != "" {
			request += "Sec-WebSocket-Protocol: " + protocol + "\r\n"
		}
		if _, err := io.WriteString(conn, request+more); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(conn)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode == http.StatusSwitchingProtocols {
			return res.StatusCode, ""
		}
		body, _ := io.ReadAll(res.Body) // compared by the caller
		rest, err := io.ReadAll(in)
		if err != nil || len(rest) > 0 {
			t.Errorf("behind the refusal come %q and %v, want the end", rest, err)
		}
		return res.StatusCode, string(body)
	}
	for _, to := range []struct{ path, protocol string }{
		{"/a.B/C", "grpc-websockets"}, {"/", "h2ts"}, {"/protobuf", ""}, {"/json", ""}, {"/opamp", ""}, {"/nothing", ""}, {"/a.B/C", "unknown"},
	} {
		t.Run(strings.Trim(to.path+" "+to.protocol, " /"), func(t *testing.T) {
			for name, more := range map[string]string{
				"a length":           "Content-Length: 5\r\n\r\nhello",
				"a length, no body":  "Content-Length: 5\r\n\r\n",
				"chunks":             "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
				"no chunks":          "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
				"a length of chunks": "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
				"a large length":     "Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n",
				"another request":    fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(smuggled), smuggled),
			} {
				code, text := handshake(t, to.path, to.protocol, more)
				if code != http.StatusBadRequest || !strings.Contains(text, "has no body") {
					t.Errorf("%s: answered %d %q, want 400 that says why", name, code, text)
				}
			}
			code, text := handshake(t, to.path, to.protocol, "Content-Length: 0\r\n\r\n")
			if strings.Contains(text, "has no body") {
				t.Errorf("a length of 0: answered %d %q", code, text)
			}
		})
	}
}

const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
