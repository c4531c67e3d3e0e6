package keys

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
)

// TestAdminHasItsOwnCertificate: clients don't get it, nor are its names theirs. It changes
// while the address keeps its configuration.
func TestAdminHasItsOwnCertificate(t *testing.T) {
	const clients = "tls: {cert: DIR/a.pem, key: DIR/a.key}\n"
	k := newRingTest(t, clients+"admin: {tls: {cert: DIR/b.pem, key: DIR/b.key}}\n")
	secure, err := k.Admin(k.running)
	if err != nil || secure == nil {
		t.Fatalf("%v, %v", secure, err)
	}
	k.shows("first", 2, "a")
	if got := protocolOf(t, secure, "h2", "http/1.1"); got != "b http/1.1" {
		t.Errorf("the admin address shows %q", got)
	}
	if k.Serves("b") || !k.Serves("a") {
		t.Error("clients may come by the admin address's name")
	}
	if err := k.change(clients + "admin: {tls: {cert: DIR/ca.pem, key: DIR/ca.key}}\n"); err != nil {
		t.Fatal(err)
	}
	k.shows("another pair", 2, "a")
	if got := protocolOf(t, secure, "http/1.1"); got != "ca http/1.1" {
		t.Errorf("after a reload, the admin address shows %q", got)
	}
	err = k.change(clients + "\nadmin: {tls: {cert: DIR/none.pem, key: DIR/ca.key}}\n")
	if err == nil || !strings.Contains(err.Error(), "proxy.yaml:3: admin.tls.cert: ") {
		t.Errorf("a missing file: %v", err)
	}
	err = k.change(clients)
	if restart, ok := errors.AsType[*wiring.RestartError](err); !ok || !slices.Equal(restart.Keys, []string{"admin.tls.cert", "admin.tls.key"}) {
		t.Errorf("an end of TLS: %v", err)
	}
	k.shows("after mistakes", 2, "a")
	if got := protocolOf(t, secure); got != "ca " {
		t.Errorf("after mistakes, the admin address shows %q", got)
	}
}

// TestAdminSharesNoProvider: the same files for clients and operators have a Provider each.
func TestAdminSharesNoProvider(t *testing.T) {
	const file = "tls: {cert: DIR/a.pem, key: DIR/a.key}\nadmin: {tls: {cert: DIR/a.pem, key: DIR/a.key}}\n"
	k := newRingTest(t, file)
	if _, err := k.Admin(k.running); err != nil {
		t.Fatal(err)
	}
	k.shows("first", 2, "a")
	if err := k.change(file + "errors: detailed\n"); err != nil {
		t.Fatal(err)
	}
	k.shows("after a reload", 2, "a")
	if secure, err := k.Admin(k.load("admin: {listen: 'off', tls: {cert: /none, key: /none}}")); secure != nil || err != nil {
		t.Errorf("an address that is off: %v", err)
	}
}

// protocolOf returns the name in the certificate that a server shows, and its protocol.
func protocolOf(t *testing.T, server *tls.Config, offers ...string) string {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1)) // until the client has seen enough
	})
	plain, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	conn := tls.Client(plain, &tls.Config{InsecureSkipVerify: true, NextProtos: offers})
	if err := conn.HandshakeContext(t.Context()); err != nil {
		return err.Error()
	}
	state := conn.ConnectionState()
	return state.PeerCertificates[0].DNSNames[0] + " " + state.NegotiatedProtocol
}
