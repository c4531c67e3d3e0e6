package proxytls

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCertificateIsChosenByName(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	p, _ := provider(t, Options{Certificates: []Pair{
		write(t, dir, "first", ca.issue(time.Hour, "a.example.com")),
		write(t, dir, "wild", ca.issue(time.Hour, "*.example.com")),
		write(t, dir, "exact", ca.issue(time.Hour, "b.example.com", "b.example.net")),
	}})
	for name, want := range map[string]string{
		"":                  "a.example.com",
		"a.example.com":     "a.example.com",
		"A.Example.Com":     "a.example.com",
		"b.example.com":     "b.example.com",
		"b.example.net":     "b.example.com",
		"c.example.com":     "*.example.com",
		"c.d.example.com":   "a.example.com", // a wildcard is one label
		"example.com":       "a.example.com",
		"other.example.org": "a.example.com",
	} {
		if got := shown(t, p, ca, name); got != want {
			t.Errorf("%q is shown %s, want %s", name, got, want)
		}
	}
}

// Two certificates for the same names, one of them for clients that know no
// ECDSA: those that ask for no name, or one that nobody has, get theirs, too.
func TestCertificateIsChosenByWhatTheClientKnows(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		Subject: pkix.Name{CommonName: "in RSA"}, DNSNames: []string{"a.example"}, NotAfter: time.Now().Add(time.Hour),
	}, ca.cert, rsaKey.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := provider(t, Options{Certificates: []Pair{
		write(t, dir, "ecdsa", ca.issue(time.Hour, "a.example")),
		write(t, dir, "other", ca.issue(time.Hour, "b.example")),
		write(t, dir, "rsa", tls.Certificate{Certificate: [][]byte{der}, PrivateKey: rsaKey, Leaf: leaf}),
	}})
	for _, name := range []string{"", "a.example", "nobody.example"} {
		if got := shown(t, p, ca, name); got != "a.example" {
			t.Errorf("%q is shown %s, want the first", name, got)
		}
		seen, _, err := handshake(t, p.Config(), &tls.Config{
			ServerName: name, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		})
		if err != nil || seen.PeerCertificates[0].Subject.CommonName != "in RSA" {
			t.Errorf("%q, a client that knows RSA alone: %v, want the one in RSA", name, err)
		}
	}
}

func TestProtocolsAreAlwaysOffered(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	p, _ := provider(t, Options{Certificates: []Pair{write(t, dir, "a", ca.issue(time.Hour, "a.example"))}})
	for _, c := range []struct {
		offers []string
		want   string
	}{
		{nil, ""},
		{[]string{"http/1.1"}, "http/1.1"},
		{[]string{"h2"}, "h2"},
		{[]string{"http/1.1", "h2"}, "h2"},
	} {
		client := as(ca, "a.example")
		client.NextProtos = c.offers
		seen, _, err := handshake(t, p.Config(), client)
		if err != nil || seen.NegotiatedProtocol != c.want {
			t.Errorf("%q got %q, %v, want %q", c.offers, seen.NegotiatedProtocol, err, c.want)
		}
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	pair := write(t, dir, "a", ca.issue(time.Hour, "a.example"))
	for _, c := range []struct {
		minimum, client uint16
		served          bool
	}{
		{0, tls.VersionTLS13, true},
		{0, tls.VersionTLS12, true},
		{0, tls.VersionTLS11, false},
		{tls.VersionTLS13, tls.VersionTLS13, true},
		{tls.VersionTLS13, tls.VersionTLS12, false},
	} {
		p, _ := provider(t, Options{Certificates: []Pair{pair}, MinVersion: c.minimum})
		client := as(ca, "a.example")
		client.MinVersion, client.MaxVersion = tls.VersionTLS10, c.client
		if _, _, err := handshake(t, p.Config(), client); (err == nil) != c.served {
			t.Errorf("min_version %x, a client of %x: %v", c.minimum, c.client, err)
		}
	}
}

func TestFilesThatChangeAreLoaded(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, dir string, cert tls.Certificate){
		"renamed": func(t *testing.T, dir string, cert tls.Certificate) { write(t, dir, "a", cert) },
		"written over": func(t *testing.T, dir string, cert tls.Certificate) {
			for file, data := range map[string][]byte{"a.pem": certPEM(cert.Leaf), "a.key": keyPEM(t, cert)} {
				if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca, dir := newAuthority(t, "ca"), t.TempDir()
				p, told := provider(t, Options{Certificates: []Pair{write(t, dir, "a", ca.issue(100*time.Hour, "old.example"))}})
				replace(t, dir, ca.issue(200*time.Hour, "new.example"))
				if got := shown(t, p, ca, "x"); got != "old.example" {
					t.Errorf("at once: %s", got)
				}
				time.Sleep(lookEvery + lookAgain)
				synctest.Wait()
				if got := shown(t, p, ca, "x"); got != "new.example" {
					t.Errorf("after %v: %s", lookEvery, got)
				}
				if n, problems, _ := told.counts(); n != 2 || problems != 0 {
					t.Errorf("told of %d certificates and %d problems, want 2 and none: %v", n, problems, told.wrong())
				}
			})
		})
	}
}

