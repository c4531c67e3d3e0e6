package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const dnsName = "culvert-injector.culvert-system.svc"

// A replica is a running source.
type replica struct {
	*Source
	log  *lockedBuffer
	stop func() // ends Run
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// start runs a replica until the test ends.
func start(t *testing.T, a *api, caLife, leafLife time.Duration) *replica {
	t.Helper()
	r := &replica{log: new(lockedBuffer)}
	var err error
	r.Source, err = newSource(Options{
		API: a.client(), Namespace: "culvert-system", Secret: "culvert-injector-certs", Service: "culvert-injector",
		WebhookConfig: "culvert-injector", Log: slog.New(slog.NewTextHandler(r.log, nil)),
	}, caLife, leafLife)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	ended := make(chan error, 1) // so that Run needn't wait for the test
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// verify checks a certificate as an API server does whose clock is behind.
func verify(c *tls.Certificate, bundle string, behind time.Duration) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle))
	_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: dnsName, CurrentTime: time.Now().Add(-behind)})
	return err
}

func TestCertificateIsMadeAndTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		r := start(t, a, caLife, leafLife)
		if _, err := r.Certificate(); err == nil {
			t.Error("there is a certificate before anything was done")
		}
		time.Sleep(10 * time.Second)
		c, err := r.Certificate()
		if err != nil {
			t.Fatalf("%v\n%s", err, r.log)
		}
		for _, bundle := range a.bundles() {
			if err := verify(c, bundle, 0); err != nil {
				t.Error(err)
			}
		}
		if strings.Contains(r.log.String(), "PRIVATE") || strings.Contains(r.log.String(), "level=ERROR") {
			t.Errorf("the log is\n%s", r.log)
		}
	})
}

// TestNotServedBeforeItIsValid: a replica whose clock is ahead isn't ready until the API
// server's clock accepts its certificate.
func TestNotServedBeforeItIsValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		a.behind = 30 * time.Second
		r := start(t, a, caLife, leafLife)
		began := time.Now()
		for {
			time.Sleep(time.Second)
			c, err := r.Certificate()
			if err == nil {
				if err := verify(c, a.bundles()[0], a.behind); err != nil {
					t.Errorf("served after %v, but the API server refuses it: %v", time.Since(began), err)
				}
				break
			}
			if took := time.Since(began); took > time.Minute {
				t.Fatalf("not served after %v: %v", took, err)
			} else if took > 5*time.Second && !errors.Is(err, errClock) {
				t.Errorf("%v: want the clock in the error", err)
			}
		}
	})
}

// TestNoOutage runs two replicas through several certificates and CAs. The API
// servers hear of a caBundle 10 s late. From its first certificate on, each replica
// serves one that they trust.
func TestNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		replicas := []*replica{start(t, a, 3*time.Hour, time.Hour), start(t, a, 3*time.Hour, time.Hour)}
		const lag = 10 * time.Second // of an API server's clock, and of what it knows of the caBundle
		var told []string            // the caBundle of each second
		type pair struct {
			leaf   *tls.Certificate
			bundle string
		}
		checked := map[pair]bool{}
		leaves := map[*tls.Certificate]bool{}
		for second := time.Duration(0); second < 5*time.Hour; second += time.Second {
			told = append(told, a.bundles()[0])
			if len(told) > int(lag/time.Second) {
				told = told[1:]
			}
			for i, r := range replicas {
				c, err := r.Certificate()
				switch {
				case err != nil && second > 2*time.Second:
					t.Fatalf("replica %d has no certificate after %v: %v", i, second, err)
				case err != nil || second < 5*time.Second+lag: // the first CA: nothing is injected yet
					continue
				case c.Leaf.NotAfter.Before(time.Now()):
					t.Fatalf("replica %d serves an expired certificate after %v", i, second)
				}
				leaves[c] = true
				if now := (pair{c, told[0]}); !checked[now] {
					checked[now] = true
					if err := verify(c, now.bundle, lag); err != nil {
						t.Fatalf("replica %d after %v: %v", i, second, err)
					}
				}
			}
			time.Sleep(time.Second)
		}
		if len(leaves) < 10 { // one for each replica and 40 minutes
			t.Errorf("only %d certificates in five hours", len(leaves))
		}
		// The CA is replaced every two hours, and an earlier one lives one hour longer.
		if n := len(certificates([]byte(a.bundles()[0]))); n < 1 || n > 2 {
			t.Errorf("the caBundle has %d CAs", n)
		}
		for _, r := range replicas {
			if n := strings.Count(r.log.String(), "level=ERROR"); n > 8 { // one write of two conflicts
				t.Errorf("%d errors in the log:\n%s", n, r.log)
			}
		}
	})
}

