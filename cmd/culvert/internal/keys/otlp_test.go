package keys

import (
	"crypto/tls"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

// TestReceiversGetTheNewCertificate: a connection after a change of the files has the new
// client certificate.
func TestReceiversGetTheNewCertificate(t *testing.T) {
	dir := t.TempDir()
	cmdtest.WritePair(t, dir, "one.example.com")
	cmdtest.WritePair(t, dir, "two.example.com")
	use := func(name string) {
		for _, kind := range []string{".pem", ".key"} {
			content, err := os.ReadFile(filepath.Join(dir, name+kind))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "client"+kind), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	use("one.example.com")
	c := cmdtest.Load(t, strings.ReplaceAll("otlp: {endpoint: 'https://localhost:4318', ca: DIR/one.example.com.pem, cert: DIR/client.pem, key: DIR/client.key}", "DIR", dir))
	k, err := Open(c, slog.New(slog.DiscardHandler), nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close(Patience) })
	config, err := k.Receivers(c)
	if err != nil {
		t.Fatal(err)
	}
	shows := func(want string) {
		t.Helper()
		pair, err := config.GetClientCertificate(&tls.CertificateRequestInfo{})
		if err != nil || !slices.Equal(pair.Leaf.DNSNames, []string{want}) {
			t.Errorf("the receiver is shown %v, %v, want %s", pair, err, want)
		}
	}
	shows("one.example.com")
	use("two.example.com")
	if !k.Reload() {
		t.Error("a reload finds no certificates")
	}
	shows("two.example.com")
	if !slices.Contains(certificateFiles(c), filepath.Join(dir, "client.pem")) {
		t.Error("a reload forgets when it expires")
	}
}