// Kubernetes keeps the files of a volume in a directory of their own, and swaps
// the link to it.
func TestSwappedLinkIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, dir := newAuthority(t, "ca"), t.TempDir()
		version := func(name string, cert tls.Certificate) {
			at := filepath.Join(dir, name)
			if err := os.Mkdir(at, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, at, "tls", cert)
			link := filepath.Join(dir, "..data")
			if err := os.Symlink(name, link+"_tmp"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(link+"_tmp", link); err != nil {
				t.Fatal(err)
			}
		}
		version("..2026_01", ca.issue(100*time.Hour, "old.example"))
		pair := Pair{Cert: filepath.Join(dir, "tls.pem"), Key: filepath.Join(dir, "tls.key"), ConfigKey: "tls"}
		for _, file := range []string{"tls.pem", "tls.key"} {
			if err := os.Symlink(filepath.Join("..data", file), filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
		p, _ := provider(t, Options{Certificates: []Pair{pair}})
		version("..2026_02", ca.issue(200*time.Hour, "new.example"))
		time.Sleep(lookEvery)
		synctest.Wait()
		if got := shown(t, p, ca, "x"); got != "new.example" {
			t.Errorf("after the swap: %s", got)
		}
	})
}

func TestBadPairChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, dir := newAuthority(t, "ca"), t.TempDir()
		first, second := ca.issue(100*time.Hour, "a.example"), ca.issue(100*time.Hour, "b.example")
		pairs := []Pair{write(t, dir, "a", first), write(t, dir, "b", second)}
		pairs[1].ConfigKey = "tls.certificates[0]"
		p, told := provider(t, Options{Certificates: pairs})

		// The first is replaced by one that is good, the second by none.
		write(t, dir, "a", ca.issue(200*time.Hour, "c.example", "a.example"))
		writeFile(t, pairs[1].Cert, []byte("no certificate"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := shown(t, p, ca, "a.example"); got != "a.example" {
			t.Errorf("half of a set was loaded: %s", got)
		}
		want := "tls.certificates[0].cert: " + pairs[1].Cert + " … -----BEGIN CERTIFICATE-----"
		if err := p.Reload(); err == nil || !says(err.Error(), want) {
			t.Errorf("Reload: %v", err)
		}
		if !sayAll(told.wrong(), []string{want}) {
			t.Errorf("told of %q in a minute, want once %q", told.wrong(), want)
		}
		if now := p.Problems(); len(now) != 1 || !says(now[0].Error(), want) {
			t.Errorf("the problems are %v", now)
		}

		writeFile(t, pairs[1].Cert, certPEM(second.Leaf))
		time.Sleep(lookEvery)
		synctest.Wait()
		if got := shown(t, p, ca, "a.example"); got != "c.example" {
			t.Errorf("after it was mended: %s", got)
		}
		if !slices.Equal(told.right(), told.wrong()) || len(p.Problems()) != 0 || len(told.wrong()) != 1 {
			t.Errorf("told of %q, mended %q, left %v", told.wrong(), told.right(), p.Problems())
		}
	})
}

