package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A dawdler holds a connection and does not get on.
type dawdler struct {
	name  string
	begin func(net.Conn) error
	bytes string // sent one at a time, and so never to their end
	ends  string // what the log says of it
}

var dawdlers = []dawdler{
	{"nothing comes", nil, "", "slow"},
	{"a request line", nil, "POST " + wire.Unary + " HTTP/1.1\r\n", "slow"},
	{"a header", sends("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: "), strings.Repeat("a", 1000), "slow"},
	{"a header behind a call", oneCall, "POST " + wire.Unary + " HTTP/1.1\r\n", "slow"},
	{"a preface of HTTP/2", nil, http2.ClientPreface, "slow"},
	{"no settings", sends(http2.ClientPreface), "", "slow"},
	{"a frame of headers", beginHTTP2, begun, "slow"},
	{"frames of headers", beginHTTP2, bytewise(1, oddBlock+strings.Repeat(oddBlock, 20)), "slow"},
	{"an upgrade", nil, "GET " + wire.Bidi + " HTTP/1.1\r\nConnection: Upgrade\r\n", "slow"},
	{"no metadata", beginWebSocket, "", "slow"},
	{"metadata", beginWebSocket, binaryFrame(strings.Repeat("x-a: b\r\n", 10)), "slow"},
	{"a tunnel without a byte", func(conn net.Conn) error { return handshake(conn, "/", "h2ts") }, "", "slow"},
	{"nothing behind a call", oneCall, "", "idle"},
}

// tlsDawdlers are those of an address that speaks TLS.
func tlsDawdlers() []dawdler {
	var hello bytes.Buffer
	client := tls.Client(recorder{&hello}, &tls.Config{ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
	_ = client.Handshake() // it gets no answer
	return []dawdler{
		{"TLS: nothing comes", nil, "", "slow"},
		{"TLS: a handshake", nil, hello.String(), "slow"},
		{"TLS: half a handshake", sends(hello.String()), "", "slow"},
	}
}

// recorder is a connection that takes what is written, and ends.
type recorder struct{ *bytes.Buffer }

func (recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (recorder) Close() error                     { return nil }
func (recorder) LocalAddr() net.Addr              { return nil }
func (recorder) RemoteAddr() net.Addr             { return nil }
func (recorder) SetDeadline(time.Time) error      { return nil }
func (recorder) SetReadDeadline(time.Time) error  { return nil }
func (recorder) SetWriteDeadline(time.Time) error { return nil }

// sends begins a connection with these bytes.
func sends(text string) func(net.Conn) error {
	return func(conn net.Conn) error {
		_, err := io.WriteString(conn, text)
		return err
	}
}

// oneCall makes a call over HTTP/1.1, and leaves the connection open.
func oneCall(conn net.Conn) error {
	if err := sends(webPost(wire.Unary, webType, string(oracleOne)))(conn); err != nil {
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
	return nil
}

const webContent = "application/grpc-web+proto"

// Who begins something and does not get on with it is closed after 10 s,
// whatever it was, and the log counts it; others are served meanwhile.
func TestDawdlers(t *testing.T) {
	t.Parallel()
	const each = 10
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{
		config: "limits: {connection_idle_timeout: 30s}\n",
		args:   []string{"--log-level", "debug"},
	})
	certFile, keyFile := writePair(t, t.TempDir(), "tls", newIssuer(t, "ca").issue("culvert"))
	secure := startCulvert(t, b.address, culvertOptions{args: []string{"--tls-cert", certFile, "--tls-key", keyFile, "--log-level", "debug"}})
	warm(t, c)
	descriptors := c.descriptors(t)
	t.Run("kinds", func(t *testing.T) { // ends when all of them have
		stop := unharmed(t, c.address)
		t.Cleanup(stop)
		for _, d := range append(tlsDawdlers(), dawdlers...) {
			c := c
			if strings.HasPrefix(d.name, "TLS: ") {
				c = secure
			}
			t.Run(strings.ReplaceAll(d.name, " ", "_"), func(t *testing.T) {
				t.Parallel()
				var all sync.WaitGroup
				for range each {
					all.Go(func() { d.dawdle(t, c) })
				}
				all.Wait()
			})
		}
	})
	b.idle(t, 30*time.Second)
	if err := eventually(30*time.Second, func() error { return sameDescriptors(t, c, descriptors) }); err != nil {
		t.Error(err)
	}
}

// dawdle sends a byte each half second until the connection is closed.
func (d dawdler) dawdle(t *testing.T, c *culvert) {
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	began := time.Now()
	_ = conn.SetDeadline(began.Add(2 * attackTime)) // just opened
	if d.begin != nil {
		if err := d.begin(conn); err != nil {
			t.Error(err)
			return
		}
	}
	closed := make(chan struct{})
	go func() { // ends with the connection
		defer close(closed)
		_, _ = io.Copy(io.Discard, conn) // goodbyes and pings; an error is an end, too
	}()
	pace := time.NewTicker(500 * time.Millisecond)
	defer pace.Stop()
	for i := 0; ; i++ {
		select {
		case <-pace.C:
			if i < len(d.bytes)-1 {
				_, _ = io.WriteString(conn, d.bytes[i:i+1]) // it may be closed
			}
			continue
		case <-closed:
		}
		break
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it was closed after %v: there was time", took)
	}
	c.wantConnEnded(t, conn, d.ends)
}

// A message that has begun has to get on, or its call ends with a status that
// says so; one that comes slowly and does get on has all its time.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{
		config: "limits: {slow_sender_timeout: 3s}\n",
		args:   []string{"--log-level", "debug"},
	})
	stop := unharmed(t, c.address)
	defer stop()
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		t.Parallel()
		slow := open(t, dial(t, transport, c.address), wire.ClientStream, probe.Script{})
		steady := open(t, dial(t, transport, c.address), wire.ClientStream, probe.Script{})
		waiting := open(t, dial(t, transport, c.address), wire.Bidi, probe.Script{Echo: true})
		say(t, waiting, 0)

		const size = 16 * kib // at 2 KiB each half second more than twice the time-out
		message := wire.Request(0, size)
		ended := finishing([]*call{slow})
		done := make(chan struct{})
		var sending sync.WaitGroup
		sending.Go(func() {
			pace := time.NewTicker(500 * time.Millisecond)
			defer pace.Stop()
			frame := wire.Frame(message)
			_ = slow.Write(frame[:5]) // its end says what became of it
			rest, trickle := frame, frame[5:]
			for {
				select {
				case <-pace.C:
				case <-done:
					return
				}
				if len(trickle) > 1 {
					_ = slow.Write(trickle[:1]) // its end says what became of it
					trickle = trickle[1:]
				}
				if len(rest) > 0 {
					n := min(2*kib, len(rest))
					if err := steady.Write(rest[:n]); err != nil {
						t.Errorf("a steady sender: %v", err)
					}
					if rest = rest[n:]; len(rest) == 0 {
						_ = steady.CloseSend() // its status says it
					}
				}
			}
		})
		wantLimit(t, transport, await(t, ended, attackTime, "the slow sender's end")[0], codes.DeadlineExceeded, "SLOW_SENDER", "limits.slow_sender_timeout")
		if e := await(t, finishing([]*call{steady}), attackTime, "the steady sender's end")[0]; !e.is(codes.OK, "") {
			t.Errorf("a steady sender: %v", e)
		}
		close(done)
		sending.Wait()
		say(t, waiting, 1) // who sends nothing isn't slow
		if !transport.Multiplexed() {
			c.wantConnEnded(t, slow.conn.TCP, "slow")
		}
	})
}
