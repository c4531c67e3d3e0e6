package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// Who is who on the loopback, where every address of 127.0.0.0/8 can be had: a
// client, and the proxy in front of culvert towards culvert. Whoever connects
// without choosing is 127.0.0.1, a stranger.
const (
	clientIP = "127.0.0.5"
	frontIP  = "127.0.0.9"
)

// dialFrom connects over a transport from an address of the loopback.
func dialFrom(t testing.TB, transport wire.Transport, from, address string) *wire.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	tcp, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatalf("%s: %v", transport, err)
	}
	conn, err := wire.New(ctx, transport, tcp.(*net.TCPConn))
	if err != nil {
		t.Fatalf("%s: %v", transport, err)
	}
	conn.SetDeadline(time.Now().Add(5 * time.Minute)) // no test takes so long: one that hangs shall fail
	t.Cleanup(conn.Close)
	return conn
}

// forgedPeer is what a client says that would be another.
var forgedPeer = http.Header{
	"x-forwarded-for": {"6.6.6.6"}, "forwarded": {"for=6.6.6.6"}, "x-real-ip": {"6.6.6.6"}, "x-forwarded-client-cert": {"Subject=evil"},
}

// wantPeer makes one call that forges what it can, and wants the backend told of
// the addresses in chain and culvert's log of peer. It returns what the backend
// and the log have.
func wantPeer(t *testing.T, conn *wire.Conn, b *backend, c *culvert, peer string, chain ...string) (r probe.Record, line map[string]any) {
	t.Helper()
	id := newID(t)
	md := wire.Metadata(id, probe.Script{})
	for name, values := range forgedPeer {
		md[name] = values
	}
	call, err := conn.Post(t.Context(), wire.Unary, md, wire.Request(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer call.Close()
	if e := finish(call, 0); e.status == nil || e.status.Code != 0 {
		t.Fatal(e)
	}
	r = b.record(t, id, probe.Ended, patience)
	if got := r.Values("x-forwarded-for"); !slices.Equal(got, chain) {
		t.Errorf("the backend is told x-forwarded-for: %q, want %q", got, chain)
	}
	if got := r.Values("forwarded"); len(got) > 0 {
		t.Errorf("the backend is told forwarded: %q", got)
	}
	if got := r.Values("x-forwarded-client-cert"); strings.Contains(fmt.Sprint(got), "evil") {
		t.Errorf("the backend is told x-forwarded-client-cert: %q", got)
	}
	callID := strings.Join(r.Values("x-request-id"), " ")
	line = c.loggedLike(t, func(l map[string]any) bool { return l["msg"] == "call" && l["call_id"] == callID })
	if line["peer"] != peer {
		t.Errorf("the log says that %v called, want %s", line["peer"], peer)
	}
	return r, line
}
