package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// health asks one of culvert's health pages and returns the HTTP status, 0 if
// nobody answers.
func (c *culvert) ask(page string) int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.health+page, nil)
	if err != nil {
		return 0
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close() // the status is all
	return resp.StatusCode
}

// TERM with calls under way: readiness falls, new calls are refused, those under
// way finish as if nothing were, and the program ends with 0.
func TestDrainLetsCallsFinish(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "drain_timeout: 5m\n"}) // it ends with the last call
	if code := c.ask("/readyz"); code != http.StatusOK {
		t.Fatalf("readyz is %d", code)
	}
	if code := c.ask("/livez"); code != http.StatusOK {
		t.Errorf("livez is %d", code)
	}
	var talks []*call
	for _, transport := range wire.All {
		talk := open(t, dial(t, transport, c.address), wire.Bidi, probe.Script{Echo: true, Trailer: []probe.Field{{Name: "x-tail", Value: "end"}}})
		say(t, talk, 0)
		talks = append(talks, talk)
	}
	idle := map[wire.Transport]*wire.Conn{} // connections that have called and could again
	for _, transport := range wire.All {
		if transport != wire.WebSocket {
			idle[transport] = dial(t, transport, c.address)
			if err := unary(t.Context(), idle[transport], newID(t)); err != nil {
				t.Fatal(err)
			}
		}
	}

	c.signal(t, syscall.SIGTERM)
	if err := eventually(patience, func() error {
		if code := c.ask("/readyz"); code != http.StatusServiceUnavailable {
			return fmt.Errorf("readyz is %d", code)
		}
		return nil
	}); err != nil {
		t.Errorf("after TERM: %v", err)
	}
	if code := c.ask("/livez"); code != http.StatusOK {
		t.Errorf("livez is %d while draining", code)
	}
	// No new connection.
	if err := eventually(patience, func() error {
		conn, err := net.DialTimeout("tcp", c.address, time.Second)
		if err != nil {
			return nil
		}
		_ = conn.Close() // it should not have been
		return errors.New("a new connection is accepted")
	}); err != nil {
		t.Errorf("after TERM: %v", err)
	}
	// No new call on a connection that is there.
	for _, talk := range talks {
		if !talk.conn.Transport.Multiplexed() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		var id string                                 // of the last one
		if err := eventually(patience, func() error { // those on their way are served
			id = newID(t)
			if unary(ctx, talk.conn, id) == nil {
				return errors.New("a new call was taken while draining")
			}
			return nil
		}); err != nil {
			t.Errorf("%s: %v", talk.conn.Transport, err)
		}
		cancel()
		if _, ok := b.saw(t, id); ok {
			t.Errorf("%s: a call begun while draining reached the backend", talk.conn.Transport)
		}
	}
	// What was under way goes on: for a while, and to its own end.
	pace := time.NewTicker(300 * time.Millisecond)
	defer pace.Stop()
	for i := range uint64(5) {
		<-pace.C
		for _, talk := range talks {
			say(t, talk, i+1)
		}
	}
	for _, talk := range talks {
		if err := talk.CloseSend(); err != nil {
			t.Errorf("%s: %v", talk.conn.Transport, err)
		}
		e := finish(talk, 6)
		if !e.is(codes.OK, "") || e.status.Trailer["x-tail"] == nil {
			t.Errorf("%s: a call that was under way: %v", talk.conn.Transport, e)
		} else if talk.conn.Transport == wire.WebSocket && e.status.CloseCode != int(websocket.StatusGoingAway) {
			t.Errorf("%s: closed with %d, want 1001", talk.conn.Transport, e.status.CloseCode)
		}
	}
	if code := c.wait(t, patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// say sends the request number i of a conversation and wants its echo.
func say(t testing.TB, talk *call, i uint64) {
	t.Helper()
	if err := talk.Send(wire.Request(i, 100)); err != nil {
		t.Errorf("%s: request %d: %v", talk.conn.Transport, i, err)
		return
	}
	if _, err := wire.RecvReply(talk, i); err != nil {
		t.Errorf("%s: reply %d: %v (%v)", talk.conn.Transport, i, err, talk.Status())
	}
}

// Calls that don't finish within drain_timeout are ended with DRAINING within the last
// drain_spread of it, each in its own protocol, and the program ends with 0. The test runs
// alone: its clients have one second to read the end.
func TestDrainEndsWhatIsLeft(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "drain_timeout: 4s\ndrain_spread: 2s\n"})
	calls := every(t, c.address)
	for _, call := range calls {
		b.record(t, call.id, probe.Began, patience)
	}
	ends := finishing(calls)
	began := time.Now()
	c.signal(t, syscall.SIGTERM)
	for i, e := range await(t, ends, patience, "the calls' ends") {
		if !e.is(codes.Unavailable, "DRAINING") {
			t.Errorf("%s %s: %v, want UNAVAILABLE with DRAINING", calls[i].conn.Transport, calls[i].id, e)
			continue
		}
		if e.after < 1500*time.Millisecond || e.after > 10*time.Second { // this process may be slow to read it
			t.Errorf("%s: ended after %v, want 2 s to 3 s", calls[i].conn.Transport, e.after)
		}
		if calls[i].conn.Transport == wire.WebSocket && e.status.CloseCode != int(websocket.StatusGoingAway) {
			t.Errorf("%s: closed with %d, want 1001", calls[i].conn.Transport, e.status.CloseCode)
		}
	}
	if code := c.wait(t, patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	wantCancelled(t, b, calls, began, 5*time.Second)
}

