package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// smuggled is a whole call, to be hidden behind another request.
func smuggled(address, id string) string {
	body := wire.Frame(wire.Request(0, 0))
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: %d\r\n%s: %s\r\n\r\n%s",
		wire.Unary, address, len(body), probe.IDKey, id, body)
}

// answers sends text on one connection and returns every answer until the server
// closes it. closed is false if it does not within patience.
func answers(t testing.TB, address, text string, patience time.Duration) (got []exchange, closed bool) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()            // read to its end
	_ = conn.SetDeadline(time.Now().Add(patience)) // just opened
	if _, err := io.WriteString(conn, text); err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(in, nil)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return got, false
		case err != nil:
			return got, true
		}
		e := exchange{status: resp.StatusCode, header: resp.Header, close: resp.Close}
		body, err := io.ReadAll(resp.Body)
		if errors.As(err, &timeout) && timeout.Timeout() {
			return append(got, e), false
		}
		e.body = string(body)
		got = append(got, e)
	}
}

// Nothing behind an early answer or a refused upgrade is taken for a request.
func TestNothingIsServedBehindARefusal(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "limits: {message_bytes: 64KiB}\n", args: []string{"--allow-origin", "https://app.example.com"}})
	frame := func(flags byte, size int, payload string) string {
		b := wire.Prefix(size)
		b[0] = flags
		return string(b) + payload
	}
	call := func(method string, headers ...string) string {
		return "POST " + method + " HTTP/1.1\r\nHost: " + c.address + "\r\nContent-Type: application/grpc-web+proto\r\n" +
			strings.Join(append(headers, ""), "\r\n")
	}
	upgrade := func(headers ...string) string {
		return "GET " + wire.Bidi + " HTTP/1.1\r\nHost: " + c.address + "\r\n" + strings.Join(append(headers, "", ""), "\r\n")
	}
	http10 := func(request string) string { // from a client that would go on
		return strings.Replace(request, "HTTP/1.1", "HTTP/1.0", 1) + "Connection: keep-alive\r\n\r\n"
	}
	const socket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: grpc-websockets"
	script := func(s probe.Script) string { return probe.ScriptKey + ": " + s.String() }
	ends := script(probe.Script{Read: probe.ReadOne, Code: 7, Message: "enough"})

	for _, s := range []struct {
		name   string
		inBody bool // the hidden request is part of the body, as far as its length says
		chunks bool // … in a chunk that goes on
		text   string
		want   int // the HTTP status of the only answer
	}{
		{"malformed frame, known length", true, false, call(wire.Bidi) + "%s" + frame(2, 9, ""), 200},
		{"malformed frame, chunked", true, true, call(wire.Bidi, "Transfer-Encoding: chunked") + "\r\n5\r\n" + frame(2, 9, "") + "\r\n", 200},
		{"message over the limit, known length", true, false, call(wire.Bidi) + "%s" + frame(0, 128<<10, ""), 200},
		{"message over the limit, chunked", true, true, call(wire.Bidi, "Transfer-Encoding: chunked") + "\r\n5\r\n" + frame(0, 128<<10, "") + "\r\n", 200},
		{"the backend ends early, known length", true, false, call(wire.Bidi, ends) + "%s" + frame(0, 0, ""), 200},
		{"the backend ends early, chunked", true, true, call(wire.Bidi, ends, "Transfer-Encoding: chunked") + "\r\n5\r\n" + frame(0, 0, "") + "\r\n", 200},
		{"denied method, known length", true, false, call("/grpc.channelz.v1.Channelz/GetServers") + "%s" + frame(0, 0, ""), 200},
		{"denied method, chunked", true, true, call("/grpc.channelz.v1.Channelz/GetServers", "Transfer-Encoding: chunked") + "\r\n5\r\n" + frame(0, 0, "") + "\r\n", 200},
		{"malformed time-out", true, false, call(wire.Bidi, "Grpc-Timeout: soon") + "%s" + frame(0, 0, ""), 200},
		{"unknown coding", true, false, call(wire.Bidi, "Grpc-Encoding: br") + "%s" + frame(1, 0, ""), 200},
		{"two lengths", false, false, call(wire.Bidi, "Content-Length: 5", "Transfer-Encoding: chunked") + "\r\n5\r\n" + frame(0, 0, "") + "\r\n0\r\n\r\n", 200},
		{"chunked, to its end", false, false, call(wire.ClientStream, "Transfer-Encoding: chunked") + "\r\n5\r\n" + frame(0, 0, "") + "\r\n0\r\n\r\n", 200},
		{"text that is cut", false, false, strings.Replace(call(wire.Bidi, "Transfer-Encoding: chunked"), "grpc-web+proto", "grpc-web-text", 1) + "\r\n3\r\nAAA\r\n0\r\n\r\n", 200},
		{"refused origin, known length", true, false, call(wire.Bidi, "Origin: https://evil.example") + "%s", 403},
		{"refused origin, chunked", true, true, call(wire.Bidi, "Origin: https://evil.example", "Transfer-Encoding: chunked") + "\r\n", 403},
		{"refused host", true, false, strings.Replace(call(wire.Bidi), c.address, "evil.example", 1) + "%s", 403},
		{"no method", true, false, call("/nothing") + "%s", 404},
		{"unknown content type", true, false, strings.Replace(call(wire.Bidi), "grpc-web+proto", "octet-stream", 1) + "%s", 415},
		{"native gRPC over HTTP/1.1", true, false, strings.Replace(call(wire.Bidi), "grpc-web+proto", "grpc", 1) + "%s", 505},
		{"PUT", true, false, "PUT" + strings.TrimPrefix(call(wire.Bidi), "POST") + "%s", 405},
		{"HTTP/1.0 with chunks", false, false, http10(call(wire.ClientStream, "Transfer-Encoding: chunked")), 200},
		{"HTTP/1.0 with another coding", false, false, http10(call(wire.ClientStream, "Transfer-Encoding: identity")), 200},
		{"HTTP/1.0 with chunks and a length", false, false, http10(call(wire.ClientStream, "Transfer-Encoding: chunked", "Content-Length: 5")) + frame(0, 0, ""), 200},
		{"HTTP/1.0 with a length", false, false, http10(call(wire.ClientStream, "Content-Length: 5")) + frame(0, 0, ""), 200},
		{"HTTP/1.0, denied method", false, false, http10(call("/grpc.channelz.v1.Channelz/GetServers", "Transfer-Encoding: chunked")), 200},
		{"HTTP/1.0, refused origin", false, false, http10(call(wire.ClientStream, "Transfer-Encoding: chunked", "Origin: https://evil.example")), 403},
		{"HTTP/1.0, no method", false, false, http10(call("/nothing", "Transfer-Encoding: chunked")), 404},
		{"HTTP/1.0, preflight", false, false, http10("OPTIONS" + strings.TrimPrefix(call(wire.Unary, "Transfer-Encoding: chunked", "Origin: https://app.example.com", "Access-Control-Request-Method: POST"), "POST")), 204},
		{"HTTP/1.0, upgrade", false, false, http10(strings.TrimSuffix(upgrade(socket, "Transfer-Encoding: chunked"), "\r\n")), 426},
		{"upgrade: refused origin", false, false, upgrade(socket, "Origin: https://evil.example"), 403},
		{"upgrade: refused host", false, false, strings.Replace(upgrade(socket), c.address, "evil.example", 1), 403},
		{"upgrade: unknown subprotocol", false, false, upgrade(strings.Replace(socket, "grpc-websockets", "chat", 1)), 400},
		{"upgrade: unknown version", false, false, upgrade(strings.Replace(socket, "Version: 13", "Version: 8", 1)), 400},
		{"upgrade: no key", false, false, upgrade(strings.Replace(socket, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 1)), 400},
		{"upgrade: malformed key", false, false, upgrade(strings.Replace(socket, "dGhlIHNhbXBsZSBub25jZQ==", "x", 1)), 400},
		{"upgrade: two keys", false, false, upgrade(socket, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400},
		{"upgrade: not a method", false, false, strings.Replace(upgrade(socket), wire.Bidi, "/nothing", 1), 404},
		{"upgrade: stripped", false, false, upgrade(strings.Replace(socket, "Connection: Upgrade\r\nUpgrade: websocket\r\n", "", 1)), 426},
		{"upgrade: half stripped", false, false, upgrade(strings.Replace(socket, "Connection: Upgrade\r\n", "", 1)), 426},
		{"upgrade: to h2c", false, false, upgrade("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), 400},
		{"upgrade: a POST", false, false, "POST" + strings.TrimPrefix(upgrade(socket, "Content-Length: 0"), "GET"), 405},
	} {
		t.Run(strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			id := newID(t)
			hidden := smuggled(c.address, id)
			text := s.text + hidden
			switch {
			case s.chunks:
				text = s.text + fmt.Sprintf("%x\r\n%s\r\n", len(hidden)+1<<20, hidden) // and never ends
			case s.inBody:
				head, body, _ := strings.Cut(s.text, "%s")
				text = head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)+len(hidden)+1<<20) + body + hidden
			}
			got, closed := answers(t, c.address, text, 8*time.Second)
			if len(got) != 1 {
				t.Fatalf("%d answers, want 1: %+v", len(got), got)
			}
			status := got[0].status
			if status != s.want && !(s.want == 400 && status >= 400 && status < 500) && !(s.want == 405 && status >= 400 && status < 500) {
				t.Errorf("answered %d %q, want %d", status, got[0].body, s.want)
			}
			if status == http.StatusOK && strings.Count(got[0].body, "grpc-status:") != 1 && !strings.Contains(s.name, "text") {
				t.Errorf("the call ended with %q", got[0].body)
			}
			if !got[0].close {
				t.Errorf("the answer does not say that the connection closes: %v", got[0].header)
			}
			if !closed {
				t.Error("the connection was not closed")
			}
			if _, ok := b.saw(t, id); ok {
				t.Error("the hidden request reached the backend")
			}
		})
	}
}