// TestRestoresTheBundle wipes the caBundle, as a new configuration without one does.
func TestRestoresTheBundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		r := start(t, a, caLife, leafLife)
		time.Sleep(10 * time.Second)
		a.update(func() { a.config.Webhooks[1].ClientConfig.CABundle = []byte("\n") })
		time.Sleep(lookEvery)
		synctest.Wait()
		c, err := r.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(c, a.bundles()[1], 0); err != nil {
			t.Error(err)
		}
	})
}

// TestDeletedSecret makes a new CA, while the certificate of the earlier one is still
// served and trusted.
func TestDeletedSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		r := start(t, a, caLife, leafLife)
		time.Sleep(10 * time.Second)
		before, err := r.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		a.update(func() { a.secret = nil })
		time.Sleep(settle - time.Second)
		if now, err := r.Certificate(); err != nil || now != before {
			t.Errorf("it serves another certificate before the API servers know its CA (%v)", err)
		}
		time.Sleep(settle)
		now, err := r.Certificate()
		if err != nil || now == before {
			t.Fatalf("it serves the earlier certificate (%v)\n%s", err, r.log)
		}
		for _, c := range []*tls.Certificate{before, now} {
			if err := verify(c, a.bundles()[0], 0); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestExpired has a source that makes no certificates any more: it isn't ready when the last
// one has expired.
func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		r := start(t, a, caLife, time.Hour)
		time.Sleep(10 * time.Second)
		if _, err := r.Certificate(); err != nil {
			t.Fatal(err)
		}
		r.stop()
		time.Sleep(30 * time.Minute)
		if _, err := r.Certificate(); err != nil {
			t.Errorf("after Run, before the certificate's end: %v", err)
		}
		time.Sleep(31 * time.Minute)
		if _, err := r.Certificate(); err == nil {
			t.Error("it serves a certificate that has expired")
		}
	})
}

// TestProblems are in the readiness, and once in the log.
func TestProblems(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*api)
		want   string
	}{
		"no configuration":       {func(a *api) { a.refuse = http.MethodPatch }, "refused by the test"},
		"another configuration":  {func(a *api) { a.config = nil }, "there is no MutatingWebhookConfiguration culvert-injector: create it, or set --webhook-config"},
		"no Secret":              {func(a *api) { a.secret, a.refuse = nil, http.MethodPost }, "there is no Secret culvert-system/culvert-injector-certs: apply the chart"},
		"the Secret is unseen":   {func(a *api) { a.refuse = http.MethodGet }, "Secret culvert-system/culvert-injector-certs: "},
		"the Secret isn't ours":  {func(a *api) { a.refuse = http.MethodPut }, "the CA isn't made yet"},
		"somebody else's Secret": {func(a *api) { a.secret.Data = map[string][]byte{"tls.crt": []byte("x")}; a.refuse = http.MethodPut }, "the CA isn't made yet"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI()
				row.change(a)
				r := start(t, a, caLife, leafLife)
				time.Sleep(time.Minute)
				_, err := r.Certificate()
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("the error is %v, want %q in it", err, row.want)
				}
				if n := strings.Count(r.log.String(), "the caBundle of the webhook can't be kept"); n > 1 {
					t.Errorf("the problem is %d times in the log:\n%s", n, r.log)
				}
			})
		})
	}
}
