package keys

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

// A ringTest has the listeners of a file whose keys of TLS change.
type ringTest struct {
	*Ring
	t       *testing.T
	dir     string
	running *config.Loaded
}

func newRingTest(t *testing.T, content string) *ringTest {
	t.Helper()
	k := &ringTest{t: t, dir: t.TempDir()}
	for _, name := range []string{"a", "b", "ca"} {
		cmdtest.WritePair(t, k.dir, name)
	}
	k.running = k.load(content)
	var err error
	if k.Ring, err = Open(k.running, slog.New(slog.DiscardHandler), nil, io.Discard); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close(Patience) })
	if _, err := k.Listeners(k.running); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *ringTest) load(content string) *config.Loaded {
	k.t.Helper()
	return cmdtest.Load(k.t, strings.ReplaceAll(content, "DIR", k.dir))
}

// change applies the content, or returns the reason against it.
func (k *ringTest) change(content string) error {
	k.t.Helper()
	next := k.load(content)
	commit, _, err := k.ChangeListeners(k.running, next)
	if err == nil {
		commit()
		k.running = next
	}
	return err
}

// shows checks the names of the certificates, and how many sets are open.
func (k *ringTest) shows(step string, providers int, names ...string) {
	k.t.Helper()
	for i, want := range names {
		if name, _ := shown(k.t, k.listeners[i].Config); name != want {
			k.t.Errorf("%s: listen[%d] shows %q, want %q", step, i, name, want)
		}
	}
	if len(k.providers) != providers {
		k.t.Errorf("%s: %d sets of certificates, want %d", step, len(k.providers), providers)
	}
}

// TestReloadNamesOtherCertificates: the configuration of a listener stays the same
// while others stand behind it, and what nobody shows any more is closed.
func TestReloadNamesOtherCertificates(t *testing.T) {
	const listen = "listen: [{address: \":1\"}, {address: \":2\", tls: {cert: DIR/b.pem, key: DIR/b.key}}]\n"
	k := newRingTest(t, "tls: {cert: DIR/a.pem, key: DIR/a.key}\n"+listen)
	first, second := k.listeners[0].now.Load(), k.listeners[1].now.Load()
	k.shows("first", 2, "a", "b")

	if err := k.change("tls: {cert: DIR/b.pem, key: DIR/b.key}\n" + listen); err != nil {
		t.Fatal(err)
	}
	k.shows("other files", 2, "b", "b")
	if k.listeners[0].now.Load() == first {
		t.Error("the old certificates are still there")
	}
	if k.listeners[1].now.Load() != second {
		t.Error("certificates that no key changed were opened again")
	}
	if err := k.change("tls: {cert: DIR/b.pem, key: DIR/b.key, min_version: \"1.3\"}\n" + listen); err != nil {
		t.Fatal(err)
	}
	k.shows("TLS 1.3", 2, "", "") // the test's client has TLS 1.2 only
	if err := k.change("tls: {cert: DIR/a.pem, key: DIR/a.key}\n" + listen); err != nil {
		t.Fatal(err)
	}

	// A file that is missing is named by its line, and leaves nothing open.
	err := k.change("\n\ntls: {cert: DIR/none.pem, key: DIR/a.key}\n" + listen)
	if err == nil || !strings.Contains(err.Error(), "proxy.yaml:3: tls.cert: ") {
		t.Errorf("a missing file: %v", err)
	}
	k.shows("a missing file", 2, "a", "b")

	// The places of keys are those of the file that runs.
	if err := k.change("\n\n\ntls: {cert: DIR/a.pem, key: DIR/a.key}\nerrors: detailed\n" + listen); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(k.dir, "a.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	k.Reload()
	if lines := strings.Join(k.Problems(), "\n"); !strings.Contains(lines, "proxy.yaml:4: tls.cert: ") {
		t.Errorf("problems: %s", lines)
	}
}

// TestReloadKeepsTheRulesForClients: an open connection would go on to call by the
// rules of before.
func TestReloadKeepsTheRulesForClients(t *testing.T) {
	const plain, trusted = "tls: {cert: DIR/a.pem, key: DIR/a.key}\n", "tls: {cert: DIR/a.pem, key: DIR/a.key, client_ca: DIR/ca.pem}\n"
	const several = "tls: {certificates: [{cert: DIR/a.pem, key: DIR/a.key}, {cert: DIR/b.pem, key: DIR/b.key, client_ca: DIR/ca.pem}]}\n"
	for _, c := range []struct{ name, from, to, keys string }{
		{"a new CA", plain, trusted, "tls.client_ca"},
		{"no CA any more", trusted, plain, "tls.client_ca"},
		{"optional", trusted, strings.Replace(trusted, "}", ", client_auth: optional}", 1), "tls.client_auth"},
		{"a CA of a listener", plain, plain + "listen: [{address: \":8080\", tls: {client_ca: DIR/ca.pem}}]\n", "listen[0].tls.client_ca"},
		{"a certificate with rules", several, strings.Replace(several, "/a.", "/ca.", 2), "tls.certificates[0].cert tls.certificates[0].key"},
		{"certificates without rules", strings.Replace(several, ", client_ca: DIR/ca.pem", "", 1), "tls: {certificates: [{cert: DIR/b.pem, key: DIR/b.key}]}\n", ""},
	} {
		k := newRingTest(t, c.from)
		err := k.change(c.to)
		keys := ""
		if restart, ok := err.(*wiring.RestartError); ok { //nolint:errorlint // it isn't wrapped
			keys = strings.Join(restart.Keys, " ")
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if keys != c.keys {
			t.Errorf("%s: a restart for %q, want %q", c.name, keys, c.keys)
		}
	}
}

// A slowObserver waits in each call until it is let go, as a file system does that
// doesn't respond.
type slowObserver struct{ reading, goOn chan struct{} }

func (o slowObserver) Certificate(report.CertificateInfo) {
	o.reading <- struct{}{}
	<-o.goOn
}

// TestSlowFilesDelayNoReadiness: while a reload reads certificates, culvert answers
// readiness checks, and requests that ask for a host.
func TestSlowFilesDelayNoReadiness(t *testing.T) {
	k := newRingTest(t, "listen: \":1\"\ntls: {cert: DIR/a.pem, key: DIR/a.key}\n")
	o := slowObserver{make(chan struct{}), make(chan struct{})}
	k.obs = o
	changed := make(chan error, 1)
	next := k.load("listen: \":1\"\ntls: {cert: DIR/b.pem, key: DIR/b.key}\n")
	go func() {
		_, _, err := k.ChangeListeners(k.running, next)
		changed <- err
	}()
	<-o.reading
	answered := make(chan struct{})
	go func() {
		k.Problems()
		k.Serves("a.example")
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(cmdtest.Patience):
		t.Error("readiness waits for the reading of a certificate")
	}
	close(o.goOn)
	<-answered
	if err := <-changed; err != nil {
		t.Error(err)
	}
}
