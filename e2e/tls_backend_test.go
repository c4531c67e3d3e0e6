package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A tlsBackend ends TLS in front of the backend, asks for a certificate, and
// remembers whose it was.
type tlsBackend struct {
	address string
	ln      net.Listener
	target  string

	mu    sync.Mutex
	cert  tls.Certificate
	trust *issuer
	seen  string
	conns map[net.Conn]bool
	work  sync.WaitGroup
}

func startTLSBackend(t *testing.T, as *issuer) *tlsBackend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &tlsBackend{address: ln.Addr().String(), ln: ln, target: startBackend(t, backendOptions{}).address, conns: map[net.Conn]bool{}}
	b.serveAs(as)
	b.work.Go(b.accept)
	t.Cleanup(func() {
		_ = ln.Close() // ends accept
		b.cut()
		b.work.Wait()
	})
	return b
}

// serveAs changes whose certificate new connections see, and whose clients are
// let in.
func (b *tlsBackend) serveAs(i *issuer) {
	cert := i.issue("backend")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cert, b.trust = cert, i
}

// client is the common name of the last client's certificate.
func (b *tlsBackend) client() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen
}

// cut ends all connections.
func (b *tlsBackend) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_ = c.Close() // it ends either way
	}
}

func (b *tlsBackend) accept() {
	for {
		c, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.work.Go(func() { b.serve(c) })
	}
}

func (b *tlsBackend) serve(raw net.Conn) {
	b.mu.Lock()
	config := &tls.Config{
		Certificates: []tls.Certificate{b.cert}, NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: b.trust.trusting().RootCAs,
	}
	b.conns[raw] = true
	b.mu.Unlock()
	defer func() {
		_ = raw.Close() // done with
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.conns, raw)
	}()
	c := tls.Server(raw, config)
	if err := c.HandshakeContext(context.Background()); err != nil {
		return // the client's tries are counted by what works
	}
	b.mu.Lock()
	b.seen = c.ConnectionState().PeerCertificates[0].Subject.CommonName
	b.mu.Unlock()
	to, err := net.Dial("tcp", b.target)
	if err != nil {
		return
	}
	defer to.Close()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(c, to) // one of the two has ended
		_ = raw.Close()
	})
	_, _ = io.Copy(to, c)
	_ = to.Close() // ends the other direction
	back.Wait()
}

// culvert's certificate for the backend, and the authority that the backend's
// is checked by, are loaded again too.
func TestBackendCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	before, after, dir := newIssuer(t, "ca"), newIssuer(t, "ca"), t.TempDir()
	certFile, keyFile := writePair(t, dir, "client", before.issue("old client"))
	front := startTLSBackend(t, before)
	c := startCulvert(t, front.address, culvertOptions{args: []string{"--backend-ca", before.file, "--backend-cert", certFile, "--backend-key", keyFile}})
	if err := eventually(tlsPatience, func() error { return works(t, wire.GRPC, c.address, tlsPatience) }); err != nil {
		t.Fatal(err)
	}
	if got := front.client(); got != "old client" {
		t.Errorf("the backend is shown %q", got)
	}
	talk := open(t, dial(t, wire.GRPC, c.address), wire.Bidi, probe.Script{Echo: true})
	say(t, talk, 0)

	writePair(t, dir, "client", after.issue("new client"))
	replaceFile(t, before.file, pemOf("CERTIFICATE", after.cert.Raw))
	front.serveAs(after)
	c.awaitLogged(t, func(l map[string]any) bool {
		return mentions(l, "certificate") && l["file"] == certFile && strings.Contains(fmt.Sprint(l["names"]), "/new%20client")
	})
	say(t, talk, 1) // over its old connection
	if err := talk.CloseSend(); err != nil {
		t.Error(err)
	}
	if e := finish(talk, 2); e.status == nil || e.status.Code != codes.OK {
		t.Errorf("the open stream: %v", e)
	}
	front.cut()
	if err := eventually(tlsPatience, func() error {
		if err := works(t, wire.GRPC, c.address, tlsPatience); err != nil {
			return err
		}
		if got := front.client(); got != "new client" {
			return fmt.Errorf("the backend is shown %q", got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
