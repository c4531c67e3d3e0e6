package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// hoard opens connections that never say anything. stop closes them.
func hoard(t *testing.T, address string, n int) (stop func()) {
	t.Helper()
	var conns []net.Conn
	stop = func() {
		for _, c := range conns {
			_ = c.Close() // culvert may have
		}
		conns = nil
	}
	t.Cleanup(stop)
	for range n {
		c, err := (&net.Dialer{Timeout: time.Minute}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	return stop
}

// Connections leave a reserve of file descriptors: who is there goes on, the
// backend is reached, health is told, and when the others leave, new ones are
// served.
func TestConnectionsLeaveDescriptors(t *testing.T) {
	const openFiles = 200
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{openFiles: openFiles, config: "limits: {connections: 10000}\n"})
	var talks []*call
	for _, transport := range []wire.Transport{wire.GRPC, wire.WebSocket, wire.Tunnel, wire.Web} {
		talk := open(t, dial(t, transport, c.address), wire.Bidi, probe.Script{Echo: true})
		say(t, talk, 0)
		talks = append(talks, talk)
	}
	stop := hoard(t, c.address, 2*openFiles)
	c.logged(t, "out descriptors")
	c.loggedLike(t, func(l map[string]any) bool {
		return l["msg"] == "refused" && l["key"] == "limits.connections" && strings.Contains(fmt.Sprint(l["detail"]), "descriptors")
	})
	for i, talk := range talks {
		say(t, talk, 1)
		if i == 0 || i == 2 { // a call on a connection that is there
			if err := unary(t.Context(), talk.conn, newID(t)); err != nil {
				t.Errorf("%s: a new call: %v", talk.conn.Transport, err)
			}
		}
	}
	if used := c.descriptors(t); used > openFiles*4/5 {
		t.Errorf("%d of %d descriptors are used", used, openFiles)
	}
	if err := eventually(patience, func() error { return isReady(c) }); err != nil {
		t.Errorf("health without descriptors to spare: %v", err)
	}
	stop()
	for _, transport := range []wire.Transport{wire.Web, wire.WebSocket} {
		if err := eventually(patience, func() error { return works(t, transport, c.address, 20*time.Second) }); err != nil {
			t.Errorf("%s: after the others have left: %v", transport, err)
		}
	}
	awaitAgain(t, c)
	for _, talk := range talks {
		say(t, talk, 2)
	}
}

// The port of health checks leaves descriptors, too: for the backend and for
// who is there.
func TestPlainPortLeavesDescriptors(t *testing.T) {
	const openFiles = 200
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{openFiles: openFiles})
	talk := open(t, dial(t, wire.Tunnel, c.address), wire.Bidi, probe.Script{Echo: true})
	say(t, talk, 0)
	stop := hoard(t, c.health, 2*openFiles)
	c.logged(t, "out descriptors")
	say(t, talk, 1)
	if err := unary(t.Context(), talk.conn, newID(t)); err != nil {
		t.Errorf("a new call: %v", err)
	}
	if used := c.descriptors(t); used > openFiles*19/20 {
		t.Errorf("%d of %d descriptors are used", used, openFiles)
	}
	stop()
	if err := eventually(patience, func() error { return isReady(c) }); err != nil {
		t.Errorf("health after the others have left: %v", err)
	}
	if err := eventually(patience, func() error { return works(t, wire.Web, c.address, 20*time.Second) }); err != nil {
		t.Errorf("after the others have left: %v", err)
	}
	awaitAgain(t, c)
}

// awaitAgain waits for culvert to say that descriptors are there again, which
// it does with a connection that comes after a calm.
func awaitAgain(t *testing.T, c *culvert) {
	t.Helper()
	err := eventually(patience, func() error {
		if err := works(t, wire.Web, c.address, 20*time.Second); err != nil {
			return err
		}
		return c.said("again descriptors")
	})
	if err != nil {
		t.Error(err)
	}
}

// isReady asks culvert's /readyz on a connection of its own.
func isReady(c *culvert) error {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + c.health + "/readyz")
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // the status is all
	if resp.StatusCode != http.StatusOK {
		return &net.AddrError{Err: resp.Status, Addr: c.health}
	}
	return nil
}

// Without any descriptor left, and not only at the reserve, culvert waits, says
// so, burns no processor time, and goes on when there are some again.
func TestNoDescriptorIsLeft(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	talk := open(t, dial(t, wire.WebSocket, c.address), wire.Bidi, probe.Script{Echo: true})
	say(t, talk, 0)
	var before unix.Rlimit
	if err := unix.Prlimit(c.pid(), unix.RLIMIT_NOFILE, nil, &before); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 3, Max: before.Max} // standard input, output and error have them
	if err := unix.Prlimit(c.pid(), unix.RLIMIT_NOFILE, &none, nil); err != nil {
		t.Fatal(err)
	}
	began, used := time.Now(), c.processor(t)
	worked := make(chan error, 1) // one answer
	conn := dial(t, wire.Web, c.address)
	go func() { worked <- unary(t.Context(), conn, newID(t)) }()
	c.logged(t, "out descriptors")
	pace := time.NewTicker(50 * time.Millisecond) // for a second in which it could burn some
	defer pace.Stop()
	for i := range uint64(20) {
		say(t, talk, 1+i)
		<-pace.C
	}
	if burnt, passed := c.processor(t)-used, time.Since(began); burnt > passed/2 {
		t.Errorf("%v of processor time in %v without a descriptor", burnt, passed)
	}
	select {
	case err := <-worked:
		t.Errorf("a call on a connection that can't be accepted: %v", err)
	default:
	}
	if err := unix.Prlimit(c.pid(), unix.RLIMIT_NOFILE, &before, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-worked:
		if err != nil {
			t.Errorf("with descriptors again: %v", err)
		}
	case <-time.After(patience):
		t.Error("with descriptors again the connection that waited isn't served")
	}
	awaitAgain(t, c)
}