// /readyz is asked while a look waits for a drive that doesn't answer.
func TestProblemsAreKnownDuringALook(t *testing.T) {
	pair := write(t, t.TempDir(), "a", newAuthority(t, "ca").issue(100*time.Hour, "a.example"))
	looking, goOn := make(chan struct{}), make(chan struct{})
	p, err := New(Options{Certificates: []Pair{pair}, ConfigKey: "tls", Problem: func(error) {
		close(looking)
		<-goOn
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	defer close(goOn)
	writeFile(t, pair.Cert, []byte("no certificate"))
	go func() { _ = p.Reload() }() // ends with goOn
	<-looking
	known := make(chan []error, 1)
	go func() { known <- p.Problems() }()
	select {
	case problems := <-known:
		if len(problems) != 1 {
			t.Errorf("the problems are %v, want one", problems)
		}
	case <-time.After(patience):
		t.Error("whoever asks for problems waits for the look")
	}
}

// TestPairInTheMiddleOfItsReplacementIsNoProblem: an operator replaces a
// certificate and its key in two steps.
func TestPairInTheMiddleOfItsReplacementIsNoProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, dir := newAuthority(t, "ca"), t.TempDir()
		pair := write(t, dir, "a", ca.issue(100*time.Hour, "old.example"))
		p, told := provider(t, Options{Certificates: []Pair{pair}})
		time.Sleep(lookEvery - 100*time.Millisecond)
		fresh := ca.issue(200*time.Hour, "new.example")
		writeFile(t, pair.Cert, certPEM(fresh.Leaf))
		time.Sleep(300 * time.Millisecond) // a look in between
		synctest.Wait()
		if got := shown(t, p, ca, "x"); got != "old.example" {
			t.Errorf("in the middle: %s", got)
		}
		writeFile(t, pair.Key, keyPEM(t, fresh))
		time.Sleep(lookAgain)
		synctest.Wait()
		if got := shown(t, p, ca, "x"); got != "new.example" || len(told.wrong()) != 0 {
			t.Errorf("after it: %s, told of %q", got, told.wrong())
		}
	})
}

func TestFileThatVanishesIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, dir := newAuthority(t, "ca"), t.TempDir()
		pair := write(t, dir, "a", ca.issue(100*time.Hour, "a.example"))
		p, told := provider(t, Options{Certificates: []Pair{pair}})
		if err := os.Remove(pair.Key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []string{"tls.key: " + pair.Key + ": no such file or directory"}; !sayAll(told.wrong(), want) {
			t.Errorf("told of %q, want %q", told.wrong(), want)
		}
		if got := shown(t, p, ca, "a.example"); got != "a.example" {
			t.Errorf("it is served %s", got)
		}
	})
}

// A certificate that is replaced by one of the same end is another, all the same.
func TestReplacementOfTheSameEndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, dir := newAuthority(t, "ca"), t.TempDir()
		p, told := provider(t, Options{Certificates: []Pair{write(t, dir, "a", ca.issue(time.Hour, "a.example"))}})
		write(t, dir, "a", ca.issue(time.Hour, "a.example"))
		for range 2 {
			if err := p.Reload(); err != nil {
				t.Fatal(err)
			}
		}
		if n, _, _ := told.counts(); n != 2 {
			t.Errorf("told of %d certificates, want 2", n)
		}
	})
}

func TestReloadIsAtOnce(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	p, _ := provider(t, Options{Certificates: []Pair{write(t, dir, "a", ca.issue(time.Hour, "old.example"))}})
	write(t, dir, "a", ca.issue(time.Hour, "new.example"))
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, p, ca, "x"); got != "new.example" {
		t.Errorf("after Reload: %s", got)
	}
}

func TestEndOfACertificateIsToldInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, dir := newAuthority(t, "ca"), t.TempDir()
		pair := write(t, dir, "a", ca.issue(8*time.Hour, "a.example"))
		p, told := provider(t, Options{Certificates: []Pair{pair}})
		var at []time.Duration
		began := time.Now()
		for len(at) < 3 && time.Since(began) < 10*time.Hour {
			if n, _, _ := told.counts(); n > len(at) {
				at = append(at, time.Since(began).Truncate(time.Minute))
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		if want := []time.Duration{0, 6 * time.Hour, 8*time.Hour + time.Minute}; !slices.Equal(at, want) {
			t.Errorf("told after %v, want %v", at, want)
		}
		c := told.certificates[0]
		if c.File != pair.Cert || !slices.Equal(c.Names, []string{"a.example"}) {
			t.Errorf("told of %+v", c)
		}
		if now := p.Problems(); len(now) != 1 || !strings.Contains(now[0].Error(), "expired") {
			t.Errorf("the problems are %v", now)
		}
	})
}

func TestCertificateBeforeItsBeginningIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "ca")
		key := newKey(t)
		leaf := ca.sign(&x509.Certificate{
			DNSNames: []string{"a.example"}, NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
		}, ca.cert, key)
		p, told := provider(t, Options{Certificates: []Pair{
			write(t, t.TempDir(), "a", tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}),
		}})
		if wrong := told.wrong(); len(wrong) != 1 || !strings.Contains(wrong[0], "a.pem: ") || !strings.Contains(wrong[0], " 2000-01-01T01:00:00Z") {
			t.Errorf("told of %q", wrong)
		}
		time.Sleep(time.Hour + lookEvery)
		synctest.Wait()
		if len(told.right()) != 1 || len(p.Problems()) != 0 {
			t.Errorf("when it has begun: mended %q, left %v", told.right(), p.Problems())
		}
	})
}

func TestShortLivedCertificateIsNotAlwaysEnding(t *testing.T) {
	now := time.Now()
	c := Certificate{NotBefore: now, NotAfter: now.Add(time.Hour)}
	if c.Ending(now.Add(44*time.Minute)) || !c.Ending(now.Add(46*time.Minute)) {
		t.Error("a certificate of an hour is to be replaced in its last quarter")
	}
	c.NotAfter = now.AddDate(0, 0, 90)
	if c.Ending(now.AddDate(0, 0, 82)) || !c.Ending(now.AddDate(0, 0, 84)) {
		t.Error("a certificate of 90 days is to be replaced in its last week")
	}
}

func TestFallbackHasOtherNames(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	made := ca.issue(time.Hour, "made.example")
	fallback := func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName != "made.example" {
			return nil, fmt.Errorf("no certificate for %q", hello.ServerName)
		}
		return &made, nil
	}
	p, _ := provider(t, Options{Certificates: []Pair{write(t, dir, "a", ca.issue(time.Hour, "a.example"))}, Fallback: fallback})
	for name, want := range map[string]string{"a.example": "a.example", "made.example": "made.example", "other.example": "a.example"} {
		if got := shown(t, p, ca, name); got != want {
			t.Errorf("%s is shown %s, want %s", name, got, want)
		}
	}
	alone, _ := provider(t, Options{Fallback: fallback})
	if got := shown(t, alone, ca, "made.example"); got != "made.example" {
		t.Errorf("without files: %s", got)
	}
	if _, _, err := handshake(t, alone.Config(), as(ca, "other.example")); err == nil {
		t.Error("a name without any certificate was served")
	}
}

// The authority that looks for proof shows no certificate, and must not be
// taken for a client that needs none.
func TestChallengeIsNoWayAroundClientCertificates(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	made := ca.issue(time.Hour, "made.example")
	p, _ := provider(t, Options{
		ClientCA: writeCA(t, dir, ca), ClientAuth: Require, ChallengeProtos: []string{"acme-tls/1"},
		Fallback: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &made, nil },
	})
	for _, c := range []struct {
		offers []string
		served bool
	}{
		{[]string{"acme-tls/1"}, true},
		{[]string{"acme-tls/1", "http/1.1"}, false},
		{[]string{"http/1.1"}, false},
		{nil, false},
	} {
		client := as(ca, "made.example")
		client.NextProtos = c.offers
		seen, _, err := handshake(t, p.Config(), client)
		if (err == nil) != c.served {
			t.Errorf("%q: %v", c.offers, err)
		}
		if c.served && seen.NegotiatedProtocol != "acme-tls/1" {
			t.Errorf("%q speaks %q: net/http would serve it", c.offers, seen.NegotiatedProtocol)
		}
	}
}

