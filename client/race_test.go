package client

import (
	"cmp"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestRace: which way wins, and when. All others are closed.
func TestRace(t *testing.T) {
	const ms = time.Millisecond
	type attempt struct {
		takes time.Duration
		end   string // "delivers", "half" or why it fails
	}
	hangs := attempt{wayTimeout, "is silent"}
	for name, test := range map[string]struct {
		known                lesson
		grpc, websocket, web attempt
		wins                 Way // "": none
		after                time.Duration
		begun                int
		closedAt             time.Duration // the Dialer; 0: never
		within               time.Duration // the context; 0: findTimeout
		says                 string
	}{
		"the first":               {grpc: attempt{50 * ms, "delivers"}, wins: GRPC, after: 50 * ms, begun: 1},
		"the next, after a start": {grpc: attempt{400 * ms, "delivers"}, websocket: attempt{50 * ms, "delivers"}, wins: WebSocket, after: 350 * ms, begun: 2},
		"the next, after a failure": {
			grpc: attempt{10 * ms, "no ALPN"}, websocket: attempt{50 * ms, "delivers"}, wins: WebSocket, after: 60 * ms, begun: 2,
		},
		"the known one": {known: lesson{way: WebSocket}, websocket: attempt{50 * ms, "delivers"}, wins: WebSocket, after: 50 * ms, begun: 1},
		"none": {
			grpc: attempt{10 * ms, "no ALPN"}, websocket: attempt{10 * ms, "no Upgrade"}, web: attempt{10 * ms, "no POST"},
			after: 30 * ms, begun: 3, says: "grpc: no ALPN; websocket: no Upgrade; grpc-web: no POST",
		},
		"none in time": {grpc: hangs, websocket: hangs, web: hangs, within: 5 * time.Second, after: 5 * time.Second, begun: 3, says: "all: no byte came in time"},
		"none in time, and some before": {
			grpc: attempt{10 * ms, "no ALPN"}, websocket: hangs, web: hangs, within: 5 * time.Second, after: 5 * time.Second, begun: 3, says: "no ALPN",
		},
		"half, where a better one hangs": {grpc: hangs, websocket: attempt{0, "no Upgrade"}, web: attempt{100 * ms, "half"}, wins: GRPCWeb, after: halfPatience, begun: 3},
		"half, late":                     {grpc: hangs, websocket: attempt{0, "no Upgrade"}, web: attempt{4 * time.Second, "half"}, wins: GRPCWeb, after: 4*time.Second + headStart, begun: 3},
		"half, when the others fail": {
			grpc: attempt{time.Second, "no ALPN"}, websocket: attempt{2 * time.Second, "no Upgrade"}, web: attempt{100 * ms, "half"},
			wins: GRPCWeb, after: 2*time.Second + headStart, begun: 3,
		},
		"half, and a better one delivers": {
			grpc: attempt{2 * time.Second, "delivers"}, websocket: attempt{0, "no Upgrade"}, web: attempt{100 * ms, "half"}, wins: GRPC, after: 2 * time.Second, begun: 3,
		},
		"half, and known": {known: lesson{way: GRPCWeb}, web: attempt{100 * ms, "half"}, grpc: hangs, websocket: hangs, wins: GRPCWeb, after: 100*ms + halfPatience, begun: 3},
		"half, alone": {
			grpc: attempt{10 * ms, "no ALPN"}, websocket: attempt{10 * ms, "no Upgrade"}, web: attempt{10 * ms, "half"}, wins: GRPCWeb, after: 30 * ms, begun: 3,
		},
		"half, in the last moment": {grpc: hangs, websocket: hangs, web: attempt{100 * ms, "half"}, within: time.Second, wins: GRPCWeb, after: time.Second, begun: 3},
		"a silent one, later": {
			known: lesson{silent: GRPC}, websocket: hangs, grpc: attempt{50 * ms, "delivers"}, wins: GRPC, after: halfPatience + 50*ms, begun: 2,
		},
		"a slow one, before a silent one": {
			known: lesson{silent: GRPC}, websocket: attempt{2 * time.Second, "delivers"}, wins: WebSocket, after: 2 * time.Second, begun: 1,
		},
		"closed":             {grpc: attempt{time.Second, "no ALPN"}, closedAt: 100 * ms, after: time.Second, begun: 1, says: errClosed.Error()},
		"closed behind half": {known: lesson{way: GRPCWeb}, web: attempt{50 * ms, "half"}, closedAt: 10 * ms, after: 50 * ms, begun: 1, says: errClosed.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &Dialer{}
				began := time.Now()
				var open sync.Map // of the ends of connections
				var begun atomic.Int64
				attempts := map[Way]attempt{GRPC: test.grpc, WebSocket: test.websocket, GRPCWeb: test.web}
				r := &race{edge: "E", known: test.known, left: order("", test.known)}
				r.begin = func(run func()) bool { // Close waits for the ways, too
					if test.closedAt > 0 && time.Since(began) > test.closedAt {
						return false
					}
					return d.begin(run)
				}
				r.try = func(way Way) opened {
					begun.Add(1)
					a := attempts[way]
					<-time.After(a.takes)
					if a.end != "delivers" && a.end != "half" {
						return opened{err: &wayError{way, errors.New(a.end)}}
					}
					near, far := net.Pipe()
					open.Store(far, way)
					return opened{conn: newConn(near, way, nil), lesson: lesson{twoWay: a.end != "half"}}
				}
				found := r.run(parts.Within(t, cmp.Or(test.within, findTimeout)))
				if took := time.Since(began); took != test.after {
					t.Errorf("it took %v, want %v", took, test.after)
				}
				switch {
				case test.wins == "":
					if found.err == nil || !strings.Contains(found.err.Error(), test.says) {
						t.Errorf("%v, want %q", found.err, test.says)
					}
				case found.conn == nil || found.conn.way != test.wins:
					t.Errorf("%+v, want %s", found, test.wins)
				default:
					defer found.conn.Close()
				}
				d.work.Wait()
				synctest.Wait()
				if got := int(begun.Load()); got != test.begun {
					t.Errorf("%d ways, want %d", got, test.begun)
				}
				open.Range(func(far, way any) bool {
					c, _ := far.(net.Conn)
					_ = c.SetReadDeadline(time.Now().Add(time.Second)) // a pipe's never fails
					if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) != (way != test.wins) {
						t.Errorf("the connection by %s: %v", way, err)
					}
					return true
				})
			})
		})
	}
}