// With 2,000 open streams over all transports, each client is told DRAINING in its own
// protocol, none sees a bare end, and the ends are spread. The process is gone within
// drain_timeout.
func TestDrainOfManyStreams(t *testing.T) {
	const streams, timeout, spread = 2000, 5 * time.Second, 4 * time.Second
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "drain_timeout: 5s\ndrain_spread: 4s\n"})
	var conns []*wire.Conn
	var calls []*call
	for i := range streams {
		transport := wire.All[i%len(wire.All)]
		var conn *wire.Conn
		if transport.Multiplexed() {
			for _, open := range slices.Backward(conns) {
				if open.Transport == transport && i/len(wire.All)%100 != 0 { // 100 on a connection
					conn = open
					break
				}
			}
		}
		if conn == nil {
			conn = dial(t, transport, c.address)
			conns = append(conns, conn)
		}
		calls = append(calls, post(t, conn, wire.ServerStream, probe.Script{Replies: 1, Hang: true}))
	}
	for _, call := range calls {
		if _, err := wire.RecvReply(call, 0); err != nil {
			t.Fatalf("%s: %v", call.conn.Transport, err)
		}
	}
	ends := make(chan []end, 1)
	began := time.Now()
	go func() { ends <- finishAll(calls, began) }() // received below
	c.signal(t, syscall.SIGTERM)
	if code := c.wait(t, patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if took := time.Since(began); took > timeout+4*time.Second { // for a busy machine; 5 s for a goodbye that nobody answers would show
		t.Errorf("the process was gone after %v, want %v at most", took, timeout)
	}
	kinds := map[string]int{}
	thirds := make([]int, 3) // of the time in which calls end
	for i, e := range await(t, ends, patience, "the calls' ends") {
		kind := fmt.Sprintf("%s %v", calls[i].conn.Transport, e.is(codes.Unavailable, "DRAINING"))
		kinds[kind]++
		if !e.is(codes.Unavailable, "DRAINING") {
			t.Errorf("%s: %v, want UNAVAILABLE with DRAINING", calls[i].conn.Transport, e)
			continue
		}
		at := (e.after - (timeout - spread - 200*time.Millisecond)) / (spread / 4) // the last quarter is for clients
		thirds[min(max(int(at), 0), len(thirds)-1)]++
	}
	t.Logf("how the calls ended: %v; when: %v", kinds, thirds)
	// How even it is depends on when 2,000 clients get to read, too: the bridge's own
	// test measures that.
	if slices.Max(thirds) > streams*9/10 {
		t.Errorf("the ends by thirds are %v, want them spread", thirds)
	}
}

