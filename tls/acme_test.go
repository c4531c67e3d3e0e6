package proxytls

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
)

const hostName = "grpc.culvert.test"

// allTold are the problems, and how many ended.
func (s *story) allTold() (problems []string, ends int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems), len(s.ends)
}

func TestACMEFirstIssue(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{HTTP01, TLSALPN01} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			c := s.newCA(caOptions{life: time.Hour})
			o := c.options(t.TempDir(), hostName)
			o.Challenges = []string{challenge}
			a, told, _ := s.serve(o)
			s.shows(hostName, nil)
			// It is in use before it is told.
			eventually(t, "word of a certificate", func() bool { certificates, _, _ := told.counts(); return certificates == 1 })
			if _, problems, _ := told.counts(); problems != 0 || len(a.Problems()) != 0 {
				t.Errorf("told of %d problems", problems)
			}
			if leaf, err := s.connect("other.culvert.test"); err == nil {
				t.Errorf("a name that isn't managed is shown the certificate of %v", leaf.DNSNames)
			}
			if leaf, err := s.connect(""); err != nil || leaf.VerifyHostname(hostName) != nil {
				t.Errorf("a client that asks for no name isn't shown the first domain's certificate: %v", err)
			}
		})
	}
}

// A CA may refuse a nonce of its own at any time. RFC 8555 §6.5.
func TestACMEBadNonces(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.newCA(caOptions{life: time.Hour, badNonces: 15})
	o := c.options(t.TempDir(), hostName)
	o.Email = "" // nobody is asked for one
	s.serve(o)
	s.shows(hostName, nil)
}

func TestACMERenewsShortLived(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.newCA(caOptions{life: 24 * time.Second})
	a, _, _ := s.serve(c.options(t.TempDir(), hostName))
	first := s.shows(hostName, nil)
	second := s.shows(hostName, first)
	if !second.NotAfter.After(first.NotAfter) {
		t.Errorf("renewed until %v, before it was %v", second.NotAfter, first.NotAfter)
	}
	// An order says what it replaces, and goes without if the CA doesn't find
	// that: one pebble in sixteen, for a serial number that begins with 0.
	for last := second; c.count(`is a replacement of`) == 0; {
		last = s.shows(hostName, last)
	}
	eventually(t, "no problem", func() bool { return len(a.Problems()) == 0 })
}

// A CA that doesn't want what an order says to replace is asked without it, and
// nobody is alarmed: here the certificate is another account's.
func TestACMERenewsWhatAnotherAccountHasOrdered(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.newCA(caOptions{life: 24 * time.Second})
	o := c.options(t.TempDir(), hostName)
	_, _, stop := s.serve(o)
	first := s.shows(hostName, nil)
	stop()
	o.Email = "other@culvert.test"
	_, told, _ := s.serve(o)
	s.shows(hostName, first)
	if problems, _ := told.allTold(); len(problems) != 0 {
		t.Errorf("told %q, want nothing", problems)
	}
	c.wantCount(pebbleOrdered, 2, "orders: the first, and another")
	// Usually one, with status 403. In one of 256 runs pebble doesn't find its own
	// certificate by a serial number that begins with a zero byte: then three with 500.
	if refused := c.count(`POST /order-plz`) - 2; refused < 1 {
		t.Errorf("%d orders were refused, want at least 1", refused)
	}
}

func TestACMERestartAsksNobody(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.newCA(caOptions{life: time.Hour})
	o := c.options(t.TempDir(), hostName)
	_, _, stop := s.serve(o)
	first := s.shows(hostName, nil)
	stop()
	c.setDown(true)
	a, told, _ := s.serve(o)
	leaf, err := s.connect(hostName) // at once: Start has read the storage
	if err != nil || !leaf.Equal(first) {
		t.Errorf("after a restart another certificate is shown, or none: %v", err)
	}
	if _, problems, _ := told.counts(); problems != 0 || len(a.Problems()) != 0 {
		t.Errorf("problems are told: %v", a.Problems())
	}
	if got := c.count(pebbleOrdered); got != 1 {
		t.Errorf("%d orders, want 1", got)
	}
}

