package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/pebble"
	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// acmeName is the name that certificates are fetched for.
const acmeName = "grpc.culvert.test"

// acmePatience is for an order: the CA and culvert are other programs on a
// machine that does other things, too.
const acmePatience = patience

// An acmeWorld is a CA and what culvert is told of it.
type acmeWorld struct {
	*pebble.CA
	trusted string // file with who vouches for it
	storage string
	backend *backend
	yaml    string // further keys of tls.acme
	args    []string
}

func newACMEWorld(t *testing.T) *acmeWorld {
	t.Helper()
	ca, err := pebble.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ca.Close()
		if t.Failed() {
			t.Logf("pebble:\n%s", ca.Lines())
		}
	})
	return &acmeWorld{CA: ca, trusted: ca.Root, storage: filepath.Join(t.TempDir(), "acme"), backend: startBackend(t, backendOptions{})}
}

// serve starts culvert with the CA. Ports "" are any free ones.
func (w *acmeWorld) serve(t *testing.T, listen, httpListen string) (c *culvert, httpAddress string) {
	t.Helper()
	if httpListen == "" {
		httpListen = "127.0.0.1:0"
	}
	c = startCulvert(t, w.backend.address, culvertOptions{listen: listen, args: w.args, config: fmt.Sprintf(`
tls:
  http_listen: %q
  acme:
    domains: [%s]
    directory: %q
    ca_root: %q
    storage: %q
%s`, httpListen, acmeName, w.Directory, w.trusted, w.storage, w.yaml)})
	return c, c.logged(t, "HTTPS", "address")["address"].(string)
}

// start has the CA look for proof where culvert is.
func (w *acmeWorld) start(t *testing.T, c *culvert, httpAddress string, life time.Duration) {
	t.Helper()
	if err := w.Start(pebble.Options{HTTPPort: pebble.Port(httpAddress), TLSPort: pebble.Port(c.address), Life: life}); err != nil {
		t.Fatal(err)
	}
}

// acmeTLS is a client's side. Who signed pebble's certificates is made up at
// each of its starts: the name is what is looked at.
func acmeTLS(protocol string) *tls.Config {
	return &tls.Config{ServerName: acmeName, InsecureSkipVerify: true, NextProtos: []string{protocol}}
}

// shownCertificate is what a new connection is shown.
func shownCertificate(address string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), acmePatience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: acmeTLS("h2")}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	return leaf, leaf.VerifyHostname(acmeName)
}

