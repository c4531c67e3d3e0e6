package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// startSelfSigned starts culvert with a development certificate, in a home of
// its own, and returns the file of its authority.
func startSelfSigned(t *testing.T, backend, home string, args ...string) (c *culvert, ca string) {
	t.Helper()
	argv := append([]string{
		"env", "HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, "config"), culvertProgram, "serve", "--backend", backend,
		"--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--tls-self-signed",
	}, args...)
	c = &culvert{process: startProcess(t, "culvert", "", argv...)}
	c.address = c.logged(t, "listening", "address")["address"].(string)
	c.health = c.logged(t, "answering health checks", "address")["address"].(string)
	return c, c.logged(t, "development", "ca")["ca"].(string)
}

// One flag gives a certificate that clients trust who were told of its
// authority; the authority is made once, and who made it says how to trust it.
func TestSelfSigned(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	b := startBackend(t, backendOptions{})
	c, file := startSelfSigned(t, b.address, home)
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
			if err := worksTLS(t, transport, c.address, &tls.Config{RootCAs: roots, ServerName: name}); err != nil {
				t.Errorf("as %s: %v", name, err)
			}
		}
	})
	if said := strings.Join(c.output.all(), "\n"); !strings.Contains(said, "NODE_EXTRA_CA_CERTS=") || !strings.Contains(said, file) {
		t.Errorf("it doesn't say how to trust %s:\n%s", file, said)
	}
	if info, err := os.Stat(filepath.Join(filepath.Dir(file), "ca.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v", info.Mode(), err)
	}

	again, second := startSelfSigned(t, b.address, home)
	if second != file {
		t.Errorf("the second time the authority is %s, want %s", second, file)
	}
	if err := worksTLS(t, wire.GRPC, again.address, &tls.Config{RootCAs: roots, ServerName: "localhost"}); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if said := strings.Join(again.output.all(), "\n"); strings.Contains(said, "NODE_EXTRA_CA_CERTS=") {
		t.Error("the second time it says again how to trust it")
	}
}

// Node trusts it as the text says.
func TestNodeTrustsSelfSigned(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c, file := startSelfSigned(t, b.address, t.TempDir())
	ctx, cancel := context.WithTimeout(context.Background(), tlsPatience+time.Minute)
	defer cancel()
	script := "const r = await fetch(process.argv[1]); console.log(r.status)"
	for _, trusts := range []bool{true, false} {
		cmd := exec.CommandContext(ctx, "node", "--input-type=module", "-e", script, "https://"+c.address+"/")
		if trusts {
			cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+file)
		}
		out, err := cmd.CombinedOutput()
		if (err == nil) != trusts {
			t.Errorf("with its authority %v: %v\n%s", trusts, err, out)
		}
	}
}
