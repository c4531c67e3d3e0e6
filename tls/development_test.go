package proxytls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// trusting verifies what the authority gave for a name, as a browser that
// trusts it would.
func trusting(t *testing.T, d *Development, name string) error {
	t.Helper()
	data, err := os.ReadFile(d.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(data)
	leaf, err := d.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = leaf.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool})
	return err
}

func TestDevelopmentAuthorityIsMadeOnce(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "culvert", "development")
	first, err := NewDevelopment(folder, []string{"app.test", "192.168.7.8"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := NewDevelopment(folder, []string{"app.test"})
	if err != nil {
		t.Fatal(err)
	}
	if !first.Made || second.Made {
		t.Errorf("made is %v and then %v", first.Made, second.Made)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "app.test"} {
		for _, d := range []*Development{first, second} {
			if err := trusting(t, d, name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if err := trusting(t, first, "192.168.7.8"); err != nil {
		t.Error(err)
	}
	for file, mode := range map[string]os.FileMode{"": 0o700, "ca.key": 0o600, "ca.pem": 0o644} {
		info, err := os.Stat(filepath.Join(folder, file))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: %v, %v, want %v", file, info.Mode(), err, mode)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(folder))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d things are beside the folder, %v", len(entries)-1, err)
	}
}

// TestDevelopmentAuthorityIsConstrained: the key can't sign for anything else.
func TestDevelopmentAuthorityIsConstrained(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "development")
	d, err := NewDevelopment(folder, []string{"app.test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bank.example", "8.8.8.8", "test", "2001:db8::1"} {
		d.names, d.leaf = []string{name}, nil
		if err := trusting(t, d, name); err == nil {
			t.Errorf("it vouches for %s", name)
		}
	}
	for _, name := range []string{"sub.app.test", "127.8.8.8", "x.localhost"} {
		d.names, d.leaf = []string{name}, nil
		if err := trusting(t, d, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDevelopmentAuthorityThatIsOfNoUse(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "development")
	if _, err := NewDevelopment(folder, nil); err != nil {
		t.Fatal(err)
	}
	remedy := " … remove … " + folder + " "
	_, err := NewDevelopment(folder, []string{"app.test"})
	if err == nil || !says(err.Error(), " … app.test"+remedy) {
		t.Errorf("another name: %v", err)
	}
	key := filepath.Join(folder, "ca.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := NewDevelopment(folder, nil); err == nil || !says(err.Error(), " … read"+remedy) {
		t.Errorf("an open key: %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := NewDevelopment(folder, nil); err == nil || !says(err.Error(), remedy) {
		t.Errorf("no key: %v", err)
	}
}

func TestDevelopmentAuthorityOfTwoAtOnce(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "development")
	const processes = 8
	all := make([]*Development, processes)
	var running sync.WaitGroup
	for i := range processes {
		running.Go(func() {
			var err error
			if all[i], err = NewDevelopment(folder, nil); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	made := 0
	for _, d := range all {
		if d == nil {
			continue
		}
		if d.Made {
			made++
		}
		if err := trusting(t, d, "localhost"); err != nil {
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("%d have made it", made)
	}
}

func TestDevelopmentCertificateIsMadeAnewInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := NewDevelopment(filepath.Join(t.TempDir(), "development"), nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := New(Options{Fallback: d.GetCertificate})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		var last []byte
		different := 0
		for range 10 {
			seen, _, err := handshake(t, p.Config(), &tls.Config{ServerName: "localhost", InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := trusting(t, d, "localhost"); err != nil {
				t.Error(err)
			}
			if string(last) != string(seen.PeerCertificates[0].Raw) {
				different++
			}
			last = seen.PeerCertificates[0].Raw
			time.Sleep(30 * 24 * time.Hour)
		}
		if different < 3 || different > 6 {
			t.Errorf("300 days had %d certificates", different)
		}
	})
}

func TestHowToTrustNamesTheFile(t *testing.T) {
	d, err := NewDevelopment(filepath.Join(t.TempDir(), "development"), []string{"app.test"})
	if err != nil {
		t.Fatal(err)
	}
	text := d.HowToTrust()
	for _, want := range []string{d.CA, "localhost, 127.0.0.1, ::1, app.test", "update-ca-certificates", "NODE_EXTRA_CA_CERTS", "Firefox"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
}

// TestDevelopmentAuthorityVouchesForNobodyElse: an empty name is a constraint
// that every name satisfies.
func TestDevelopmentAuthorityVouchesForNobodyElse(t *testing.T) {
	for _, name := range []string{"", "*.", "."} {
		folder := filepath.Join(t.TempDir(), "development")
		if _, err := NewDevelopment(folder, []string{"app.test", name}); !errors.Is(err, errEmptyName) {
			t.Errorf("%q: %v, want %v", name, err, errEmptyName)
		}
		if _, err := os.Stat(folder); err == nil {
			t.Errorf("%q: an authority was made", name)
		}
	}
}
