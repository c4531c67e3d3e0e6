package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// openTerminal returns the two ends of a terminal that nobody sits at.
func openTerminal(t testing.TB) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// Text that peers choose, in terminals' own language: clear the screen, set the
// title, the same in 8-bit codes, write right to left, begin a line of one's own.
var hostile = []string{
	"\x1b[2J", "\x1b]0;owned\x07", "\u009b31m", "\u202egnp.exe", "\nlevel=ERROR msg=forged", "\r                  forged", "\u2028forged", "\x7f",
}

// Where a terminal shows the log, no peer writes on it but by escape.
func TestHostileTextIsEscapedOnATerminal(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startOnTerminal(t, b.address, "--log-level", "debug")
	if strings.HasPrefix(c.output.all()[0], "{") {
		t.Errorf("the log on a terminal is JSON: %s", c.output.all()[0])
	}

	for _, text := range hostile {
		// From a client: what HTTP lets through of it.
		for _, head := range [][]string{
			{"POST /evil." + text + "/Method HTTP/1.1", "Host: " + c.address},
			{"POST " + wire.Unary + " HTTP/1.1", "Host: " + text},
			{"POST " + wire.Unary + " HTTP/1.1", "Host: " + c.address, "Origin: https://" + text},
			{"POST " + wire.Unary + " HTTP/1.1", "Host: " + c.address, "X-Request-Id: " + text},
			{"POST " + wire.Unary + " HTTP/1.1", "Host: " + c.address, "User-Agent: " + text},
			{"POST " + wire.Unary + " HTTP/1.1", "Host: " + c.address, "X-" + text + ": 1"},
			{"POST " + wire.Unary + " HTTP/1.1", "Host: " + c.address, "Grpc-Timeout: " + text},
			{"POST " + wire.Unary + " HTTP/1.1", "Host: " + c.address, "X-Bad-Bin: " + text},
			{"GET " + wire.Unary + " HTTP/1.1", "Host: " + c.address, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: " + text},
		} {
			send(t, c.address, "\x00\x00\x00\x00\x00", append(head, "Content-Type: application/grpc-web+proto", "Content-Length: 5")...)
		}
		// In the metadata of a WebSocket, which is text of its own.
		conn := dial(t, wire.WebSocket, c.address)
		md := http.Header{"x-request-id": {text}, "x-evil": {text}, "grpc-timeout": {text}}
		if call, err := conn.Post(t.Context(), wire.Unary, md, wire.Request(0, 0)); err == nil {
			finish(call, 0)
			call.Close()
		}
		// From the backend: a status.
		e := finish(post(t, dial(t, wire.GRPC, c.address), wire.Unary, probe.Script{Code: 3, Message: text, Trailer: []probe.Field{{Name: "x-bin", Value: "v"}}}), 0)
		if e.status == nil || e.status.Message != text {
			t.Errorf("the message %q came as %v", text, e)
		}
	}
	wantClean(t, c, `\u202egnp.exe`)
}

// A backend that is no gRPC server, and sends a page that draws on terminals.
func TestHostilePageIsEscapedOnATerminal(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Protocols: new(http.Protocols), ReadHeaderTimeout: 10 * time.Second}
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "<h1>"+strings.Join(hostile, " ")+"</h1>") // to culvert
	})
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) }) // until it is closed
	defer func() {
		_ = server.Close() // culvert may be connected
		serving.Wait()
	}()

	c := startOnTerminal(t, ln.Addr().String())
	e := finish(post(t, dial(t, wire.Web, c.address), wire.Unary, probe.Script{}), 0)
	if e.status == nil || e.status.Reason() != "UPSTREAM_NOT_GRPC" {
		t.Errorf("a page instead of an answer: %v, want UPSTREAM_NOT_GRPC", e)
	} else if strings.Contains(e.status.Message, "<h1>") {
		t.Errorf("the backend's page reached the client: %q", e.status.Message)
	}
	wantClean(t, c, `[2J`)
}

// wantClean wants the log of a drained culvert free of what peers could draw with,
// and the text shown, which is what is left of some of that, in it.
func wantClean(t *testing.T, c *culvert, shown string) {
	t.Helper()
	c.signal(t, unix.SIGTERM)
	c.wait(t, patience)
	log := c.output.all()
	if !strings.Contains(strings.Join(log, ""), shown) {
		t.Errorf("nothing was escaped: there is no %s in the log", shown)
	}
	for _, line := range log {
		line = strings.TrimSuffix(line, "\r") // the terminal's own
		for _, bad := range []string{"\x1b[2J", "\x1b]", "\x07", "\u009b", "\u202e", "\u2028", "\x7f", "\r"} {
			if strings.Contains(line, bad) {
				t.Errorf("the terminal was shown %q in %q", bad, line)
			}
		}
		if strings.HasPrefix(line, "level=ERROR msg=forged") || strings.HasPrefix(strings.TrimSpace(line), "forged") {
			t.Errorf("a peer wrote the line %q", line)
		}
	}
}
