package doctor

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A slowConn takes time for each read and write, by their bytes.
type slowConn struct {
	net.Conn
	each, perByte time.Duration
}

func (c slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wait(n)
	return n, err
}

func (c slowConn) Write(p []byte) (int, error) {
	c.wait(len(p))
	return c.Conn.Write(p)
}

func (c slowConn) wait(n int) { <-time.After(c.each + time.Duration(n)*c.perByte) }

// TestSlowTransfer: a transfer that needs more time than the doctor has isn't cut.
func TestSlowTransfer(t *testing.T) {
	for name, c := range map[string]struct {
		each, perByte time.Duration
		want          Result
	}{
		"a fast line": {0, 0, works},
		"600 ms":      {600 * time.Millisecond, 0, unknown},
		"8 kB/s":      {0, time.Second / 8000, unknown},
		"a dead line": {time.Hour, 0, silent},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.page("edge.example.com:80", func(rw http.ResponseWriter, r *http.Request) {
					rw.Header().Set("Content-Type", "application/grpc-web")
					_ = http.NewResponseController(rw).EnableFullDuplex() // the doctor sees a failure
					_, _ = io.Copy(rw, r.Body)                            // the doctor may be gone
				})
				o := w.direct()
				dial := o.dialer
				o.dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := dial(ctx, network, address)
					return slowConn{conn, c.each, c.perByte}, err
				}
				x, err := newExamination("http://edge.example.com", o)
				if err != nil {
					w.t.Fatal(err)
				}
				x.service = new(serviceFacts)
				if f := x.probe(w.t.Context(), probeLargeBody, callLimit, x.sendLargeBody); f.Result != c.want {
					w.t.Errorf("%+v, want %s", f, c.want)
				}
			})
		})
	}
}

// A counter has the connections that are open.
type counter struct {
	mu        sync.Mutex
	open, all int
}

// A countedConn tells its counter of its end, once.
type countedConn struct {
	net.Conn
	closed func()
}

func (c countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// TestLimitedConnections: connections that can't be opened say nothing of what would cross them.
func TestLimitedConnections(t *testing.T) {
	const never = 1 << 20
	for name, c := range map[string]struct {
		atOnce, inAll int
		hangs         bool
		want          []string
	}{
		"2 at once":              {2, never, false, []string{"way-grpc"}},
		"4 at once, others hang": {4, never, true, []string{"way-grpc", "way-untested", "way-unknown", "decryption-unknown", "no-connection"}},
		"3 in all":               {never, 3, false, []string{"way-unknown", "decryption-unknown", "no-connection"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.doctor = true
				w.startEdge()
				o := w.direct()
				dial := o.dialer
				var n counter
				o.dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
					n.mu.Lock()
					n.all++
					refused := n.open >= c.atOnce || n.all > c.inAll
					if !refused {
						n.open++
					}
					n.mu.Unlock()
					switch {
					case refused && c.hangs:
						<-ctx.Done()
						return nil, ctx.Err()
					case refused:
						return nil, syscall.ECONNRESET
					}
					conn, err := dial(ctx, network, address)
					return countedConn{conn, sync.OnceFunc(func() {
						n.mu.Lock()
						n.open--
						n.mu.Unlock()
					})}, err
				}
				r := w.run(o) // which ways get the connections is a matter of luck
				for _, id := range ids(r) {
					if !slices.Contains(c.want, id) {
						w.t.Errorf("it says %s, and may say %q\n%s", id, c.want, describe(r))
					}
				}
				if r.Bidirectional == No {
					w.t.Errorf("bidirectional streams: %s\n%s", r.Bidirectional, describe(r))
				}
			})
		})
	}
}
