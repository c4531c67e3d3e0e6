package edge

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/bridgetest/parts"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestClientThatStillSendsReadsItsAnswer: a close with bytes unread would be a
// reset, which takes the answer from under the client.
func TestClientThatStillSendsReadsItsAnswer(t *testing.T) {
	e := testEdge(t, Options{})
	for range 20 {
		server, client := tcpPair(t)
		if _, err := client.Write(make([]byte, 64<<10)); err != nil { // which nobody reads
			t.Fatal(err)
		}
		c := e.newClient(server, e.own, e.o.Bounds(e.own))
		c.linger.Store(true)
		if _, err := io.WriteString(c, "the answer"); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Write(make([]byte, 64<<10)); err != nil {
			t.Errorf("after the close the client can't send on: %v", err)
		}
		_ = client.SetReadDeadline(time.Now().Add(patience)) // a test that hangs fails
		if got, err := io.ReadAll(client); err != nil || string(got) != "the answer" {
			t.Errorf("the client reads %q, %v; want the answer and the end", got, err)
		}
		_ = client.Close()
	}
}

// lingers runs a test of one connection that lingers, in a bubble.
func lingers(t *testing.T, f func(t *testing.T, e *Edge, client net.Conn, ended func() bool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := testEdge(t, Options{})
		server, client := net.Pipe()
		c := e.newClient(server, e.own, e.o.Bounds(e.own))
		c.linger.Store(true)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		f(t, e, client, func() bool {
			synctest.Wait()
			e.lingering.mu.Lock()
			defer e.lingering.mu.Unlock()
			return len(e.lingering.conns) == 0
		})
		_ = client.Close() // the test may have
	})
}

func TestLingeringEndsWithItsClient(t *testing.T) {
	lingers(t, func(t *testing.T, _ *Edge, client net.Conn, ended func() bool) {
		elapse(time.Second)
		if ended() {
			t.Error("it was cut after a second")
		}
		_ = client.Close()
		if !ended() {
			t.Error("its client is gone, and it lingers")
		}
	})
}

func TestLingeringEndsWithSilence(t *testing.T) {
	lingers(t, func(t *testing.T, _ *Edge, _ net.Conn, ended func() bool) {
		elapse(lingerSilence - time.Millisecond)
		if ended() {
			t.Error("it was cut early")
		}
		elapse(time.Millisecond)
		if !ended() {
			t.Errorf("after %v of silence it lingers", lingerSilence)
		}
	})
}

// TestLingeringEndsAfterItsTime, however long the client sends.
func TestLingeringEndsAfterItsTime(t *testing.T) {
	lingers(t, func(t *testing.T, _ *Edge, client net.Conn, ended func() bool) {
		start := time.Now()
		for !ended() {
			if time.Since(start) > lingerTime+lingerSilence {
				t.Fatalf("after %v it lingers", time.Since(start))
			}
			if _, err := client.Write([]byte("x")); err != nil {
				break
			}
			elapse(time.Second)
		}
		if got := time.Since(start); got < lingerTime-time.Second {
			t.Errorf("a client that goes on sending was cut after %v, want %v", got, lingerTime)
		}
	})
}

func TestEndCutsWhatLingers(t *testing.T) {
	lingers(t, func(t *testing.T, e *Edge, client net.Conn, ended func() bool) {
		start := time.Now()
		e.CutLingering()
		if took := time.Since(start); took > 0 || !ended() {
			t.Errorf("cutLingering took %v, and nothing lingers: %v", took, ended())
		}
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("the client's connection is open")
		}
	})
}

// TestFewLinger at once: the others are cut, as is any that has no reason to.
func TestFewLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := testEdge(t, Options{})
		var clients []net.Conn
		closeOne := func(linger bool) (cut bool) {
			server, client := net.Pipe()
			clients = append(clients, client)
			c := e.newClient(server, e.own, e.o.Bounds(e.own))
			c.linger.Store(linger)
			_ = c.Close() // nothing to tell
			synctest.Wait()
			_ = client.SetReadDeadline(time.Now().Add(time.Nanosecond)) // a pipe that is closed says so at once
			_, err := client.Read(make([]byte, 1))
			return errors.Is(err, io.EOF)
		}
		if !closeOne(false) {
			t.Error("a connection without a reason lingers")
		}
		for i := range e.lingering.most {
			if closeOne(true) {
				t.Fatalf("connection %d was cut", i)
			}
		}
		if !closeOne(true) {
			t.Errorf("more than %d connections linger", e.lingering.most)
		}
		for _, c := range clients {
			_ = c.Close() // so that its other end does
		}
		synctest.Wait()
		if closeOne(true) {
			t.Error("with a place free a connection was cut")
		}
		for _, c := range clients {
			_ = c.Close() // the last one, too
		}
	})
}

// TestGreetedConnectionDoesNotLinger: what ends after its handshake has no
// reason to, unless another gives one.
func TestGreetedConnectionDoesNotLinger(t *testing.T) {
	e := testEdge(t, Options{})
	l := NewListening(report.Listener{TLS: new(tls.Config)})
	c := e.newClient(nil, l, e.o.Bounds(l))
	c.linger.Store(true)
	outer := tls.Server(c, l.TLS)
	e.noteState(l, outer, http.StateActive)
	if c.linger.Load() {
		t.Error("it lingers after the handshake")
	}
	c.on.lingerOn() // LeaveBody
	e.noteState(l, outer, http.StateActive)
	if !c.linger.Load() {
		t.Error("the next request took another's reason away")
	}
}

// TestCutEndsTheGoodbyeOfTLS, also one that has begun: its client reads nothing.
func TestCutEndsTheGoodbyeOfTLS(t *testing.T) {
	for _, begun := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			authority := parts.NewAuthority(t)
			l := NewListening(report.Listener{TLS: &tls.Config{Certificates: []tls.Certificate{authority.Server(t, "localhost")}}})
			e := testEdge(t, Options{})
			near, far := net.Pipe()
			defer func() { _ = far.Close() }() // it reads nothing any more
			c := e.newClient(near, l, e.o.Bounds(l))
			if err := c.admit(e.o.Bounds(l)); err != nil {
				t.Fatal(err)
			}
			server := tls.Server(c, l.TLS)
			var shaking sync.WaitGroup
			shaking.Go(func() {
				client := tls.Client(far, &tls.Config{RootCAs: authority.Pool, ServerName: "localhost"})
				if err := client.Handshake(); err != nil {
					t.Error(err)
				}
				_, _ = client.Read(make([]byte, 1)) // the session ticket, and the one byte
			})
			if _, err := server.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			shaking.Wait()

			start := time.Now()
			if !begun {
				e.Cut()
			}
			var closing sync.WaitGroup
			closing.Go(func() { _ = server.Close() }) // the alert isn't sent
			synctest.Wait()
			if begun {
				e.Cut()
			}
			closing.Wait()
			if took := time.Since(start); took > 0 {
				t.Errorf("the goodbye had begun: %v, and the close took %v", begun, took)
			}
		})
	}
}
