package e2e

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A hostileCase is what no honest client sends on a connection of its own, and what
// must come back for it. The tables are in the other hostile_*_test.go.
type hostileCase struct {
	name string
	send string // the bytes, after what the family begins a connection with
	fin  bool   // then the client sends no more
	want string // what the family's look writes down, or one of several by " | "
}

// A hostileFamily is a table and the connections that it is for.
type hostileFamily struct {
	name     string
	table    []hostileCase
	after    wire.Transport // of the good calls that follow
	begin    func(conn net.Conn) error
	end      string // sent behind the bytes
	inTunnel bool   // the bytes are those of the HTTP/2 inside
	// look reads what comes back until it is settled what that is: it was
	// answered, or the connection was closed. enough says that a text is wanted.
	look func(conn net.Conn, enough func(string) bool) (string, error)
}

var hostileFamilies = []hostileFamily{
	{name: "HTTP-1.1", table: hostileHTTP1, after: wire.Web, look: lookHTTP1},
	{name: "upgrade", table: hostileUpgrades, after: wire.WebSocket, look: lookHTTP1},
	{name: "grpc-web", table: hostileWeb, after: wire.Web, look: lookHTTP1},
	{name: "grpc-websockets", table: hostileWebSocket, after: wire.WebSocket, begin: beginWebSocket, look: lookWebSocket},
	{name: "h2ts", table: hostileTunnel, after: wire.Tunnel, begin: beginTunnel, look: lookWebSocket},
	{name: "HTTP-2", table: hostileHTTP2, after: wire.GRPC, begin: beginHTTP2, end: h2(http2.FramePing, 0, 0, areYouThere), look: lookHTTP2},
	{name: "HTTP-2_hosts", table: hostileHosts, after: wire.GRPC, begin: beginHTTP2, end: h2(http2.FramePing, 0, 0, areYouThere), look: lookHTTP2},
	{name: "HTTP-1.1_odd", table: oddHTTP1, after: wire.Web, look: lookHTTP1},
	{name: "grpc-websockets_odd", table: oddWebSocket, after: wire.WebSocket, begin: beginWebSocket, look: lookWebSocket},
	{name: "HTTP-2_odd", table: oddHTTP2, after: wire.GRPC, begin: beginHTTP2, end: h2(http2.FramePing, 0, 0, areYouThere), look: lookHTTP2},
	{name: "HTTP-2_preface", table: hostilePrefaces, after: wire.GRPC, look: lookHTTP2},
	{name: "h2ts_HTTP-2", table: hostileHTTP2, after: wire.Tunnel, begin: beginTunnel, end: h2(http2.FramePing, 0, 0, areYouThere), inTunnel: true, look: throughWebSocket(lookHTTP2)},
	{name: "h2ts_HTTP-2_odd", table: oddHTTP2, after: wire.Tunnel, begin: beginTunnel, end: h2(http2.FramePing, 0, 0, areYouThere), inTunnel: true, look: throughWebSocket(lookHTTP2)},
}

// hostileTime is how long an answer, or the connection's end, may take: less than the ten
// seconds after which culvert closes a connection that says nothing.
const hostileTime = 9 * time.Second

// Hostile bytes cost their sender its call or its connection, with a precise
// error, in time. The next call is served, and at the end nothing of it is left:
// no descriptor, no goroutine, no memory.
func TestHostileBytes(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "limits: {message_bytes: 1MiB}\n", args: []string{"--log-level", "debug"}})
	warm(t, c)
	descriptors, before := c.descriptors(t), c.rss(t)

	cases := 0
	var atRest map[string]int
	t.Run("cases", func(t *testing.T) { // ends when all of them have
		t.Run("none", func(t *testing.T) {
			t.Parallel()
			atRest = goroutinesAtRest(t, b)
		})
		for _, f := range hostileFamilies {
			for _, h := range f.table {
				cases++
				t.Run(f.name+"/"+strings.ReplaceAll(h.name, " ", "_"), func(t *testing.T) {
					t.Parallel()
					f.try(t, c.address, h)
					if err := works(t, f.after, c.address, hostileTime); err != nil {
						t.Errorf("the next call: %v", err)
					}
				})
			}
		}
	})
	b.idle(t, cutIsSeen)
	if err := eventually(patience, func() error { return sameDescriptors(t, c, descriptors) }); err != nil {
		t.Error(err)
	}
	grown := c.rss(t) - before
	t.Logf("%d cases; culvert grew by %d KiB", cases, grown/kib)
	if grown > 24*mib {
		t.Errorf("culvert grew by %d KiB, want up to %d", grown/kib, 24*kib)
	}
	for _, line := range c.output.all() { // net/http catches what panics
		if strings.Contains(line, "panic") || strings.Contains(line, `"level":"ERROR"`) {
			t.Errorf("culvert's log: %s", line)
		}
	}
	if t.Failed() {
		return // its log is of more use than its goroutines
	}
	wantGoroutines(t, c, atRest)
}

func sameDescriptors(t testing.TB, c *culvert, want int) error {
	if n := c.descriptors(t); n != want {
		return fmt.Errorf("%d file descriptors are open, %d were before", n, want)
	}
	return nil
}

// try sends the bytes of one case and looks at what comes back.
func (f hostileFamily) try(t *testing.T, address string, h hostileCase) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(hostileTime)) // just opened
	if f.begin != nil {
		if err := f.begin(conn); err != nil {
			t.Fatal(err)
		}
	}
	out := []byte(h.send + f.end)
	if f.inTunnel {
		out = tunnelMessage(out)
	}
	sent := make(chan error, 1) // one result
	go func() {                 // ends with the connection
		_, err := conn.Write(out)
		if err == nil && h.fin {
			err = conn.(*net.TCPConn).CloseWrite()
		}
		sent <- err
	}()
	wanted := func(got string) bool {
		for want := range strings.SplitSeq(h.want, " | ") {
			if got == want || strings.HasPrefix(want, "4xx") && strings.HasPrefix(got, "4") && got[min(3, len(got)):] == want[3:] {
				return true
			}
		}
		return false
	}
	got, err := f.look(conn, wanted)
	if !wanted(got) {
		t.Errorf("%q got %q, want %q", abridged(h.send), got, h.want)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("neither answered nor closed after %v", hostileTime)
	} else if err != nil {
		t.Error(err)
	}
	conn.Close()
	if err := <-sent; err != nil {
		t.Logf("not all was taken: %v", err)
	}
}

func abridged(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}
