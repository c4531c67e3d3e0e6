package edge

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// pipes is a listener that hands out the server's ends of pipes, as Serve has
// them of sockets, for tests in a bubble.
type pipes struct {
	e      *Edge
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial returns a client whose end is read all the time.
func (p *pipes) dial() *pipeClient {
	near, far := net.Pipe()
	p.conns <- p.e.newClient(far, p.e.own, p.e.o.Bounds(p.e.own))
	client := &pipeClient{Conn: near, begun: time.Now(), ended: -1}
	client.reading.Go(client.read)
	return client
}

type pipeClient struct {
	net.Conn
	begun   time.Time
	reading sync.WaitGroup

	mu    sync.Mutex
	came  []byte
	ended time.Duration // when the server closed; less than 0: it has not
}

func (c *pipeClient) read() {
	buf := make([]byte, 4<<10)
	for {
		n, err := c.Conn.Read(buf)
		c.mu.Lock()
		c.came = append(c.came, buf[:n]...)
		if err != nil {
			c.ended = time.Since(c.begun)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
	}
}

// say sends a text, and returns when it is read and acted on.
func (c *pipeClient) say(text string) {
	_, _ = io.WriteString(c.Conn, text) // the server may have closed
	synctest.Wait()
}

func (c *pipeClient) closedAt() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

func (c *pipeClient) heard() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.came)
}

// inLife runs a test of connections in a bubble.
func inLife(t *testing.T, idle, maxAge time.Duration, f func(t *testing.T, shutDown func() error, dial func() *pipeClient, ends chan report.ConnInfo)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		obs := newObserver()
		var draining atomic.Bool
		e := testEdge(t, Options{Observer: obs, Draining: draining.Load, Bounds: func(*Listening) Bounds { return Bounds{Idle: idle, MaxAge: maxAge} }})
		p := &pipes{e: e, conns: make(chan net.Conn), closed: make(chan struct{})}
		hs := pageServer(e, e.own, idle)
		hs.HTTP.IdleTimeout = time.Second // a connection has its own
		var serving sync.WaitGroup
		serving.Go(func() { _ = e.Serve(p, e.own, hs) }) // ends with Close
		var clients []*pipeClient
		shutDown := func() error {
			draining.Store(true)
			e.CloseListeners(t.Context())
			return hs.HTTP.Shutdown(t.Context())
		}
		f(t, shutDown, func() *pipeClient {
			c := p.dial()
			clients = append(clients, c)
			synctest.Wait()
			return c
		}, obs.conns)
		for _, c := range clients {
			_ = c.Conn.Close() // the server may have
			c.reading.Wait()
		}
		_ = hs.HTTP.Close() // only the listener's error
		serving.Wait()
		synctest.Wait()
	})
}

// around reports whether got is within a tenth of d, or a little later.
func around(got, d time.Duration) bool {
	return got >= d-d/spreadParts && got <= d+d/spreadParts+2*time.Second
}

func wantEnded(t *testing.T, ends chan report.ConnInfo, want string) {
	t.Helper()
	synctest.Wait()
	select {
	case c := <-ends:
		if c.Ended != want {
			t.Errorf("the connection ended for %q, want %q", c.Ended, want)
		}
	default:
		t.Errorf("the connection has not ended, want %q", want)
	}
}

const (
	getPage   = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
	h2Begins  = http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	badHeader = "GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n"
)

// TestEndsOfConnections: when each ends, and for what reason.
func TestEndsOfConnections(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(c *pipeClient)
		at   time.Duration // less than 0: the client closes
		want string
	}{
		"nothing comes":                {func(*pipeClient) {}, HandshakeTimeout, report.EndedSlow},
		"a byte of a header":           {func(c *pipeClient) { c.say("G") }, HandshakeTimeout, report.EndedSlow},
		"a header without end":         {func(c *pipeClient) { c.say(strings.TrimSuffix(getPage, "\r\n")) }, HandshakeTimeout, report.EndedSlow},
		"a late header without end":    {func(c *pipeClient) { elapse(9 * time.Second); c.say("G"); elapse(time.Second); c.say("E") }, 9*time.Second + HandshakeTimeout, report.EndedSlow},
		"half a header, and a goodbye": {func(c *pipeClient) { c.say("GET "); _ = c.Conn.Close() }, -1, report.EndedOrderly},
		"no HTTP":                      {func(c *pipeClient) { c.say("\x16\x03\x01 hello, is this TLS?\r\n\r\n") }, 0, report.EndedProtocol},
		"a malformed header":           {func(c *pipeClient) { c.say(badHeader) }, 0, report.EndedProtocol},
		"a malformed header behind a request": {func(c *pipeClient) {
			c.say(getPage)
			elapse(45 * time.Second)
			c.say(badHeader)
		}, 45 * time.Second, report.EndedProtocol},
		"a slow header behind a request": {func(c *pipeClient) {
			c.say(getPage)
			elapse(30 * time.Second)
			c.say("GET / HTTP")
		}, 40 * time.Second, report.EndedSlow},
		"idle":                     {func(c *pipeClient) { c.say(getPage) }, time.Minute, report.EndedIdle},
		"idle twice":               {func(c *pipeClient) { c.say(getPage); elapse(40 * time.Second); c.say(getPage) }, 100 * time.Second, report.EndedIdle},
		"a request, and a goodbye": {func(c *pipeClient) { c.say(getPage); _ = c.Conn.Close() }, -1, report.EndedOrderly},
		"one request":              {func(c *pipeClient) { c.say(strings.Replace(getPage, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)) }, 0, report.EndedOrderly},
		"HTTP/2, idle":             {func(c *pipeClient) { c.say(h2Begins) }, 30 * time.Second, report.EndedSilent}, // it answers no pings
		"HTTP/2 and nonsense":      {func(c *pipeClient) { c.say(h2Begins + "GET / HTTP/1.1\r\n\r\n") }, time.Second, report.EndedProtocol},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inLife(t, time.Minute, 0, func(t *testing.T, _ func() error, dial func() *pipeClient, ends chan report.ConnInfo) {
				client := dial()
				c.do(client)
				elapse(5 * time.Minute)
				if at := client.closedAt(); c.at >= 0 && !around(at, c.at) {
					t.Errorf("it was closed after %v, want about %v", at, c.at)
				}
				wantEnded(t, ends, c.want)
			})
		})
	}
}

