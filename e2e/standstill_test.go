package e2e

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A path is a TCP relay to one target that can stand still, as a client's process
// does in a debugger: the kernel acknowledges for it, and nobody reads or sends.
type path struct {
	ln    net.Listener
	still sync.RWMutex // locked while it stands still
	work  sync.WaitGroup
}

// newPath relays to target until the test ends. Its sockets hold little.
func newPath(t testing.TB, target string) *path {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &path{ln: ln}
	var conns []net.Conn
	var mu sync.Mutex
	p.work.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
				return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10) })
			}}
			server, err := d.Dial("tcp", target)
			if err != nil {
				_ = client.Close() // the client's test fails
				continue
			}
			mu.Lock()
			conns = append(conns, client, server)
			mu.Unlock()
			p.work.Go(func() { p.copy(client, server) })
			p.work.Go(func() { p.copy(server, client) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		p.work.Wait()
	})
	return p
}

// copy carries what it reads.
func (p *path) copy(to, from net.Conn) {
	buf := make([]byte, 4<<10)
	for {
		p.still.RLock()
		p.still.RUnlock() //nolint:staticcheck // it waits
		n, err := from.Read(buf)
		p.still.RLock()
		_, writeErr := to.Write(buf[:n])
		p.still.RUnlock()
		switch {
		case errors.Is(err, io.EOF):
			if w, ok := to.(*net.TCPConn); ok {
				_ = w.CloseWrite() // it may be closed
			}
			return
		case err != nil || writeErr != nil:
			_, _ = to.Close(), from.Close() // one of them is
			return
		}
	}
}

// A reader that stands still for 45 seconds in the middle of a stream goes on
// where it was, on every transport, although culvert's writes may never block and
// its pings stay unanswered.
func TestReaderThatStandsStill(t *testing.T) {
	t.Parallel()
	const replies, size = 500, 4 * kib
	b := startBackend(t, backendOptions{})
	ca := newIssuer(t, "standstill")
	dir := t.TempDir()
	cert, key := writePair(t, dir, "server", ca.issue("127.0.0.1", "127.0.0.1"))
	plain := startCulvert(t, b.address, culvertOptions{})
	secure := startCulvert(t, b.address, culvertOptions{args: []string{"--tls-cert", cert, "--tls-key", key}})
	plainPath, securePath := newPath(t, plain.address), newPath(t, secure.address)
	var calls []*call
	for _, transport := range wire.All {
		script := probe.Script{Replies: replies, ReplyBytes: size, ReplyEvery: 40}
		calls = append(calls, post(t, dial(t, transport, plainPath.ln.Addr().String()), wire.ServerStream, script))
		calls = append(calls, post(t, dialTLS(t, transport, securePath.ln.Addr().String(), ca.trusting()), wire.ServerStream, script))
	}
	ends := finishing(calls)
	for _, call := range calls {
		b.record(t, call.id, probe.Began, patience)
	}
	<-time.After(5 * time.Second) // in the middle of the streams
	plainPath.still.Lock()
	securePath.still.Lock()
	<-time.After(45 * time.Second)
	plainPath.still.Unlock()
	securePath.still.Unlock()
	for i, e := range await(t, ends, patience, "the calls' ends") {
		if !e.is(codes.OK, "") || e.replies != replies {
			t.Errorf("%s (TLS %v): %v, want %d replies and OK", calls[i].conn.Transport, i%2 == 1, e, replies)
		}
	}
}