func TestACMEStorageIsForNobodyElse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.newCA(caOptions{life: time.Hour})
	folder := filepath.Join(t.TempDir(), "made", "for it")
	s.serve(c.options(folder, hostName))
	s.shows(hostName, nil)
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		// Locks hold two times, and no secret.
		if info.Mode().Perm()&0o077 != 0 && !strings.Contains(path, "locks") {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a lock that is gone
		t.Error(err)
	}
}

func TestACMEKeepsTheOldCertificateWhileTheCAIsDown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.newCA(caOptions{life: 36 * time.Second}) // of which 12 are left when the first try fails
	a, told, _ := s.serve(c.options(t.TempDir(), hostName))
	first := s.shows(hostName, nil)
	c.setDown(true)
	eventually(t, "a problem", func() bool { problems, _ := told.allTold(); return len(problems) > 0 && len(a.Problems()) == 1 })
	if leaf, err := s.connect(hostName); err != nil || !leaf.Equal(first) {
		t.Errorf("the old certificate isn't shown any more: %v", err)
	}
	problems, _ := told.allTold()
	text := problems[0] // another one is told when the certificate expires
	for _, want := range []string{"tls.acme: ", hostName, first.NotAfter.Format(time.RFC3339), "https://localhost:"} {
		if !strings.Contains(text, want) {
			t.Errorf("the problem is %q, without %q", text, want)
		}
	}
	c.setDown(false)
	s.shows(hostName, first)
	eventually(t, "the end of the problem", func() bool {
		_, ends := told.allTold()
		return ends == 1 && len(a.Problems()) == 0
	})
	// One line for each thing that changed, however often it was tried.
	problems, _ = told.allTold()
	if slices.Sort(problems); len(problems) != len(slices.Compact(problems)) {
		t.Errorf("told twice: %q", problems)
	}
}

func TestACMEStartsWhileTheCAIsDown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.newCA(caOptions{life: time.Hour})
	c.setDown(true)
	a, told, _ := s.serve(c.options(t.TempDir(), hostName))
	eventually(t, "a problem", func() bool { return len(a.Problems()) == 1 })
	text := a.Problems()[0].Error()
	if !strings.Contains(text, hostName) || !strings.Contains(text, "no certificate") {
		t.Errorf("the problem is %q", text)
	}
	if _, err := s.connect(hostName); err == nil {
		t.Error("a certificate is shown")
	}
	names, _ := a.Names(0)
	if len(names) != 1 || names[0].State != NameFailing || names[0].Name != hostName || names[0].OnDemand || !names[0].NotAfter.IsZero() || names[0].Since.IsZero() || names[0].Failures < 1 || !strings.Contains(text, names[0].Problem) {
		t.Errorf("the names are %+v, want one that fails with a part of %q", names, text)
	}
	c.setDown(false)
	leaf := s.shows(hostName, nil)
	eventually(t, "the end of the problem", func() bool {
		_, ends := told.allTold()
		return ends == 1 && len(a.Problems()) == 0
	})
	names, _ = a.Names(0)
	if len(names) != 1 || names[0].NextTry.Before(leaf.NotBefore) || names[0].NextTry.After(leaf.NotAfter) {
		t.Fatalf("the names are %+v, want one that is renewed before %v", names, leaf.NotAfter)
	}
	if want := (NameState{Name: hostName, State: NameValid, NotAfter: leaf.NotAfter, NextTry: names[0].NextTry}); names[0] != want {
		t.Errorf("got %+v, want %+v", names[0], want)
	}
}

