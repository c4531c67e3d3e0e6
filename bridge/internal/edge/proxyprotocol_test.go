package edge

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// headerConn is a connection that waits for its PROXY header, in a bubble.
func headerConn(t *testing.T, obs report.Observer) (c *clientConn, peer net.Conn) {
	t.Helper()
	e := testEdge(t, Options{Observer: obs})
	server, peer := net.Pipe()
	t.Cleanup(func() { _, _ = server.Close(), peer.Close() }) // a test may have
	c = e.newClient(server, e.own, e.o.Bounds(e.own))
	c.proxied = new(proxied)
	return c, peer
}

// TestSilentPeerOfAProxyPortIsCut after the time of a handshake, wherever in
// its header it falls silent, and counted.
func TestSilentPeerOfAProxyPortIsCut(t *testing.T) {
	for _, sent := range []string{"", "PROXY", "PROXY TCP4 203.0.113.9 127.0.0.1 4660", parts.PROXYHeader(t, "203.0.113.9:4660")[:20]} {
		synctest.Test(t, func(t *testing.T) {
			obs := newObserver()
			c, peer := headerConn(t, obs)
			go func() { _, _ = io.WriteString(peer, sent) }() // it ends with the bubble
			start := time.Now()
			n, err := c.Read(make([]byte, 1))
			if took := time.Since(start); n != 0 || !errors.Is(err, io.EOF) || took != HandshakeTimeout {
				t.Errorf("%q: read %d, %v after %v; want an end after %v", sent, n, err, took, HandshakeTimeout)
			}
			if r := <-obs.refused; r.Reason != report.ReasonBadRequest || r.Key != report.KeyProxyProtocol || !strings.Contains(r.Detail, "10s") {
				t.Errorf("%q: the Observer is told of %+v", sent, r)
			}
			if got := c.RemoteAddr().String(); got != "pipe" {
				t.Errorf("%q: the client is %q, want the peer itself", sent, got)
			}
		})
	}
}

// TestBareConnectToAProxyPortIsNoRefusal: health checks and scans look so.
func TestBareConnectToAProxyPortIsNoRefusal(t *testing.T) {
	obs := newObserver()
	c, peer := headerConn(t, obs)
	_ = peer.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
	if n := len(obs.refused); n > 0 {
		t.Errorf("%d refusals are told", n)
	}
}

// TestLocalAddressIsTheProxys: what the client connected to is what the header
// says, on which a certificate for an IP address depends.
func TestLocalAddressIsTheProxys(t *testing.T) {
	for header, want := range map[string]string{
		"PROXY TCP4 203.0.113.9 198.51.100.7 4660 443\r\n":     "198.51.100.7:443",
		"PROXY TCP6 2001:db8::9 2001:db8::7 4660 443\r\n":      "[2001:db8::7]:443",
		"PROXY TCP6 2001:db8::9 ::ffff:198.51.100.7 1 443\r\n": "198.51.100.7:443",
		"PROXY UNKNOWN\r\n":      "pipe",
		parts.PROXYHeader(t, ""): "pipe",
		"no header of a proxy":   "pipe",
	} {
		c, peer := headerConn(t, newObserver())
		go func() { _, _ = io.WriteString(peer, header) }() // it ends with the pipe
		if got := c.LocalAddr().String(); got != want {
			t.Errorf("%q: the local address is %s, want %s", header, got, want)
		}
	}
}

// TestHeaderIsReadOnce: the first reader reads the header, and the header's
// deadline doesn't last.
func TestHeaderIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := headerConn(t, nil)
		go func() {
			_, _ = io.WriteString(peer, "PROXY TCP4 203.0.113.9 127.0.0.1 4660 80\r\n")
			time.Sleep(time.Hour) // in the bubble
			_, _ = io.WriteString(peer, "x")
		}()
		addresses := make(chan string)
		for range 3 {
			go func() { addresses <- c.RemoteAddr().String() }()
		}
		for range 3 {
			if got := <-addresses; got != "203.0.113.9:4660" {
				t.Errorf("the client is %q", got)
			}
		}
		buf := make([]byte, 1)
		if n, err := c.Read(buf); n != 1 || err != nil || buf[0] != 'x' {
			t.Errorf("read %q, %v after the header", buf[:n], err)
		}
	})
}