// finishAll receives to the end of every call.
func finishAll(calls []*call, began time.Time) []end {
	ends := make([]end, len(calls))
	var finishing sync.WaitGroup
	for i, c := range calls {
		finishing.Go(func() { ends[i] = finishSince(began, c, 1) })
	}
	finishing.Wait()
	return ends
}

// Clients that take nothing don't keep culvert beyond drain_timeout, nor those that
// answer no goodbye, over TLS either, whose alerts wait for the client.
func TestDrainEndsInTimeWhoeverReads(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	cert := ca.issue("localhost", "localhost", "127.0.0.1")
	certFile, keyFile := writePair(t, t.TempDir(), "tls", cert)
	for name, args := range map[string][]string{"plaintext": nil, "TLS": {"--tls-cert", certFile, "--tls-key", keyFile}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startBackend(t, backendOptions{})
			c := startCulvert(t, b.address, culvertOptions{config: "drain_timeout: 3s\n", args: args})
			for _, script := range []probe.Script{{Replies: 1 << 20, ReplyBytes: 64 << 10}, {Replies: 1, Hang: true}} {
				for _, transport := range wire.All {
					var conn *wire.Conn
					if args == nil {
						conn = dial(t, transport, c.address)
					} else {
						conn = dialTLS(t, transport, c.address, named(ca.trusting(), "localhost"))
					}
					call := post(t, conn, wire.ServerStream, script)
					b.record(t, call.id, probe.Began, patience)
				}
			}
			began := time.Now()
			c.signal(t, syscall.SIGTERM)
			if code := c.wait(t, patience); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			took := time.Since(began)
			t.Logf("the process was gone after %v", took)
			if took > 7*time.Second { // 4 s for a busy machine; 5 s for a goodbye that nobody answers would show
				t.Errorf("the process was gone after %v, want 3 s at most", took)
			}
		})
	}
}

// A second signal ends the program at once.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, second := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(second.String(), func(t *testing.T) {
			b := startBackend(t, backendOptions{})
			c := startCulvert(t, b.address, culvertOptions{config: "drain_timeout: 1h\n"})
			call := post(t, dial(t, wire.Web, c.address), wire.ServerStream, probe.Script{Hang: true})
			b.record(t, call.id, probe.Began, patience)
			c.signal(t, syscall.SIGTERM)
			if err := eventually(patience, func() error {
				if code := c.ask("/readyz"); code != http.StatusServiceUnavailable {
					return fmt.Errorf("readyz is %d", code)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if second == syscall.SIGTERM { // sooner it counts as the first one's echo
				echo := time.NewTimer(1100 * time.Millisecond)
				<-echo.C
			}
			c.signal(t, second)
			if code := c.wait(t, patience); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if cut := c.logged(t, "cut"); cut["calls"] != 1.0 {
				t.Errorf("the log says %v calls were cut, want 1", cut["calls"])
			}
		})
	}
}

