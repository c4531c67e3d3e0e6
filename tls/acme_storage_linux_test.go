package proxytls

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"golang.org/x/sys/unix"
)

// storedFolder is a storage that has a certificate for hostName, and may be
// read by everybody.
func storedFolder(t *testing.T, life time.Duration) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "storage") // others can't enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) }) // the test is over
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	cert := newAuthority(t, "ca").issue(life, hostName)
	storage := &certmagic.FileStorage{Path: folder}
	key := certmagic.StorageKeys.Safe(issuerName("https://ca.culvert.test/directory"))
	for name, data := range map[string][]byte{
		certmagic.StorageKeys.SiteCert(key, hostName): certPEM(cert.Leaf), certmagic.StorageKeys.SitePrivateKey(key, hostName): keyPEM(t, cert),
	} {
		if err := storage.Store(t.Context(), name, data); err != nil {
			t.Fatal(err)
		}
		for file := filepath.Join(folder, name); file != folder; file = path.Dir(file) {
			if err := os.Chmod(file, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return folder
}

// asNobody runs f without the right to write everywhere.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Getuid() == 0 {
		if err := unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Setfsuid(0) }() // it was 0
	}
	f()
}

// TestACMEStartsWithAStorageItCantWrite: existing certificates are served, though
// nothing can be renewed.
func TestACMEStartsWithAStorageItCantWrite(t *testing.T) {
	o := ACMEOptions{Domains: []string{hostName}, Directory: "https://ca.culvert.test/directory", Storage: storedFolder(t, time.Hour)}
	if err := os.Chmod(o.Storage, 0o555); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		a, told := newACME(t, o)
		a.Start(t.Context())
		defer a.Close()
		certificates, problems, _ := told.counts()
		if certificates != 1 || problems != 1 {
			t.Errorf("told of %d certificates and %d problems, want 1 of each", certificates, problems)
		}
		if got := a.Problems(); len(got) != 1 || !says(got[0].Error(), "tls.acme.storage: "+o.Storage+": permission denied … folder") {
			t.Errorf("the problems are %v", got)
		}
	})
}

// Without a certificate that is good the start fails.
func TestACMEDoesntStartWithNothingToServe(t *testing.T) {
	for name, life := range map[string]time.Duration{hostName: -time.Second, "other.culvert.test": time.Hour} {
		o := ACMEOptions{Domains: []string{name}, Directory: "https://ca.culvert.test/directory", Storage: storedFolder(t, life), ConfigKey: "tls.acme"}
		if err := os.Chmod(o.Storage, 0o555); err != nil {
			t.Fatal(err)
		}
		asNobody(t, func() {
			if _, err := NewACME(o); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s: NewACME returns %v", name, err)
			}
		})
	}
}

// Once it can be written again, a reload says so.
func TestACMEStorageIsMended(t *testing.T) {
	o := ACMEOptions{Domains: []string{hostName}, Directory: "https://ca.culvert.test/directory", Storage: storedFolder(t, time.Hour)}
	if err := os.Chmod(o.Storage, 0o555); err != nil {
		t.Fatal(err)
	}
	var a *ACME
	var told *story
	asNobody(t, func() {
		a, told = newACME(t, o)
		a.Start(t.Context())
	})
	defer a.Close()
	if err := os.Chmod(o.Storage, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, ends := told.allTold(); ends != 1 || len(a.Problems()) != 0 {
		t.Errorf("%d ends of problems were told, and the problems are %v", ends, a.Problems())
	}
}

// TestACMEStorageLogsWhereCulvertDoes: the log of certmagic's storage goes to
// culvert's log, like that of the other libraries.
func TestACMEStorageLogsWhereCulvertDoes(t *testing.T) {
	folder := t.TempDir()
	var said textLog
	a, _ := newACME(t, ACMEOptions{
		Domains: []string{hostName}, Storage: folder,
		Log: slog.New(slog.NewJSONHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	defer a.Close()
	// The lock of a replica that is gone.
	if err := os.Mkdir(filepath.Join(folder, "locks"), 0o700); err != nil {
		t.Fatal(err)
	}
	meta, err := json.Marshal(map[string]time.Time{"created": time.Now().Add(-time.Hour), "updated": time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "locks", "gone.lock"), meta, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.storage.Lock(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	if err := a.storage.Unlock(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	if text := said.String(); !strings.Contains(text, `"level":"DEBUG","msg":"acme","event":"[FileStorage:`+folder+`] Lock for 'gone' is stale`) {
		t.Errorf("the log has %q", text)
	}
}

type textLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *textLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *textLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
