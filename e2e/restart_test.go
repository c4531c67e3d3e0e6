package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A holder keeps listening sockets while programs come and go, as systemd does.
type holder struct {
	names   []string
	sockets []*os.File
}

// hold adds a listening socket, on which the tests never accept. It returns the
// address.
func (h *holder) hold(t testing.TB, name, network, address string) string {
	t.Helper()
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // as systemd
	ln, err := plain.Listen(context.Background(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	if unix, ok := ln.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	f, err := ln.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close() // the socket remains open through f
	t.Cleanup(func() { _ = f.Close() })
	h.names, h.sockets = append(h.names, name), append(h.sockets, f)
	return ln.Addr().String()
}

// start starts a program that gets the sockets. Only a shell knows the number of the
// process that the program will have.
func (h *holder) start(t testing.TB, argv ...string) *process {
	t.Helper()
	argv = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`}, argv...)
	p := &process{name: "culvert", cmd: exec.Command(argv[0], argv[1:]...), output: newOutput(), exited: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = w, w, h.sockets
	p.cmd.Env = append(environment(), fmt.Sprintf("LISTEN_FDS=%d", len(h.sockets)), "LISTEN_FDNAMES="+strings.Join(h.names, ":"))
	p.follow(t, r, w)
	return p
}

// generation starts culvert with the sockets and returns once it listens.
func (h *holder) generation(t testing.TB, target, config string, args ...string) *culvert {
	t.Helper()
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &culvert{process: h.start(t, append([]string{culvertProgram, "serve", "--backend", target, "--config", file}, args...)...)}
	c.address = c.logged(t, "listening", "address")["address"].(string)
	c.health = c.logged(t, "answering health checks", "address")["address"].(string)
	return c
}

// TestRestartsRefuseNoConnection replaces culvert twice and then leaves a gap, while
// clients of every transport connect and call all the time. The sockets are a
// holder's. Each new connection must get an answer: from the old culvert, which may be
// draining, or from the new one.
func TestRestartsRefuseNoConnection(t *testing.T) {
	b := startBackend(t, backendOptions{})
	var h holder
	address := h.hold(t, "public", "tcp", "127.0.0.1:0")
	socket := h.hold(t, "pod", "unix", filepath.Join(t.TempDir(), "s"))
	h.hold(t, "health", "tcp", "127.0.0.1:0")
	config := "listen:\n- {name: public, address: '" + address + "'}\n- {name: pod, address: 'unix:/elsewhere'}\n"

	old := h.generation(t, b.address, config)
	var clients sync.WaitGroup
	var answered, draining atomic.Int64
	ctx, stop := context.WithCancel(context.Background())
	repeat := func(what string, try func() (drains bool, err error)) {
		clients.Go(func() {
			for ctx.Err() == nil {
				switch drains, err := try(); {
				case err != nil:
					t.Errorf("%s: %v", what, err)
				case drains:
					draining.Add(1)
				default:
					answered.Add(1)
				}
			}
		})
	}
	defer func() {
		stop()
		clients.Wait()
	}()
	for _, transport := range wire.All {
		for range 2 {
			repeat(string(transport), func() (bool, error) { return callOnce(newID(t), transport, address) })
		}
	}
	repeat("unix", func() (bool, error) { return askOnce(socket) })
	more := func() {
		t.Helper()
		before := answered.Load()
		if err := eventually(patience, func() error {
			if n := answered.Load() - before; n < 200 {
				return fmt.Errorf("%d calls were answered", n)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		more()
		var talks []*call
		for _, transport := range wire.All {
			talk := open(t, dial(t, transport, address), wire.Bidi, probe.Script{Echo: true})
			say(t, talk, 0)
			talks = append(talks, talk)
		}
		next := h.generation(t, b.address, config)
		old.signal(t, syscall.SIGTERM)
		more()
		// A stream that began on the old culvert goes on there.
		for _, talk := range talks {
			say(t, talk, 1)
			if err := talk.CloseSend(); err != nil {
				t.Errorf("%s: %v", talk.conn.Transport, err)
			}
			if e := finish(talk, 2); !e.is(codes.OK, "") {
				t.Errorf("%s: a call that began before the restart: %v", talk.conn.Transport, e)
			}
		}
		if code := old.wait(t, patience); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		if code := next.ask("/readyz"); code != 200 {
			t.Errorf("readyz of the new culvert is %d, want 200", code)
		}
		old = next
	}
	// Nobody accepts between the old culvert and the new one.
	old.signal(t, syscall.SIGTERM)
	if code := old.wait(t, patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	h.generation(t, b.address, config)
	more()
	stop()
	clients.Wait()
	t.Logf("%d calls were answered, %d ended DRAINING", answered.Load(), draining.Load())
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("the unix socket: %v", err)
	}
}

// callOnce makes one ordinary call over a new connection. drains reports whether
// culvert refused it because it drains, so that a client may try again.
func callOnce(id string, transport wire.Transport, address string) (drains bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := wire.Dial(ctx, transport, address)
	if err != nil {
		if strings.Contains(err.Error(), "101 but got 503") { // a tunnel
			return true, nil
		}
		return false, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	c, err := conn.Post(ctx, wire.Unary, wire.Metadata(id, probe.Script{}), wire.Request(0, 16))
	if err != nil {
		return false, err
	}
	defer c.Close()
	e := finish(c, 0)
	drains = e.is(codes.Unavailable, "DRAINING")
	if !drains && (!e.is(codes.OK, "") || e.replies != 1) {
		return false, errors.New(e.String())
	}
	return drains, nil
}

// askOnce makes one request over a new connection to a unix socket. The request is no
// call: any answer shows that culvert accepted the connection.
func askOnce(socket string) (drains bool, err error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }() // the answer was read
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return false, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false, err
	}
	_ = answer.Body.Close() // the status is all
	return answer.StatusCode == http.StatusServiceUnavailable, nil
}

// TestWrongSocketsEndTheStart passes sockets that culvert can't use or has no use for.
// culvert must say which, and serve nobody.
func TestWrongSocketsEndTheStart(t *testing.T) {
	t.Parallel()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }() // the test is over
	datagrams, err := udp.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = datagrams.Close() }() // the test is over
	for name, c := range map[string]struct {
		holder func(t *testing.T) *holder
		want   string
	}{
		"of no listener": {func(t *testing.T) *holder {
			var h holder
			h.hold(t, "web", "tcp", "127.0.0.1:0")
			return &h
		}, `no listener has the name or the address of the socket "web" at 127.0.0.1:`},
		"UDP": {func(*testing.T) *holder {
			return &holder{names: []string{"public"}, sockets: []*os.File{datagrams}}
		}, `the socket "public" (descriptor 3) isn't a stream socket`},
		"without a name": {func(t *testing.T) *holder {
			var h holder
			h.hold(t, "public:more", "tcp", "127.0.0.1:0")
			return &h
		}, "LISTEN_FDNAMES: 2 names for 1 sockets"},
	} {
		t.Run(name, func(t *testing.T) {
			p := c.holder(t).start(t, culvertProgram, "serve", "--backend", "localhost:1", "--listen", "127.0.0.1:0", "--health-listen", "off")
			if code := p.wait(t, patience); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if got := p.output.tail(5); !strings.Contains(got, c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