// The control of the test above: behind a request that was read to its end, the
// next one on the connection is served.
func TestCompleteRequestKeepsItsConnection(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	ids := []string{newID(t), newID(t), newID(t)}
	var text strings.Builder
	for _, id := range ids {
		text.WriteString(smuggled(c.address, id))
	}
	got, closed := answers(t, c.address, text.String(), 4*time.Second)
	if len(got) != len(ids) || closed {
		t.Fatalf("%d answers of %d (closed: %v)", len(got), len(ids), closed)
	}
	for i, e := range got {
		if e.status != http.StatusOK || !strings.Contains(e.body, "grpc-status: 0\r\n") {
			t.Errorf("call %d: %d %q", i, e.status, e.body)
		}
		b.record(t, ids[i], probe.Ended, patience)
	}
}

// Bytes that came with the upgrade, in the same packet, belong to the WebSocket.
func TestBytesBehindAnUpgradeAreItsOwn(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	id := newID(t)
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()            // read to its end
	_ = conn.SetDeadline(time.Now().Add(patience)) // just opened
	var out bytes.Buffer
	fmt.Fprintf(&out, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: grpc-websockets\r\n\r\n", wire.Unary, c.address)
	for _, m := range [][]byte{
		[]byte("content-type: application/grpc-web+proto\r\n" + probe.IDKey + ": " + id + "\r\n"),
		append([]byte{0}, wire.Frame(wire.Request(0, 0))...),
		{1},
	} {
		out.Write(append([]byte{0x82, 0x80 | byte(len(m)), 0, 0, 0, 0}, m...)) // masked with zeros
	}
	if _, err := conn.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	_ = resp.Body.Close() // there is none
	var rest []byte
	for !bytes.HasSuffix(rest, []byte("\x88\x02\x03\xe8")) { // a close frame with 1000
		b, err := in.ReadByte()
		if err != nil {
			t.Fatalf("%v after %q", err, rest)
		}
		rest = append(rest, b)
	}
	if !bytes.Contains(rest, []byte("grpc-status: 0\r\n")) {
		t.Errorf("the call ended with %q", rest)
	}
	b.record(t, id, probe.Ended, patience)
}