// TestACMEReloadTriesAgain: a CA that refuses isn't asked again for a minute, then
// two. An operator who has fixed the fault need not wait for that, and learns the
// result.
func TestACMEReloadTriesAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.deaf.Store(true)
	c := s.newCA(caOptions{life: time.Hour})
	o := c.options(t.TempDir(), hostName)
	o.Challenges = []string{HTTP01}
	a, told, _ := s.serve(o)
	for tries := range 2 {
		eventually(t, "a problem", func() bool { problems, _ := told.allTold(); return len(problems) == tries+1 })
		if tries == 1 {
			s.deaf.Store(false)
		}
		if err := a.Reload(); err != nil {
			t.Error(err)
		}
	}
	s.shows(hostName, nil)
	eventually(t, "the end of the problem", func() bool {
		problems, ends := told.allTold()
		return len(problems) == 2 && ends == 1 && len(a.Problems()) == 0
	})
}

// TestACMEReloadReadsWhoVouchesForTheCA: a reload reads the authorities of the CA's
// own certificate again; a file without any changes nothing.
func TestACMEReloadReadsWhoVouchesForTheCA(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.newCA(caOptions{life: time.Hour})
	o := c.options(t.TempDir(), hostName)
	right, err := os.ReadFile(o.CARoot)
	if err != nil {
		t.Fatal(err)
	}
	o.CARoot = writeCA(t, t.TempDir(), newAuthority(t, "stranger"))
	a, _, _ := s.serve(o)
	eventually(t, "a problem", func() bool { return len(a.Problems()) == 1 })
	if text := a.Problems()[0].Error(); !strings.Contains(text, "certificate") {
		t.Errorf("the problem is %q", text)
	}
	writeFile(t, o.CARoot, []byte("no certificate"))
	var about *KeyError
	if err := a.Reload(); !errors.As(err, &about) || about.Key != "tls.acme.ca_root" {
		t.Errorf("a file that holds none: %v", err)
	}
	writeFile(t, o.CARoot, right)
	if err := a.Reload(); err != nil {
		t.Error(err)
	}
	s.shows(hostName, nil)
}

// A name that failed on demand isn't tried again for a while, unless something
// was mended.
func TestACMEReloadForgetsWhatFailedOnDemand(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.deaf.Store(true)
	c := s.newCA(caOptions{life: time.Hour})
	o := c.options(t.TempDir())
	o.Challenges, o.OnDemand = []string{HTTP01}, []string{"shop.culvert.test"}
	a, told, _ := s.serve(o)
	if _, err := s.connect("shop.culvert.test"); err == nil {
		t.Fatal("a certificate is shown")
	}
	eventually(t, "a problem", func() bool {
		problems, _ := told.allTold()
		return len(problems) == 1 && a.find("shop.culvert.test") == nil
	})
	problems, _ := told.allTold()
	names, left := a.Names(1)
	if left != 0 || len(names) != 1 || names[0].State != NameFailing || !names[0].OnDemand || names[0].NextTry.IsZero() || !strings.Contains(problems[0], names[0].Problem) {
		t.Errorf("the names are %+v, want one that fails with a part of %q", names, problems[0])
	}
	if names, left := a.Names(0); left != 1 || len(names) != 0 {
		t.Errorf("the names without those on demand are %+v, and %d are left", names, left)
	}
	s.deaf.Store(false)
	if err := a.Reload(); err != nil {
		t.Error(err)
	}
	s.shows("shop.culvert.test", nil)
}

