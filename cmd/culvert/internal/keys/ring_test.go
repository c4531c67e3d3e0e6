package keys

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// shown is what a client that asks for no name gets: the certificate's name,
// and whether it is asked for one itself.
func shown(t *testing.T, server *tls.Config) (name string, asked bool) {
	t.Helper()
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }() // nothing is to come
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Server(far, server).HandshakeContext(t.Context()) // it may refuse a client that shows nothing
	}()
	client := tls.Client(near, &tls.Config{
		InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, // what is shown is looked at, and TLS 1.2 ends the handshake for both
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return new(tls.Certificate), nil
		},
		VerifyPeerCertificate: func(chain [][]byte, _ [][]*x509.Certificate) error {
			leaf, err := x509.ParseCertificate(chain[0])
			if err == nil {
				name = leaf.Subject.CommonName
			}
			return err
		},
	})
	_ = client.HandshakeContext(t.Context()) // it is refused where it is asked
	_ = near.Close()
	<-done
	return name, asked
}

// TestListenersTLS: what a listener has of its own, what it inherits, and that
// listeners of the same share what is loaded.
func TestListenersTLS(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"all", "own", "second"} {
		cmdtest.WritePair(t, dir, name)
	}
	loaded := cmdtest.Load(t, strings.ReplaceAll(`
tls: {cert: DIR/all.pem, key: DIR/all.key, client_ca: DIR/all.pem, min_version: "1.2"}
listen:
- :1
- {address: ':2', tls: {enabled: false}}
- {address: ':3', tls: {cert: DIR/own.pem, key: DIR/own.key}}
- {address: ':4', tls: {client_auth: none}}
- {address: ':5', tls: {certificates: [{cert: DIR/second.pem, key: DIR/second.key}], min_version: "1.3"}}
- :6
`, "DIR", dir))
	ring, err := Open(loaded, slog.New(slog.DiscardHandler), nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close(Patience)
	var providers []*proxytls.Provider
	for i := range loaded.Listen {
		p, err := ring.listener(loaded, i)
		if err != nil {
			t.Fatal(err)
		}
		providers = append(providers, p)
	}
	if providers[1] != nil {
		t.Error("the listener without TLS has a certificate")
	}
	if providers[0] != providers[5] {
		t.Error("what two listeners inherit is loaded twice")
	}
	for i, want := range map[int]struct {
		name  string
		asked bool
	}{0: {"all", true}, 2: {"own", true}, 3: {"all", false}} {
		if name, asked := shown(t, providers[i].Config()); name != want.name || asked != want.asked {
			t.Errorf("listen[%d] shows %q and asks for a certificate: %v, want %q and %v", i, name, asked, want.name, want.asked)
		}
	}
	if got := providers[4].Config().MinVersion; got != tls.VersionTLS13 {
		t.Errorf("listen[4] takes version %x, want TLS 1.3 at least", got)
	}
}

// TestListenersOfTwoAuthorities: a port with the development certificate beside
// one whose certificate a CA gives.
func TestListenersOfTwoAuthorities(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{"XDG_CONFIG_HOME", "HOME", "AppData"} {
		t.Setenv(folder, dir)
	}
	loaded := cmdtest.Load(t, strings.ReplaceAll(`
tls: {acme: {domains: [grpc.example.com], storage: DIR/acme, directory: 'https://127.0.0.1:1/'}}
listen:
- :1
- {address: '127.0.0.1:2', tls: {self_signed: true}}
`, "DIR", dir))
	ring, err := Open(loaded, slog.New(slog.DiscardHandler), nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close(Patience)
	for i, want := range []string{"", "culvert development"} {
		p, err := ring.listener(loaded, i)
		if err != nil {
			t.Fatal(err)
		}
		if name, _ := shown(t, p.Config()); name != want {
			t.Errorf("listen[%d] shows %q, want %q", i, name, want)
		}
	}
}

// TestListenersMissingFiles: what is wrong is said of the key that names it.
func TestListenersMissingFiles(t *testing.T) {
	loaded := cmdtest.Load(t, "tls: {cert: /nowhere/a.pem, key: /nowhere/a.key}\nlisten:\n- :1\n- address: :2\n  tls:\n    cert: /nowhere/b.pem\n    key: /nowhere/b.key\n")
	ring, err := Open(loaded, slog.New(slog.DiscardHandler), nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close(Patience)
	for i, want := range []string{"proxy.yaml:1: tls.cert: ", "proxy.yaml:6: listen[1].tls.cert: "} {
		if _, err := ring.listener(loaded, i); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen[%d]: %v, want it to name %q", i, err, want)
		}
	}
}
