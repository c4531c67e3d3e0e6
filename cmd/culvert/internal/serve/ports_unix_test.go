//go:build unix

package serve

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
)

// pass returns a socket of a supervisor. It ends with the test.
func pass(t *testing.T, name, network, address string) *sockets.Socket {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() }) // it may be closed already
	return &sockets.Socket{Listener: ln, Name: name}
}

// TestListenersTakePassedSockets binds a program whose supervisor has sockets for one
// of two listeners and for the health checks.
func TestListenersTakePassedSockets(t *testing.T) {
	public, health := pass(t, "public", "tcp", "127.0.0.1:0"), pass(t, "health", "tcp", "127.0.0.1:0")
	loaded := cmdtest.Load(t, "listen:\n- {name: public, address: ':1'}\n- 127.0.0.1:0\nhealth: {listen: \":9901\"}\nadmin: {listen: \"off\"}\n")
	passed, err := sockets.Assign(t.Context(), []*sockets.Socket{public, health}, endpoints(loaded))
	if err != nil {
		t.Fatal(err)
	}
	p := ports{passed: passed}
	for i, want := range []string{public.Addr().String(), ""} {
		ln, err := p.passed.Listen(t.Context(), listenKey(i), loaded.Listen[i].Address, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }() // the test is over
		if got := ln.Addr().String(); want != "" && got != want || want == "" && got == public.Addr().String() {
			t.Errorf("listen[%d] is on %s, want %q", i, got, want)
		}
	}
	if err := p.bindOthers(t.Context(), loaded, slog.New(slog.DiscardHandler)); err != nil || p.health.Addr().String() != health.Addr().String() {
		t.Errorf("the health checks are on %v (%v), want %v", p.health.Addr(), err, health.Addr())
	}
}

// TestAdminTakesNoSocketOfOthers passes unix sockets with several modes for the admin
// address.
func TestAdminTakesNoSocketOfOthers(t *testing.T) {
	for mode, allowed := range map[os.FileMode]bool{0o600: true, 0o660: false, 0o666: false, 0o602: false} {
		path := filepath.Join(t.TempDir(), "s")
		s := pass(t, "admin", "unix", path)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		p := ports{passed: sockets.Passed{adminKey: s}}
		if err := p.bindOthers(t.Context(), cmdtest.Load(t, "health: {listen: \"off\"}\nadmin: {listen: \"unix:"+path+"\"}\n"), slog.New(slog.DiscardHandler)); (err == nil) != allowed || !allowed && !errors.Is(err, errSharedSocket) {
			t.Errorf("mode %v: %v, want it taken: %v", mode, err, allowed)
		}
	}
	wide := ports{passed: sockets.Passed{adminKey: pass(t, "admin", "tcp", ":0")}}
	if err := wide.bindOthers(t.Context(), cmdtest.Load(t, "health: {listen: \"off\"}\nadmin: {listen: \"127.0.0.1:9902\"}\n"), slog.New(slog.DiscardHandler)); !errors.Is(err, errNotLoopback) {
		t.Errorf("a socket on all addresses: %v, want %v", err, errNotLoopback)
	}
	guarded := ports{passed: sockets.Passed{adminKey: pass(t, "admin", "tcp", ":0")}}
	const all = "health: {listen: \"off\"}\nadmin: {listen: \":9902\", hosts: [a.example], token: ./t, tls: {cert: a.pem, key: a.key}}\n"
	if err := guarded.bindOthers(t.Context(), cmdtest.Load(t, all), slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("a socket on all addresses, with TLS, hosts and a token: %v", err)
	}
}