// New calls are refused before the memory is spent: those that run go on, the
// process stays below its limit or so, and when they have ended new ones are
// taken.
func TestMemoryLimit(t *testing.T) {
	const limit = 48 * mib
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "limits: {memory: 48MiB, calls_per_connection: 1000}\n"})
	if got := c.logged(t, "memory")["limit"]; got != "48MiB" {
		t.Errorf("the log has the limit %v", got)
	}
	var conns []*wire.Conn
	var talks []*call
	refused := false
	for i := 0; i < 8000 && !refused; i++ {
		if i%500 == 0 {
			conns = append(conns, dial(t, wire.GRPC, c.address))
		}
		talk := open(t, conns[len(conns)-1], wire.Bidi, probe.Script{Echo: true})
		_ = talk.Send(wire.Request(0, 100)) // refused already, maybe
		if _, err := wire.RecvReply(talk, 0); err == nil {
			talks = append(talks, talk)
			continue
		}
		e := finish(talk, 0)
		wantLimit(t, wire.GRPC, e, codes.ResourceExhausted, "LIMIT_EXCEEDED", "limits.memory")
		refused = true
	}
	if !refused {
		t.Fatalf("%d calls run in %d KiB, and none was refused", len(talks), c.rss(t)/kib)
	}
	t.Logf("%d calls ran when the first was refused, with a peak of %d KiB", len(talks), c.peak(t)/kib)
	if len(talks) < 100 {
		t.Errorf("only %d calls ran in 48 MiB", len(talks))
	}
	if peak := c.peak(t); peak > 2*limit { // the program's text and the kernel's part come on top
		t.Errorf("a peak of %d KiB, with a limit of %d", peak/kib, limit/kib)
	}
	c.loggedLike(t, func(l map[string]any) bool { return l["key"] == "limits.memory" })
	for _, i := range []int{0, len(talks) / 2, len(talks) - 1} {
		say(t, talks[i], 1)
	}
	for _, conn := range conns {
		conn.Close()
	}
	if err := eventually(patience, func() error { return works(t, wire.Web, c.address, 20*time.Second) }); err != nil {
		t.Errorf("with memory again: %v", err)
	}
}

// Connections alone don't use memory up either: who comes when there is none is
// cut before the handshake, and who is there goes on. Each has had an answer, not
// a call's, which would be refused first: one that never asks for anything has no
// more than 10 s, which a busy machine may need for as many as fill the memory.
func TestMemoryLimitOfConnections(t *testing.T) {
	const limit = 48 * mib
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	c := startTLS(t, ca, b.address, "limits: {memory: 48MiB, connection_idle_timeout: 10m}\nallow_origins: [\"https://app.example.com\"]\n")
	talk := open(t, dialTLS(t, wire.WebSocket, c.address, ca.trusting()), wire.Bidi, probe.Script{Echo: true})
	say(t, talk, 0)

	config := ca.trusting()
	var conns []net.Conn
	leave := func() {
		for _, conn := range conns {
			_ = conn.Close() // culvert may have
		}
	}
	defer leave()
	refused := false
	for len(conns) < 6000 && !refused {
		conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", c.address)
		if refused = err != nil; refused {
			continue
		}
		conns = append(conns, conn)
		if err := askAndStay(conn); err != nil {
			t.Fatalf("connection %d: %v", len(conns), err)
		}
	}
	if !refused {
		t.Fatalf("%d connections are open in %d KiB, and none was refused", len(conns), c.rss(t)/kib)
	}
	c.loggedLike(t, func(l map[string]any) bool { return l["msg"] == "refused" && l["key"] == "limits.memory" })
	t.Logf("%d connections were open when one was refused, with a peak of %d KiB", len(conns), c.peak(t)/kib)
	if len(conns) < 100 {
		t.Errorf("only %d connections are open in 48 MiB", len(conns))
	}
	if peak := c.peak(t); peak > 2*limit { // the program's text and the kernel's part come on top
		t.Errorf("a peak of %d KiB, with a limit of %d", peak/kib, limit/kib)
	}
	say(t, talk, 1)
	leave()
	if err := eventually(patience, func() error { return worksTLS(t, wire.Web, c.address, config) }); err != nil {
		t.Errorf("with memory again: %v", err)
	}
	say(t, talk, 2)
}

// askAndStay asks what a browser asks before a call of a page's, and leaves the
// connection as it is.
func askAndStay(conn net.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // it is open
	if _, err := io.WriteString(conn, "OPTIONS "+wire.Unary+" HTTP/1.1\r\n"+hostileHost+"Origin: https://app.example.com\r\nAccess-Control-Request-Method: POST\r\n\r\n"); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	_ = answer.Body.Close() // it has none
	if answer.StatusCode != http.StatusNoContent || answer.Close {
		return fmt.Errorf("answered %d, and closed: %v", answer.StatusCode, answer.Close)
	}
	return nil
}