// awaitCertificate waits for one that isn't old.
func awaitCertificate(t *testing.T, address string, old *x509.Certificate) *x509.Certificate {
	t.Helper()
	var leaf *x509.Certificate
	if err := eventually(acmePatience, func() (err error) {
		leaf, err = shownCertificate(address)
		if err == nil && old != nil && leaf.Equal(old) {
			return errors.New("it is still the old certificate")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return leaf
}

// overTLS returns an address whose connections go on to culvert's within TLS.
func overTLS(t *testing.T, address, protocol string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer in.Close()
				out, err := tls.Dial("tcp", address, acmeTLS(protocol))
				if err != nil {
					return
				}
				defer out.Close()
				running.Go(func() {
					_, _ = io.Copy(out, in)
					_ = out.CloseWrite()
				})
				_, _ = io.Copy(in, out)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

// A talk is a call that is always read from: a WebSocket whose client doesn't
// read answers no ping.
type talk struct {
	*call
	replies chan error // one for each reply, and the end
}

func startTalk(c *call) *talk {
	k := &talk{c, make(chan error, 16)} // more than a test asks for: the reader waits for nobody
	go func() {                         // ends with the call, which ends with the test
		for n := uint64(0); ; n++ {
			_, err := wire.RecvReply(c, n)
			k.replies <- err
			if err != nil {
				return
			}
		}
	}()
	return k
}

func readiness(t *testing.T, c *culvert) string {
	t.Helper()
	res, err := http.Get("http://" + c.health + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("/readyz: %s, %v", res.Status, err)
	}
	return string(text)
}

// The first certificate, by each challenge, and again from the storage.
func TestACMEFirstIssue(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			w := newACMEWorld(t)
			w.yaml = "    challenges: [" + challenge + "]\n"
			c, plain := w.serve(t, "", "")
			w.start(t, c, plain, time.Hour)
			first := awaitCertificate(t, c.address, nil)
			if text := readiness(t, c); text != "ready\n" {
				t.Errorf("/readyz has %q", text)
			}
			c.loggedLike(t, func(l map[string]any) bool { return mentions(l, "certificate") && l["names"] == acmeName })
			if err := works(t, wire.GRPC, overTLS(t, c.address, "h2"), acmePatience); err != nil {
				t.Error(err)
			}

			c.signal(t, 15)
			c.wait(t, acmePatience)
			w.SetDown(true) // nobody is asked
			c, _ = w.serve(t, "", "")
			leaf, err := shownCertificate(c.address)
			if err != nil || !leaf.Equal(first) {
				t.Errorf("after a restart it isn't the certificate from the storage: %v", err)
			}
			if got := w.Said(pebble.Ordered); got != 1 {
				t.Errorf("%d orders, want 1", got)
			}
		})
	}
}

// A certificate is renewed while streams of three transports are open, and none
// is cut.
func TestACMERenewalUnderOpenStreams(t *testing.T) {
	t.Parallel()
	w := newACMEWorld(t)
	c, plain := w.serve(t, "", "")
	w.start(t, c, plain, 20*time.Second)
	leaf := awaitCertificate(t, c.address, nil)

	var streams []*talk
	for transport, protocol := range map[wire.Transport]string{wire.GRPC: "h2", wire.WebSocket: "http/1.1", wire.Web: "http/1.1"} {
		conn := dial(t, transport, overTLS(t, c.address, protocol))
		streams = append(streams, startTalk(open(t, conn, wire.Bidi, probe.Script{Echo: true})))
	}
	const renewals = 2
	for n := range uint64(renewals + 1) {
		for _, s := range streams { // there and back
			if err := s.Send(wire.Request(n, 100)); err != nil {
				t.Errorf("%s: request %d: %v", s.conn.Transport, n, err)
			}
			if err := <-s.replies; err != nil {
				t.Fatalf("%s: after %d renewals: %v", s.conn.Transport, n, err)
			}
		}
		if n < renewals {
			leaf = awaitCertificate(t, c.address, leaf)
		}
	}
	for _, s := range streams {
		if err := s.CloseSend(); err != nil {
			t.Errorf("%s: %v", s.conn.Transport, err)
		}
		if err := <-s.replies; !errors.Is(err, io.EOF) || s.Status() == nil || s.Status().Code != codes.OK {
			t.Errorf("%s ended with %v, %v", s.conn.Transport, s.Status(), err)
		}
	}
}

// mended reports whether a log line tells that a problem with a certificate is over.
func mended(line map[string]any) bool {
	return line["level"] == "INFO" && line["problem"] != nil
}

// A hangup has who vouches for the CA read again, and the CA asked at once.
func TestACMEHangup(t *testing.T) {
	t.Parallel()
	w := newACMEWorld(t)
	right, err := os.ReadFile(w.Root)
	if err != nil {
		t.Fatal(err)
	}
	w.trusted = newIssuer(t, "stranger").file
	c, plain := w.serve(t, "", "")
	w.start(t, c, plain, time.Hour)
	c.awaitLogged(t, func(line map[string]any) bool {
		text, _ := line["problem"].(string)
		return strings.Contains(text, w.Directory+": tls: failed to verify certificate")
	})
	replaceFile(t, w.trusted, right)
	c.signal(t, syscall.SIGHUP)
	awaitCertificate(t, c.address, nil)
	c.awaitLogged(t, func(line map[string]any) bool { return mentions(line, "certificates reloaded") })
	c.awaitLogged(t, mended)
}

// An acmeState is what the admin address says of a name.
type acmeState struct {
	Name, State, Problem string
	Failures             int
	NotAfter             time.Time `json:"not_after"`
	NextTry              time.Time `json:"next_try"`
	FailingSince         time.Time `json:"failing_since"`
}

// askACMEState asks c for the state of acmeName.
func askACMEState(t *testing.T, c *culvert) acmeState {
	t.Helper()
	res, err := http.Get("http://" + c.logged(t, "serving the admin address", "address")["address"].(string) + "/certificates")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var page struct{ ACME []acmeState }
	if err := json.NewDecoder(res.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	if len(page.ACME) != 1 || page.ACME[0].Name != acmeName {
		t.Fatalf("/certificates has %+v, want %s", page.ACME, acmeName)
	}
	return page.ACME[0]
}

// While the CA can't be reached culvert serves all the same, says so, and gets
// there when it can.
func TestACMEStartsWithoutTheCA(t *testing.T) {
	t.Parallel()
	w := newACMEWorld(t)
	w.args = []string{"--admin", "127.0.0.1:0"}
	w.SetDown(true)
	began := time.Now()
	c, plain := w.serve(t, "", "")
	w.start(t, c, plain, time.Hour)
	line := c.loggedLike(t, func(line map[string]any) bool { return line["level"] == "WARN" && line["problem"] != nil })
	for _, text := range []string{line["problem"].(string), readiness(t, c)} {
		for _, want := range []string{acmeName + ": ", "no certificate", ": " + w.Directory} {
			if !strings.Contains(text, want) {
				t.Errorf("%q lacks %q", text, want)
			}
		}
	}
	if _, err := shownCertificate(c.address); err == nil {
		t.Error("a certificate is shown")
	}
	if s := askACMEState(t, c); s.State != "failing" || s.Failures < 1 || !strings.Contains(s.Problem, w.Directory) || !s.NotAfter.IsZero() || s.FailingSince.Before(began) || s.FailingSince.After(time.Now()) {
		t.Errorf("while the CA is down the admin address has %+v", s)
	}
	w.SetDown(false)
	leaf := awaitCertificate(t, c.address, nil)
	c.loggedLike(t, mended)
	if s := askACMEState(t, c); s.State != "valid" || s.Failures != 0 || s.Problem != "" || !s.FailingSince.IsZero() || !s.NotAfter.Equal(leaf.NotAfter) || !s.NextTry.After(leaf.NotBefore) || !s.NextTry.Before(leaf.NotAfter) {
		t.Errorf("with a certificate that ends at %v the admin address has %+v", leaf.NotAfter, s)
	}
	if text := readiness(t, c); text != "ready\n" {
		t.Errorf("/readyz has %q", text)
	}
	if info, err := os.Stat(w.storage); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the storage: %v, %v", info.Mode(), err)
	}
}