func TestACMEExternalAccount(t *testing.T) {
	t.Parallel()
	const secret = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	for _, tt := range []struct {
		name, key, hmac string
		problem         string // "" for none
	}{
		{"the right one", "kid-1", secret, ""},
		{"with its padding", "kid-1", secret + "==", ""},
		{"a wrong one", "kid-1", strings.Repeat("Abc0", 16), "unauthorized"},
		{"none", "", "", "externalAccountRequired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			c := s.newCA(caOptions{life: time.Hour, eabKeys: map[string]string{"kid-1": secret}})
			var log syncBuffer
			o := c.options(t.TempDir(), hostName)
			o.EABKeyID, o.EABHMACKey = tt.key, tt.hmac
			o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			a, _, stop := s.serve(o)
			if tt.problem == "" {
				s.shows(hostName, nil)
			} else {
				eventually(t, "a problem", func() bool { return len(a.Problems()) == 1 })
				if text := a.Problems()[0].Error(); !strings.Contains(text, tt.problem) {
					t.Errorf("the problem is %q, without %q", text, tt.problem)
				}
			}
			stop()
			if text := log.String(); !strings.Contains(text, "acme") || tt.hmac != "" && strings.Contains(text, tt.hmac[:20]) {
				t.Errorf("the log is empty, or has the key:\n%s", text)
			}
		})
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestACMEOnDemand(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.newCA(caOptions{life: time.Hour})
	o := c.options(t.TempDir())
	o.OnDemand = []string{"shop.culvert.test", "*.tenants.culvert.test", refusedName}
	a, told, stop := s.serve(o)

	for _, name := range []string{"shop.culvert.test", "one.tenants.culvert.test"} {
		leaf, err := s.connect(name)
		if err != nil {
			leaf = s.shows(name, nil) // the order took longer than a handshake may
		}
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	const ordered = 2
	c.wantCount(pebbleOrdered, ordered, "orders for 2 names")
	for _, name := range []string{"", hostName, "tenants.culvert.test", "a.b.tenants.culvert.test", "xtenants.culvert.test", "127.0.0.1", "*.tenants.culvert.test", "../x.tenants.culvert.test", "a_b.tenants.culvert.test", "-.tenants.culvert.test"} {
		if leaf, err := s.connect(name); err == nil {
			t.Errorf("%q is shown the certificate of %v", name, leaf.DNSNames)
		}
	}
	if got := c.count(pebbleOrdered); got != ordered {
		t.Errorf("%d orders for names that aren't allowed", got-ordered)
	}

	for range 5 {
		if _, err := s.connect(refusedName); err == nil {
			t.Error("a name that the CA refuses has a certificate")
		}
	}
	told.mu.Lock()
	for _, c := range told.certificates {
		if onDemand := c.Names[0] != hostName; c.OnDemand != onDemand {
			t.Errorf("the certificate of %q is on demand: %v, want %v", c.Names, c.OnDemand, onDemand)
		}
	}
	told.mu.Unlock()
	problems, _ := told.allTold()
	if len(problems) != 1 || !says(problems[0], "tls.acme.on_demand: … "+refusedName+" … refuse") {
		t.Errorf("told %q, want one line", problems)
	}
	c.wantCount(`POST /order-plz`, ordered+1, "orders with one of a name that the CA refuses")
	if len(a.Problems()) != 0 {
		t.Errorf("what a client asks for in vain makes culvert look ill: %v", a.Problems())
	}

	stop() // and start again: what is in the storage takes no order
	c.setDown(true)
	s.serve(o)
	if _, err := s.connect("shop.culvert.test"); err != nil {
		t.Error(err)
	}
}

// A name that nobody has asked for in a certificate's life has it in the
// storage only.
func TestACMEOnDemandFetchesAgainWhatHasExpired(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.newCA(caOptions{life: 6 * time.Second})
	o := c.options(t.TempDir())
	o.OnDemand = []string{"shop.culvert.test"}
	_, _, stop := s.serve(o)
	old := s.shows("shop.culvert.test", nil)
	stop() // nobody renews it
	eventually(t, "the certificate's end", func() bool { return time.Now().After(old.NotAfter) })

	s.serve(o)
	if leaf := s.shows("shop.culvert.test", nil); leaf.NotAfter.Equal(old.NotAfter) {
		t.Errorf("a client is shown the certificate that expired at %v", old.NotAfter)
	}
}

// Names on demand are as many as clients think of, and a CA may be slow with
// each: the domains of the configuration don't wait for them.
func TestACMEDomainsDontWaitForNamesOnDemand(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.deaf.Store(true)
	s.hold(".tenants.culvert.test")
	c := s.newCA(caOptions{life: time.Hour})
	o := c.options(t.TempDir(), hostName)
	o.Challenges, o.OnDemand = []string{HTTP01}, []string{"*.tenants.culvert.test"}
	a, told, _ := s.serve(o)
	eventually(t, "a problem", func() bool { problems, _ := told.allTold(); return len(problems) == 1 })
	var clients sync.WaitGroup
	t.Cleanup(clients.Wait)
	for i := range demandBurst {
		clients.Go(func() { _, _ = s.connect(fmt.Sprintf("t%d.tenants.culvert.test", i)) }) // it gives up first
	}
	eventually(t, "all orders", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.names) == demandBurst+1
	})
	eventually(t, "a CA that waits", func() bool { return s.slow.held() >= maxDemandOrders })
	s.deaf.Store(false)
	if err := a.Reload(); err != nil { // the domain's order comes last
		t.Fatal(err)
	}
	s.shows(hostName, nil)
	if begun := s.slow.held(); begun > demandBurst-maxOrders {
		t.Errorf("the domain waited until %d of %d orders on demand were begun", begun, demandBurst)
	}
}

