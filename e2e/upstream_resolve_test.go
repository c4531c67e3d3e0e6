package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A nameServer is a DNS server that knows one set of addresses, by every name.
type nameServer struct {
	conn net.PacketConn

	mu        sync.Mutex
	addresses []netip.Addr // none: the name doesn't exist
}

func startNameServer(t testing.TB, addresses ...string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn}
	s.set(addresses...)
	var serving sync.WaitGroup
	serving.Go(s.serve)
	t.Cleanup(func() {
		_ = conn.Close() // ends serve
		serving.Wait()
	})
	return s
}

// target is what --backend takes, with the port of the backend's address.
func (s *nameServer) target(t testing.TB, b *backend) string {
	t.Helper()
	return "dns://" + s.conn.LocalAddr().String() + "/backend.test:" + b.port(t)
}

func (b *backend) port(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(b.address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func (s *nameServer) set(addresses ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses = nil
	for _, a := range addresses {
		s.addresses = append(s.addresses, netip.MustParseAddr(a))
	}
}

func (s *nameServer) serve() {
	packet := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(packet)
		if err != nil {
			return
		}
		if answer := s.answer(packet[:n]); answer != nil {
			_, _ = s.conn.WriteTo(answer, from) // who asked may be gone
		}
	}
}

func (s *nameServer) answer(packet []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(packet); err != nil || len(m.Questions) != 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := m.Questions[0]
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionDesired: true, RecursionAvailable: true}
	m.Additionals = nil
	if len(s.addresses) == 0 {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range s.addresses {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET, TTL: 1},
				Body:   &dnsmessage.AResource{A: a.As4()},
			})
		}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// tryUnary makes one call on a connection that is open, and returns its error.
func tryUnary(t testing.TB, conn *wire.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return unary(ctx, conn, newID(t))
}

// The backend moves to another address: calls soon work again, whether the
// name server knew of it before the old address was gone, or later.
func TestBackendMoves(t *testing.T) {
	t.Parallel()
	for _, known := range []string{"before", "later"} {
		t.Run(known, func(t *testing.T) {
			t.Parallel()
			old := startBackend(t, backendOptions{listen: "127.0.0.2:0"})
			moved := startBackend(t, backendOptions{listen: "127.0.0.3:" + old.port(t)})
			names := startNameServer(t, "127.0.0.2")
			c := startCulvert(t, names.target(t, old), culvertOptions{})
			conn := dial(t, wire.GRPC, c.address)
			if err := tryUnary(t, conn); err != nil {
				t.Fatal(err)
			}
			if known == "before" {
				names.set("127.0.0.3")
			}
			old.kill(t)
			gone := time.Now()
			if known == "later" {
				for time.Since(gone) < 3300*time.Millisecond {
					if err := tryUnary(t, conn); err == nil {
						t.Fatal("a call came through, and no backend is there")
					}
				}
				names.set("127.0.0.3")
				gone = time.Now()
			}
			failed, since := 0, gone
			for time.Since(since) < 3*time.Second { // none failed for so long
				if tryUnary(t, conn) != nil {
					failed++
					since = time.Now()
				}
			}
			if took := since.Sub(gone); took > servedAgain {
				t.Errorf("calls failed for %v after the move", took)
			} else {
				t.Logf("%d calls failed within %v", failed, took)
			}
			if len(moved.records(t)) == 0 {
				t.Error("the new address saw no call")
			}
		})
	}
}

// An address that is added gets its part of the calls although nothing failed;
// one whose name can't be resolved any more keeps them.
func TestAddressesThatChange(t *testing.T) {
	t.Parallel()
	first := startBackend(t, backendOptions{listen: "127.0.0.2:0"})
	second := startBackend(t, backendOptions{listen: "127.0.0.3:" + first.port(t)})
	names := startNameServer(t, "127.0.0.2")
	c := startCulvert(t, names.target(t, first), culvertOptions{config: "backend:\n  resolve_interval: 1s\n"})
	conn := dial(t, wire.GRPC, c.address)
	if err := tryUnary(t, conn); err != nil {
		t.Fatal(err)
	}
	names.set("127.0.0.2", "127.0.0.3")
	if err := eventually(patience, func() error {
		if err := tryUnary(t, conn); err != nil {
			t.Errorf("a call beside the change: %v", err)
		}
		if n := len(second.records(t)); n == 0 {
			return fmt.Errorf("the added address saw no call")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	names.set()
	for before := time.Now(); time.Since(before) < 3*time.Second; {
		if err := tryUnary(t, conn); err != nil {
			t.Fatalf("without an answer from DNS: %v", err)
		}
	}
}
