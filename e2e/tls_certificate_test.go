package e2e

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// talkOver opens a stream on every transport and says one message on each.
func talkOver(t *testing.T, address string, config *tls.Config) []*call {
	t.Helper()
	var talks []*call
	for _, transport := range wire.All {
		talk := open(t, dialTLS(t, transport, address, config), wire.Bidi, probe.Script{Echo: true})
		say(t, talk, 0)
		talks = append(talks, talk)
	}
	return talks
}

// stillTalk says number i on each, and ends them if it is the last.
func stillTalk(t *testing.T, talks []*call, i uint64, last bool) {
	t.Helper()
	for _, talk := range talks {
		say(t, talk, i)
		if !last {
			continue
		}
		if err := talk.CloseSend(); err != nil {
			t.Errorf("%s: half-close: %v", talk.conn.Transport, err)
		}
		if e := finish(talk, i+1); e.status == nil || e.status.Code != codes.OK {
			t.Errorf("%s: %v, want OK", talk.conn.Transport, e)
		}
	}
}

// A certificate is replaced in each of the ways that people use, under open
// streams of each transport: none is cut, and new connections see the new one.
func TestCertificateIsReplacedUnderOpenStreams(t *testing.T) {
	t.Parallel()
	ca, dir := newIssuer(t, "ca"), t.TempDir()
	certFile, keyFile := writePair(t, dir, "tls", ca.issue("first"))
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--tls-cert", certFile, "--tls-key", keyFile}})
	if got, err := shownTo(c.address, ca.trusting()); err != nil || got != "first" {
		t.Fatalf("at first: %s, %v", got, err)
	}
	talks := talkOver(t, c.address, ca.trusting())

	writePair(t, dir, "tls", ca.issue("renamed"))
	awaitShown(t, c.address, ca.trusting(), "renamed")
	stillTalk(t, talks, 1, false)

	writePair(t, dir, "tls", ca.issue("by HUP"))
	c.signal(t, syscall.SIGHUP)
	awaitShown(t, c.address, ca.trusting(), "by HUP")
	stillTalk(t, talks, 2, true)
}

// Kubernetes keeps a volume's files in a directory of their own, to which
// ..data leads, and swaps that link.
func TestCertificateOfAVolumeIsSwapped(t *testing.T) {
	t.Parallel()
	ca, dir := newIssuer(t, "ca"), t.TempDir()
	mount := func(version string, cert tls.Certificate) {
		at := filepath.Join(dir, version)
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		writePair(t, at, "tls", cert)
		if err := os.Symlink(version, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	mount("..2026_11_21_1", ca.issue("first"))
	for _, name := range []string{"tls.pem", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: fmt.Sprintf("tls: {cert: %s/tls.pem, key: %[1]s/tls.key}\n", dir)})
	talks := talkOver(t, c.address, ca.trusting())
	mount("..2026_11_21_2", ca.issue("second"))
	awaitShown(t, c.address, ca.trusting(), "second")
	stillTalk(t, talks, 1, true)
}

// A bad pair changes nothing, and is said in the log, once, and by /readyz, as
// long as it is bad.
func TestBadCertificateChangesNothing(t *testing.T) {
	t.Parallel()
	ca, dir := newIssuer(t, "ca"), t.TempDir()
	first := ca.issue("first")
	certFile, keyFile := writePair(t, dir, "tls", first)
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--tls-cert", certFile, "--tls-key", keyFile}})
	c.awaitReadyz(t, func(body string) bool { return body == "ready\n" })
	talks := talkOver(t, c.address, ca.trusting())

	other := ca.issue("other")
	replaceFile(t, certFile, pemOf("CERTIFICATE", other.Certificate[0])) // and its key never comes
	text := "--tls-cert: " + certFile + ": private key does not match public key"
	c.awaitLogged(t, func(l map[string]any) bool {
		return l["level"] == "WARN" && strings.HasPrefix(fmt.Sprint(l["problem"]), text)
	})
	c.awaitReadyz(t, func(body string) bool { return strings.HasPrefix(body, "ready\n"+text) })
	c.signal(t, syscall.SIGHUP)
	c.awaitLogged(t, func(l map[string]any) bool {
		return l["level"] == "WARN" && mentions(l, "certificates") && strings.HasPrefix(fmt.Sprint(l["cause"]), text)
	})
	if got, err := shownTo(c.address, ca.trusting()); err != nil || got != "first" {
		t.Errorf("with a bad pair: %s, %v", got, err)
	}
	stillTalk(t, talks, 1, true)

	writePair(t, dir, "tls", ca.issue("second"))
	awaitShown(t, c.address, ca.trusting(), "second")
	c.awaitReadyz(t, func(body string) bool { return body == "ready\n" })
	c.awaitLogged(t, mended)
	told := 0
	for _, line := range c.output.all() {
		if strings.Contains(line, `"level":"WARN"`) && strings.Contains(line, `"problem":`) {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the problem was told %d times", told)
	}
}

// What can't be served at the start ends it, with the place of the key.
func TestBadCertificateAtTheStart(t *testing.T) {
	t.Parallel()
	c := startProcess(t, "culvert", "", culvertProgram, "serve", "--backend", "localhost:1", "--listen", "127.0.0.1:0", "--health-listen", "off", "--tls-cert", "/none.pem", "--tls-key", "/none.key")
	if code := c.wait(t, tlsPatience); code != 1 {
		t.Errorf("it ended with %d, want 1", code)
	}
	if got, want := strings.Join(c.output.all(), "\n"), "culvert: --tls-cert: /none.pem: no such file or directory\nculvert: --tls-key: /none.key: no such file or directory"; got != want {
		t.Errorf("it said\n%s\nwant\n%s", got, want)
	}
}

// Which certificate it is goes by the name that a client asks for.
func TestCertificateByName(t *testing.T) {
	t.Parallel()
	ca, dir := newIssuer(t, "ca"), t.TempDir()
	writePair(t, dir, "first", ca.issue("first", "a.example.com"))
	writePair(t, dir, "wild", ca.issue("wild", "*.example.net"))
	writePair(t, dir, "exact", ca.issue("exact", "grpc.example.net"))
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: fmt.Sprintf(`
tls:
  certificates:
    - {cert: %[1]s/first.pem, key: %[1]s/first.key}
    - {cert: %[1]s/wild.pem, key: %[1]s/wild.key}
    - {cert: %[1]s/exact.pem, key: %[1]s/exact.key}
`, dir)})
	for name, want := range map[string]string{"127.0.0.1": "first", "a.example.com": "first", "web.example.net": "wild", "grpc.example.net": "exact"} {
		if got, err := shownTo(c.address, named(ca.trusting(), name)); err != nil || got != want {
			t.Errorf("%s is shown %s, %v, want %s", name, got, err, want)
		}
	}
}