// TestLateWays: a caller that gives up first is told what doesn't answer.
func TestLateWays(t *testing.T) {
	for name, test := range map[string]struct{ silent, proxy, says string }{
		"a silent proxy":   {"proxy.example.com:3128", "http://proxy.example.com:3128", "through the proxy proxy.example.com:3128: no answer from the proxy in time"},
		"a silent SOCKS5":  {"proxy.example.com:1080", "socks5://proxy.example.com:1080", "through the proxy proxy.example.com:1080: no answer from the proxy in time"},
		"a silent network": {"edge.example.com:80", "none", "no answer to the connection in time"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				places := parts.Places{}
				places.Listen(t, test.silent)
				d := inMemory(t, places, WithProxy(test.proxy))
				if _, err := d.Dial(parts.Within(t, wayTimeout)); err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), errSilent.Error()) {
					t.Errorf("%v, want %q", err, test.says)
				}
				d.Close()
				parts.Elapse(time.Minute) // the buffers' goroutines
			})
		})
	}
}

// TestSameFailure: attempts that fail alike have one text, whatever the ports of their connections.
func TestSameFailure(t *testing.T) {
	here := net.IPv4(127, 0, 0, 1)
	e := &noWayError{edge: "E"}
	for i, way := range ways {
		e.ways = append(e.ways, &wayError{way, &net.OpError{
			Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: here, Port: 40000 + i}, Addr: &net.TCPAddr{IP: here, Port: 3128}, Err: syscall.ECONNRESET,
		}})
	}
	if text := e.Error(); strings.Count(text, "read tcp 127.0.0.1:3128: connection reset") != 1 || strings.Contains(text, "4000") {
		t.Error(text)
	}
}