func TestWhatIsWrongIsSaidPrecisely(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	good, other := write(t, dir, "good", ca.issue(time.Hour, "a.example")), write(t, dir, "other", ca.issue(time.Hour, "b.example"))
	caFile, empty, locked := writeCA(t, dir, ca), filepath.Join(dir, "empty"), filepath.Join(dir, "locked")
	writeFile(t, empty, nil)
	writeFile(t, locked, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	with := func(change func(*Pair)) []Pair {
		p := good
		change(&p)
		return []Pair{p}
	}
	for name, c := range map[string]struct {
		options Options
		want    []string
	}{
		"files that aren't there": {Options{Certificates: with(func(p *Pair) { p.Cert, p.Key = "/none.pem", "/none.key" })}, []string{
			"tls.cert: /none.pem: no such file or directory", "tls.key: /none.key: no such file or directory",
		}},
		"a directory":       {Options{Certificates: with(func(p *Pair) { p.Key = dir })}, []string{"tls.key: " + dir + ": … regular file"}},
		"an empty file":     {Options{Certificates: with(func(p *Pair) { p.Cert = empty })}, []string{"tls.cert: " + empty + " … -----BEGIN CERTIFICATE-----"}},
		"a key as the cert": {Options{Certificates: with(func(p *Pair) { p.Cert = p.Key })}, []string{"tls.cert: " + good.Key + " … -----BEGIN CERTIFICATE-----"}},
		"a cert as the key": {Options{Certificates: with(func(p *Pair) { p.Key = p.Cert })}, []string{"tls.key: " + good.Cert + " … -----BEGIN PRIVATE KEY-----"}},
		"a locked key":      {Options{Certificates: with(func(p *Pair) { p.Key = locked })}, []string{"tls.key: " + locked + " … password … openssl pkey -in " + locked + " -out FILE … 0600"}},
		"another's key":     {Options{Certificates: with(func(p *Pair) { p.Key = other.Key })}, []string{"tls.cert: " + good.Cert + ": private key does not match public key … " + other.Key}},
		"no CA":             {Options{Certificates: []Pair{good}, ClientAuth: Require}, []string{"tls.client_auth: require … client_ca … --tls-client-ca"}},
		"a CA without one":  {Options{Certificates: []Pair{good}, ClientCA: empty}, []string{"tls.client_ca: " + empty + " … -----BEGIN CERTIFICATE-----"}},
		"two policies for a name": {Options{Certificates: []Pair{good, with(func(p *Pair) { p.ClientCA, p.ConfigKey = caFile, "tls.certificates[0]" })[0]}}, []string{
			"tls.certificates[0].cert: " + good.Cert + " … " + good.Cert + " … a.example … client_ca … client_auth",
		}},
		"no list": {Options{Certificates: []Pair{good}, ClientCA: caFile, CRLs: []string{empty, good.Key}}, []string{
			"tls.crls: " + empty + " … -----BEGIN X509 CRL-----", "tls.crls: " + good.Key + " … -----BEGIN X509 CRL-----",
		}},
	} {
		c.options.ConfigKey = "tls"
		_, err := New(c.options)
		if err == nil || !sayAll(strings.Split(err.Error(), "\n"), c.want) {
			t.Errorf("%s:\n%v\nwant\n%s", name, err, strings.Join(c.want, "\n"))
		}
	}
}

// A noter is a connection that wants to know which certificate was shown on it.
type noter struct {
	net.Conn
	shown *tls.Certificate
}

func (n *noter) ShowsCertificate(shown *tls.Certificate) { n.shown = shown }

// TestConnectionsLearnTheirCertificate: crypto/tls doesn't keep it.
func TestConnectionsLearnTheirCertificate(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	p, _ := provider(t, Options{Certificates: []Pair{
		write(t, dir, "a", ca.issue(time.Hour, "a.example")),
		write(t, dir, "b", ca.issue(time.Hour, "b.example")),
	}})
	for _, name := range []string{"a.example", "b.example"} {
		client, server := connected(t)
		defer client.Close()
		defer server.Close()
		on := &noter{Conn: server}
		done := make(chan error, 1)
		go func() { done <- tls.Server(on, p.Config()).HandshakeContext(t.Context()) }()
		if err := errors.Join(tls.Client(client, as(ca, name)).HandshakeContext(t.Context()), <-done); err != nil {
			t.Fatal(err)
		}
		if on.shown == nil || on.shown.Leaf.Subject.CommonName != name {
			t.Errorf("a client of %s: the connection is told of %v", name, on.shown)
		}
	}
}