// Nor do they take the connections to the CA by asking when to renew.
func TestACMERenewalInfoOnDemandWaitsItsTurn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.newCA(caOptions{life: time.Hour})
	a, _, _ := s.serve(c.options(t.TempDir(), hostName))
	s.shows(hostName, nil)
	eventually(t, "no order", func() bool { return len(a.orders) == 0 })
	for range maxDemandOrders {
		a.demand.orders <- struct{}{}
	}
	for range maxOrders {
		a.orders <- struct{}{}
	}
	held := a.find(hostName).inUse.Load()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if info := a.renewalInfo(ctx, newManaged("t.tenants.culvert.test", true), held); info != nil {
		t.Errorf("without a place the CA is asked: %+v", info)
	}
	if info := a.renewalInfo(t.Context(), newManaged(hostName, false), held); info == nil {
		t.Error("for a domain the CA isn't asked")
	}
}

func TestACMEReplicasFetchOnce(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{HTTP01, TLSALPN01} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			c := s.newCA(caOptions{life: 24 * time.Second})
			storage := t.TempDir()
			o := c.options(storage, hostName)
			o.Challenges = []string{challenge}
			// The CA finds the second, whichever of them has ordered.
			one, toldOne, _ := s.serve(o)
			two, toldTwo, _ := s.serve(o)
			s.shows(hostName, nil)
			for renewals := range 2 {
				// Both have the same, and each certificate was for both.
				eventually(t, "as many certificates as were issued", func() bool {
					ofOne, _, _ := toldOne.counts()
					ofTwo, _, _ := toldTwo.counts()
					issued := c.count(pebbleIssued)
					return issued > renewals && ofOne == issued && ofTwo == issued && inUse(one).Equal(inUse(two))
				})
			}
			if got := c.count(pebbleAccount); got != 1 {
				t.Errorf("%d accounts of two replicas, want 1", got)
			}
		})
	}
}

func inUse(a *ACME) *x509.Certificate { return a.find(hostName).inUse.Load().leaf }

// testDNS is a provider as those of libdns are: it writes to a name server.
type testDNS struct {
	server *nameServer
	token  string
	fail   bool
}

func (d testDNS) change(records []libdns.Record, zone string, change func(old []string, text string) []string) ([]libdns.Record, error) {
	if d.fail {
		return nil, errors.New("POST /zones?token=" + url.QueryEscape(d.token) + ": 403 Forbidden")
	}
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	for _, r := range records {
		name := libdns.AbsoluteName(r.RR().Name, zone)
		d.server.txt[name] = change(d.server.txt[name], r.RR().Data)
	}
	return records, nil
}

func (d testDNS) AppendRecords(_ context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return d.change(records, zone, func(old []string, text string) []string { return append(old, text) })
}

func (d testDNS) DeleteRecords(_ context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return d.change(records, zone, func(old []string, text string) []string {
		return slices.DeleteFunc(old, func(s string) bool { return s == text })
	})
}

