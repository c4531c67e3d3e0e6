package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A connection that is idle for too long, or old enough, ends with a goodbye in
// its own protocol, and the log says which it was. Calls that run go on to their
// own end.
func TestConnectionAges(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	for _, l := range []struct{ reason, config string }{
		{"idle", "limits: {connection_idle_timeout: 2s}\n"},
		{"age", "limits: {connection_max_age: 2s}\n"},
	} {
		c := startCulvert(t, b.address, culvertOptions{config: l.config, args: []string{"--log-level", "debug"}})
		t.Run(l.reason, func(t *testing.T) {
			t.Run("HTTP-2", func(t *testing.T) {
				t.Parallel()
				conn := dialRaw(t, c.address)
				if err := beginHTTP2(conn); err != nil {
					t.Fatal(err)
				}
				wantGoAway(t, conn)
				c.wantConnEnded(t, conn, l.reason)
			})
			t.Run("h2ts", func(t *testing.T) {
				t.Parallel()
				conn := dialRaw(t, c.address)
				if err := beginTunnel(conn); err != nil {
					t.Fatal(err)
				}
				inner := &tunnelConn{Conn: conn, in: bufio.NewReader(conn)}
				wantGoAway(t, inner)
				if inner.code != 1001 {
					t.Errorf("the WebSocket was closed with %d, want 1001", inner.code)
				}
				c.wantConnEnded(t, conn, l.reason)
			})
			t.Run("HTTP-1.1", func(t *testing.T) {
				t.Parallel()
				conn := dialRaw(t, c.address)
				if l.reason == "idle" {
					if err := oneCall(conn); err != nil {
						t.Fatal(err)
					}
				} else if err := callUntilOld(conn); err != nil {
					t.Fatal(err)
				}
				if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("then %d bytes came, and %v", n, err)
				}
				c.wantConnEnded(t, conn, l.reason)
			})
			t.Run("calls", func(t *testing.T) {
				t.Parallel()
				var talks []*call
				for _, transport := range wire.All {
					talk := open(t, dial(t, transport, c.address), wire.Bidi, probe.Script{Echo: true})
					say(t, talk, 0)
					talks = append(talks, talk)
				}
				// Each has seen the connections' time pass when a connection
				// that began later has ended.
				conn := dialRaw(t, c.address)
				if err := beginHTTP2(conn); err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, conn) // to its end
				for _, talk := range talks {
					say(t, talk, 1)
				}
			})
		})
	}
}

// dialRaw opens a connection that ends with the test.
func dialRaw(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })                // a test may have
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute)) // just opened: one that hangs shall fail
	return conn
}

// wantGoAway reads to the end of an HTTP/2 connection, whose pings it answers,
// and wants its goodbye there.
func wantGoAway(t *testing.T, conn io.ReadWriter) {
	t.Helper()
	framer := http2.NewFramer(conn, conn)
	goodbyes := 0
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			if !errors.Is(err, io.EOF) || goodbyes == 0 {
				t.Errorf("the connection ended with %v after %d goodbyes", err, goodbyes)
			}
			return
		}
		switch f := frame.(type) {
		case *http2.GoAwayFrame:
			if goodbyes++; f.ErrCode != http2.ErrCodeNo {
				t.Errorf("GOAWAY says %v", f.ErrCode)
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = framer.WritePing(true, f.Data) // it may be closed
			}
		}
	}
}

// callUntilOld makes a call over HTTP/1.1 that is answered when its connection
// is old, and wants to be told.
func callUntilOld(conn net.Conn) error {
	script := probe.Script{Replies: 1, ReplyEvery: 4000}
	if err := sends(webPost(wire.ServerStream, webType+probe.ScriptKey+": "+script.String()+"\r\n", string(oracleOne)))(conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil) // nothing follows
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	body, err := io.ReadAll(resp.Body)
	if err != nil || webEnd(webContent, body) != "OK" {
		return fmt.Errorf("the call was answered %s %q, %w", resp.Status, body, err)
	}
	if !resp.Close {
		return errors.New("the answer doesn't say that the connection closes")
	}
	return nil
}