// A second signal while no call runs doesn't claim to have cut any. The drain
// waits for a request that isn't whole yet.
func TestSecondSignalTellsOfNoCallsThatWerentThere(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // culvert is gone then
	if _, err := io.WriteString(conn, "POST "+wire.Unary+" HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	c.signal(t, syscall.SIGTERM)
	c.loggedLike(t, func(l map[string]any) bool { return strings.HasPrefix(l["msg"].(string), "draining") })
	c.signal(t, syscall.SIGINT)
	if code := c.wait(t, patience); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if c.loggedLike(t, func(l map[string]any) bool { return l["signal"] == "interrupt" })["calls"] != nil {
		t.Error("calls are told of that there were not")
	}
}

// The goodbye of each connection can be read on the wire: GOAWAY on HTTP/2, also
// inside a tunnel, which then closes with 1001; "Connection: close" on HTTP/1.1.
func TestDrainSaysGoodbye(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "drain_timeout: 5m\n"})

	plain, err := net.Dial("tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }() // read to its end
	ws, _, err := websocket.Dial(t.Context(), "ws://"+c.address+"/", &websocket.DialOptions{Subprotocols: []string{"h2ts"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }() // read to its end
	ws.SetReadLimit(-1)
	tunnel := &closeNoter{ws: ws}
	goodbyes := map[string]chan error{"h2c": make(chan error, 1), "h2ts": make(chan error, 1)}
	var readers sync.WaitGroup
	readers.Go(func() { goodbyes["h2c"] <- readGoodbye(plain) })
	readers.Go(func() { goodbyes["h2ts"] <- readGoodbye(tunnel) })
	defer readers.Wait()

	web, err := net.Dial("tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = web.Close() }() // read to its end
	// A request that begins before TERM and is answered after it.
	id := newID(t)
	body := wire.Frame(wire.Request(0, 0))
	md := wire.Metadata(id, probe.Script{Replies: 3, HoldAll: true})
	if _, err := fmt.Fprintf(web, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: %d\r\n%s: %s\r\n%s: %s\r\n\r\n%s",
		wire.ServerStream, c.address, len(body), probe.IDKey, id, probe.ScriptKey, md[probe.ScriptKey][0], body); err != nil {
		t.Fatal(err)
	}
	b.record(t, id, probe.Began, patience)
	b.idleBut(t, 1)
	c.signal(t, syscall.SIGTERM)

	for name, ch := range goodbyes {
		if err := await(t, ch, patience, "the goodbye of "+name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.control.Release(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if tunnel.code != websocket.StatusGoingAway {
		t.Errorf("the tunnel was closed with %d, want 1001", tunnel.code)
	}
	in := bufio.NewReader(web)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(text), "grpc-status: 0\r\n") {
		t.Errorf("HTTP/1.1: the call that was under way ended with %q, %v", text, err)
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("HTTP/1.1: the connection was not closed behind the answer: %v", err)
	}
	if code := c.wait(t, patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// idleBut waits until so many calls run at the backend.
func (b *backend) idleBut(t testing.TB, n int) {
	t.Helper()
	if err := eventually(patience, func() error {
		running := 0
		for _, r := range b.records(t) {
			if r.Ended.IsZero() {
				running++
			}
		}
		if running != n {
			return fmt.Errorf("%d calls run, want %d", running, n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// readGoodbye speaks HTTP/2 until the connection ends, and wants a GOAWAY before
// that.
func readGoodbye(conn io.ReadWriter) error {
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		return err
	}
	goaway := false
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			if goaway && errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("the connection ended (GOAWAY: %v): %w", goaway, err)
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			if goaway = true; frame.ErrCode != http2.ErrCodeNo {
				return fmt.Errorf("GOAWAY with %v", frame.ErrCode)
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = f.WritePing(true, frame.Data) // ReadFrame tells of an end
			}
		}
	}
}

// A closeNoter is a WebSocket as a byte pipe that keeps the close code, which
// websocket.NetConn does not show. One goroutine reads it.
type closeNoter struct {
	ws   *websocket.Conn
	msg  io.Reader
	code websocket.StatusCode // valid after Read returned io.EOF
}

func (c *closeNoter) Write(p []byte) (int, error) {
	return len(p), c.ws.Write(context.Background(), websocket.MessageBinary, p)
}

func (c *closeNoter) Read(p []byte) (int, error) {
	for {
		if c.msg == nil {
			_, r, err := c.ws.Reader(context.Background())
			if c.code = websocket.CloseStatus(err); c.code != -1 {
				return 0, io.EOF
			}
			if err != nil {
				return 0, err
			}
			c.msg = r
		}
		n, err := c.msg.Read(p)
		if errors.Is(err, io.EOF) {
			c.msg, err = nil, nil
			if n == 0 {
				continue
			}
		}
		return n, err
	}
}

// Calls come all the time, over every transport, when TERM does. Each ends with a
// status or never began: the connection was refused, or it waited for accept when
// the listener closed, which the kernel answers with a reset. A bare EOF is for none.
func TestDrainUnderLoadLosesNoCall(t *testing.T) {
	const rounds = 3
	b := startBackend(t, backendOptions{})
	for range rounds {
		c := startCulvert(t, b.address, culvertOptions{})
		var work sync.WaitGroup
		var mu sync.Mutex
		counts := map[string]int{}
		var reset []string
		for _, transport := range wire.All {
			for range 3 {
				work.Go(func() {
					if address := hammer(t, transport, c.address, &mu, counts); address != "" {
						mu.Lock()
						reset = append(reset, address)
						mu.Unlock()
					}
				})
			}
		}
		if err := eventually(patience, func() error {
			mu.Lock()
			defer mu.Unlock()
			if n := counts["OK"]; n < 1000 {
				return fmt.Errorf("%d calls", n)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		c.signal(t, syscall.SIGTERM)
		if code := c.wait(t, patience); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		work.Wait() // each ends by itself: none connects to a process that is gone
		for _, address := range reset {
			if err := c.said(address); err == nil {
				t.Errorf("the connection from %s was reset, and culvert took a call on it", address)
			}
		}
		t.Logf("how the calls ended: %v", counts)
	}
}

// hammer makes calls, each over a connection of its own where a connection
// carries one, until the server is gone. If the first call of its last connection
// was reset, it returns the connection's own address.
func hammer(t *testing.T, transport wire.Transport, address string, mu *sync.Mutex, counts map[string]int) (reset string) {
	var conn *wire.Conn
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	count := func(how string) {
		mu.Lock()
		counts[how]++
		mu.Unlock()
	}
	ctx := t.Context()
	for calls := 0; ; calls++ { // of this connection
		if conn == nil {
			var err error
			if conn, err = wire.Dial(ctx, transport, address); err != nil {
				count("no connection")
				if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) && !strings.Contains(err.Error(), "503") {
					t.Errorf("%s: the connection: %v", transport, err)
				}
				return ""
			}
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			calls = 0
		}
		call, err := conn.Post(ctx, wire.Unary, wire.Metadata("drain", probe.Script{}), wire.Request(0, 0))
		if err != nil {
			count("not begun")
			reset := resetFrom(err)
			if (reset == "" || calls > 0) && !strings.Contains(err.Error(), "503") {
				t.Errorf("%s: a call could not begin: %v", transport, err)
			}
			return reset
		}
		e := finish(call, 0)
		call.Close()
		switch {
		case e.is(codes.OK, "") && e.replies == 1:
			count("OK")
		case e.is(codes.Unavailable, "DRAINING"):
			count("DRAINING")
		case e.status == nil && refusedByGoAway(e.err):
			count("GOAWAY")
			conn.Close()
			conn = nil
			continue
		case e.status == nil && calls == 0 && resetFrom(e.err) != "":
			count("reset")
			return resetFrom(e.err)
		default:
			t.Errorf("%s: %v", transport, e)
			return ""
		}
		if !transport.Multiplexed() {
			conn.Close()
			conn = nil
		}
	}
}

// resetFrom returns the own address of the connection that was reset, or "".
func resetFrom(err error) string {
	var op *net.OpError
	if errors.Is(err, syscall.ECONNRESET) && errors.As(err, &op) && op.Source != nil {
		return op.Source.String()
	}
	return ""
}

// refusedByGoAway reports whether a call on a connection that says goodbye was
// not processed, as HTTP/2 says it (RFC 9113 §6.8): the client may repeat it.
func refusedByGoAway(err error) bool {
	text := err.Error()
	for _, sign := range []string{"GOAWAY", "graceful shutdown", "REFUSED_STREAM", "client conn not usable"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}