func TestACMEByDNS(t *testing.T) {
	t.Parallel()
	const token = "a/token+of=dns"
	s := newSite(t)
	c := s.newCA(caOptions{life: time.Hour})
	provider := s.dns.conn.LocalAddr().String() // a name is taken once in a process
	RegisterDNSProvider(provider, func(settings map[string]string) (certmagic.DNSProvider, error) {
		if settings["token"] == "" {
			return nil, errors.New("token is missing")
		}
		return testDNS{s.dns, settings["token"], settings["fail"] != ""}, nil
	})
	var log syncBuffer
	o := c.options(t.TempDir(), "*.culvert.test")
	o.DNSProvider, o.DNSResolvers = provider, []string{s.dns.conn.LocalAddr().String()}
	o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))

	_, err := NewACME(o)
	if err == nil || !strings.Contains(err.Error(), ".dns_settings: token is missing") {
		t.Errorf("without a token: %v", err)
	}

	o.DNSSettings = map[string]string{"token": token, "fail": "yes"}
	a, _, stop := s.serve(o)
	eventually(t, "a problem", func() bool { return len(a.Problems()) == 1 })
	text := a.Problems()[0].Error()
	if !strings.Contains(text, "POST /zones?token=…: 403 Forbidden") {
		t.Errorf("the problem is %q", text)
	}
	stop()

	o.DNSSettings = map[string]string{"token": token}
	s.serve(o)
	s.shows("any.culvert.test", nil)
	s.dns.mu.Lock()
	defer s.dns.mu.Unlock()
	for name, texts := range s.dns.txt {
		if len(texts) > 0 {
			t.Errorf("%s is left with %q", name, texts)
		}
	}
	if said := text + log.String(); strings.Contains(said, token) || strings.Contains(said, url.QueryEscape(token)) {
		t.Error("the log has the token")
	}
}

func TestACMEAnswersTheCAAlone(t *testing.T) {
	t.Parallel()
	a, _ := newACME(t, ACMEOptions{Domains: []string{hostName}, Storage: t.TempDir()})
	t.Cleanup(a.Close)
	shown := solver{a.challenges, HTTP01}
	challenge := acmeChallenge(hostName)
	if err := shown.Present(t.Context(), challenge); err != nil {
		t.Fatal(err)
	}
	handler := a.HTTPHandler(http.RedirectHandler("https://elsewhere", http.StatusPermanentRedirect))
	get := func(method, host, path string) string {
		r := httptest.NewRequest(method, path, nil)
		r.Host = host
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code == http.StatusPermanentRedirect {
			return "redirected"
		}
		return w.Body.String()
	}
	for _, tt := range []struct{ method, host, path, want string }{
		{"GET", hostName, challengePath + challenge.Token, challenge.KeyAuthorization},
		{"GET", "GRPC.culvert.test:80", challengePath + challenge.Token, challenge.KeyAuthorization},
		{"GET", hostName, challengePath + "other", "redirected"},
		{"GET", hostName, challengePath, "redirected"},
		{"POST", hostName, challengePath + challenge.Token, "redirected"},
		{"GET", "other.culvert.test", challengePath + challenge.Token, "redirected"},
		{"GET", "..", challengePath + challenge.Token, "redirected"},
		{"GET", hostName, "/", "redirected"},
	} {
		if got := get(tt.method, tt.host, tt.path); got != tt.want {
			t.Errorf("%s http://%s%s: %q, want %q", tt.method, tt.host, tt.path, got, tt.want)
		}
	}
	// A replica finds it in the storage, until it is over.
	delete(a.challenges.open, a.challenges.key(HTTP01, hostName))
	if got := get("GET", hostName, challengePath+challenge.Token); got != challenge.KeyAuthorization {
		t.Errorf("a replica answers %q", got)
	}
	if err := shown.CleanUp(t.Context(), challenge); err != nil {
		t.Error(err)
	}
	if got := get("GET", hostName, challengePath+challenge.Token); got != "redirected" {
		t.Errorf("when it is over: %q", got)
	}
}