// TestIdleConnectionsEndApart: those that came and went idle together don't end
// together, nor do those of one age.
func TestIdleConnectionsEndApart(t *testing.T) {
	for name, limits := range map[string]struct{ idle, age time.Duration }{
		"idle": {idle: 100 * time.Second},
		"age":  {age: 100 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inLife(t, limits.idle, limits.age, func(t *testing.T, _ func() error, dial func() *pipeClient, ends chan report.ConnInfo) {
				clients := make([]*pipeClient, 100)
				for i := range clients {
					clients[i] = dial()
				}
				for _, c := range clients {
					c.say(getPage)
				}
				elapse(time.Hour)
				moments := map[int]int{}
				for _, c := range clients {
					at := c.closedAt()
					if !around(at, 100*time.Second) {
						t.Errorf("one was closed after %v", at)
					}
					moments[int(at.Seconds())]++
					wantEnded(t, ends, name)
				}
				for second, n := range moments {
					if n > 30 {
						t.Errorf("%d of 100 ended in second %d", n, second)
					}
				}
			})
		})
	}
}

// TestFirstRequestAtTheEndOfTheWait is served, however many reads it takes: browsers
// open connections ahead, and use them at any time.
func TestFirstRequestAtTheEndOfTheWait(t *testing.T) {
	for name, c := range map[string]struct{ begins, rest, want string }{
		"in the request line":      {"GET / HTTP/1.1", "\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
		"in the method":            {"G", "ET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
		"in a field":               {"GET / HTTP/1.1\r\nHost: loc", "alhost\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
		"in the preface of HTTP/2": {h2Begins[:15], h2Begins[15:], "\x00\x00"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inLife(t, time.Minute, 0, func(t *testing.T, _ func() error, dial func() *pipeClient, _ chan report.ConnInfo) {
				client := dial()
				elapse(HandshakeTimeout - time.Millisecond)
				client.say(c.begins)
				elapse(2 * time.Millisecond)
				client.say(c.rest)
				if got := client.heard(); !strings.HasPrefix(got, c.want) || client.closedAt() >= 0 {
					t.Errorf("heard %q, closed after %v; want %q", got, client.closedAt(), c.want)
				}
			})
		})
	}
}

// TestConnectionWithoutAnIdleTime stays, whatever the http.Server says.
func TestConnectionWithoutAnIdleTime(t *testing.T) {
	inLife(t, 0, 0, func(t *testing.T, _ func() error, dial func() *pipeClient, _ chan report.ConnInfo) {
		c := dial()
		c.say(getPage)
		elapse(time.Hour)
		c.say(getPage)
		if at := c.closedAt(); at >= 0 || strings.Count(c.heard(), "a page") != 2 {
			t.Errorf("it was closed after %v, having heard %q", at, c.heard())
		}
	})
}

// TestOldConnectionServesItsLastRequest and says so.
func TestOldConnectionServesItsLastRequest(t *testing.T) {
	inLife(t, time.Minute, 100*time.Second, func(t *testing.T, _ func() error, dial func() *pipeClient, ends chan report.ConnInfo) {
		c := dial()
		for range 4 { // never idle for long
			c.say(getPage)
			elapse(20 * time.Second)
		}
		if text := c.heard(); strings.Count(text, "a page") != 4 || strings.Contains(text, "Connection: close") {
			t.Errorf("while it is young: %s", text)
		}
		c.say("GET / HTTP/1.1\r\n") // it comes of age within the request
		elapse(9 * time.Second)
		c.say("Host: localhost\r\n\r\n")
		if at := c.closedAt(); at >= 0 { // it was of age before
			if got := c.heard(); strings.Count(got, "a page") != 4 {
				t.Errorf("it served after its end: %s", got)
			}
			wantEnded(t, ends, report.EndedAge)
			return
		}
		elapse(time.Minute)
		wantEnded(t, ends, report.EndedAge)
	})
}

// TestEndedByShutdown.
func TestEndedByShutdown(t *testing.T) {
	inLife(t, time.Minute, 0, func(t *testing.T, shutDown func() error, dial func() *pipeClient, ends chan report.ConnInfo) {
		for _, begins := range []string{getPage, h2Begins} {
			dial().say(begins)
		}
		if err := shutDown(); err != nil {
			t.Error(err)
		}
		wantEnded(t, ends, report.EndedShutdown)
		wantEnded(t, ends, report.EndedShutdown)
	})
}
