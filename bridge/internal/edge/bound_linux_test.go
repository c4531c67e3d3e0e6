package edge

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/culvert-grpc/culvert/bridge/internal/socket"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestUserTimeoutIsForClosedConnections: it would cut a client that takes
// nothing for a while and answers TCP's probes.
func TestUserTimeoutIsForClosedConnections(t *testing.T) {
	e := testEdge(t, Options{Bounds: func(*Listening) Bounds { return Bounds{SlowConsumerTimeout: time.Minute} }})
	for name, c := range map[string]struct {
		unread int // bytes that the client has not taken
		ended  string
		want   time.Duration
	}{
		"all is taken":                 {0, report.EndedOrderly, userTimeout},
		"the client is slow":           {8 << 20, report.EndedOrderly, time.Minute},
		"the client has been too slow": {8 << 20, report.EndedSlow, userTimeout},
	} {
		server, _ := tcpPair(t)
		socket.Probe(tls.Server(server, &tls.Config{}), probes)
		if got := parts.UserTimeout(t, server); got != 0 {
			t.Errorf("%s: an accepted connection has the user time-out %v, want none", name, got)
		}
		_ = server.SetWriteDeadline(time.Now().Add(time.Second)) // it is open
		_, _ = server.Write(make([]byte, c.unread))              // as much as the kernel takes
		conn := e.newClient(server, e.own, e.o.Bounds(e.own))
		conn.life.end(c.ended)
		conn.boundRest()
		if got := parts.UserTimeout(t, server); got != c.want {
			t.Errorf("%s: the user time-out is %v, want %v", name, got, c.want)
		}
	}
}

// TestAcceptedConnectionsAreProbed from their beginning where ListenConfig was
// used.
func TestAcceptedConnectionsAreProbed(t *testing.T) {
	for name, c := range map[string]struct {
		config *net.ListenConfig
		begin  bool
	}{"with ListenConfig": {ListenConfig(), true}, "with Go's": {new(net.ListenConfig), false}} {
		t.Run(name, func(t *testing.T) {
			ln, err := c.config.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			client, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			conn, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			tcp := conn.(*net.TCPConn)
			if got := socket.BeganProbing(tcp, probes); got != c.begin {
				t.Errorf("it began so: %v, want %v", got, c.begin)
			}
			socket.Probe(tcp, probes)
			if got := parts.UserTimeout(t, tcp); got != 0 {
				t.Errorf("user time-out %v, want none", got)
			}
			raw, err := tcp.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if cerr := raw.Control(func(fd uintptr) {
				for o, want := range map[[2]int]int{
					{unix.SOL_SOCKET, unix.SO_KEEPALIVE}:   1,
					{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}:  int(keepAliveIdle.Seconds()),
					{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}: int(keepAliveEvery.Seconds()),
					{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}:   keepAliveCount,
				} {
					if got, err := unix.GetsockoptInt(int(fd), o[0], o[1]); got != want || err != nil {
						t.Errorf("option %v is %d (%v), want %d", o, got, err, want)
					}
				}
			}); cerr != nil {
				t.Error(cerr)
			}
		})
	}
}
