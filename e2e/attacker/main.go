// Command attacker opens many calls through culvert and makes culvert hold memory
// for them, at as little cost as it can: what it sends is made once, so that the
// machine's processors are left to culvert. It is a program of its own for the same
// reason, without the race detector of the tests.
//
// It opens the calls, prints a line, waits for SIGUSR1 to begin the attack, and for
// SIGTERM to print what came of it and to leave with a reset of each connection.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

func main() {
	a := &attack{ends: map[string]int{}}
	transport := flag.String("transport", string(wire.GRPC), "one of package wire's")
	ca := flag.String("ca", "", "`file` with the authority of culvert's certificate; \"\": plaintext")
	from := flag.String("from", "127.0.0.1", "the first source `address`")
	flag.StringVar(&a.address, "address", "", "where culvert listens")
	flag.StringVar(&a.kind, "kind", "", "what each call does once it is open: one of kinds")
	flag.IntVar(&a.sources, "sources", 1, "how many addresses to come from")
	flag.IntVar(&a.calls, "calls", 1, "how many calls to open")
	flag.Parse()
	a.transport = wire.Transport(*transport)
	if err := a.run(*from, *ca); err != nil {
		fmt.Fprintln(os.Stderr, "attacker:", err)
		os.Exit(1)
	}
}

// An attack is what the flags ask for, and what has come of it.
type attack struct {
	address, kind  string
	transport      wire.Transport
	sources, calls int
	from           netip.Addr
	tls            *tls.Config // nil: plaintext

	sent  atomic.Int64 // bytes, on the TCP connections
	begun atomic.Int64 // calls
	mu    sync.Mutex
	ends  map[string]int // calls, by how they ended
}

// A report is a line of the output.
type report struct {
	Open  bool           `json:"open"`  // the calls are open, and the attack waits
	Calls int64          `json:"calls"` // that were begun
	Sent  int64          `json:"sent"`
	Ends  map[string]int `json:"ends"`
}

func (a *attack) run(from, ca string) error {
	plan, ok := kinds[a.kind]
	if !ok {
		return fmt.Errorf("no kind %q", a.kind)
	}
	var err error
	if a.from, err = netip.ParseAddr(from); err != nil {
		return err
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		// One curve and old sessions: a handshake costs an attacker little.
		a.tls = &tls.Config{
			RootCAs: roots, ServerName: "127.0.0.1", NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12,
			CurvePreferences: []tls.CurveID{tls.X25519}, ClientSessionCache: tls.NewLRUClientSessionCache(64),
		}
		if a.transport == wire.GRPC || a.transport == wire.WebH2 {
			a.tls.NextProtos = []string{"h2"}
		}
	}
	attacks, ends := make(chan os.Signal, 1), make(chan os.Signal, 1) // each comes once
	signal.Notify(attacks, syscall.SIGUSR1)
	signal.Notify(ends, syscall.SIGTERM)

	carriers := a.open(plan)
	a.print(true)
	select {
	case <-attacks:
		for i, c := range carriers {
			if plan.atOnce {
				break
			}
			offset := plan.every * time.Duration(i) / time.Duration(len(carriers))
			go a.send(c, plan, offset) // ends with the process
		}
		<-ends
	case <-ends:
	}
	a.print(false)
	return nil
}

func (a *attack) print(open bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(report{open, a.begun.Load(), a.sent.Load(), a.ends}) // the test misses it
}

// end counts n calls that ended.
func (a *attack) end(how string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ends[how] += n
}

// endWith counts one that ended with a status.
func (a *attack) endWith(s *wire.Status, err error) {
	if err != nil {
		a.end("no status", 1)
		return
	}
	a.end(s.Code.String()+" "+s.Reason(), 1)
}

// callsPerConnection is what culvert allows.
const callsPerConnection = 100

const (
	// openers is how many connections are opened at one time.
	openers = 64

	// opensPerSecond is how many calls are: the attack is on memory, and not on
	// processors that the attacker shares with culvert.
	opensPerSecond = 5000
)

// open opens all calls and returns what carries them. Those that are refused are
// counted.
func (a *attack) open(p plan) []carrier {
	each := 1
	if a.transport.Multiplexed() {
		each = callsPerConnection
	}
	n := (a.calls + each - 1) / each
	all := make([]carrier, n)
	next := make(chan int)
	var work sync.WaitGroup
	for range openers {
		work.Go(func() {
			for i := range next {
				size := min(each, a.calls-i*each)
				c, err := a.openOne(i, size, p)
				if err != nil {
					a.end("refused", size)
					continue
				}
				a.begun.Add(int64(size))
				all[i] = c
				if !p.stalled || a.transport.Multiplexed() {
					go c.read() // ends with the connection
				}
				if p.atOnce {
					_ = c.send(p.first) // read counts the end
				}
			}
		})
	}
	began := time.Now()
	for i := range n {
		<-time.After(time.Until(began.Add(time.Duration(i*each) * time.Second / opensPerSecond)))
		next <- i
	}
	close(next)
	work.Wait()
	return slices.DeleteFunc(all, func(c carrier) bool { return c == nil })
}

// openTime bounds the handshakes of one connection.
const openTime = 30 * time.Second

func (a *attack) openOne(i, calls int, p plan) (carrier, error) {
	conn, err := a.dial(i, p.stalled)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(openTime)) // just opened
	c, err := newCarrier(a, conn, p)
	if err == nil {
		err = c.begin(calls)
	}
	if err != nil {
		_ = conn.Close() // the error before says more
		return nil, err
	}
	return c, conn.SetDeadline(time.Time{})
}

// dial opens connection i. If the attack is to stall, the kernel takes little for it.
func (a *attack) dial(i int, stalled bool) (net.Conn, error) {
	from := a.from
	for range i % a.sources {
		from = from.Next()
	}
	d := net.Dialer{
		Timeout: openTime, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), KeepAlive: -1,
		Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				if stalled {
					_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) // the kernel's least is more
				}
			})
		},
	}
	tcp, err := d.Dial("tcp", a.address)
	if err != nil {
		return nil, err
	}
	_ = tcp.(*net.TCPConn).SetLinger(0) // it leaves without a trace
	var conn net.Conn = &countedConn{tcp, &a.sent}
	if a.tls != nil {
		conn = tls.Client(conn, a.tls)
	}
	return conn, nil
}

// A countedConn counts what is written.
type countedConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// send makes the calls of one carrier do what the attack is.
func (a *attack) send(c carrier, p plan, offset time.Duration) {
	if p.spread {
		<-time.After(offset)
	}
	if c.send(p.first) != nil || p.every == 0 {
		return // read counts the end
	}
	pace := time.NewTicker(p.every)
	defer pace.Stop()
	if !p.spread {
		<-time.After(offset)
		pace.Reset(p.every)
	}
	for range pace.C {
		if c.send(p.then) != nil {
			return
		}
	}
}

// A plan is what each call of an attack does.
type plan struct {
	method  string
	script  string
	stalled bool // the client's window is 0, or it reads nothing
	first   *piece
	then    *piece
	atOnce  bool          // each connection begins as soon as it is open
	every   time.Duration // 0: never
	spread  bool          // the first pieces don't go all at once
}
