//go:build unix

package sockets

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/config"
)

// openSocket listens until the test's end.
func openSocket(t *testing.T, path string, mode fs.FileMode) net.Listener {
	t.Helper()
	ln, err := ListenUnix(t.Context(), path, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() }) // it may be closed already
	return ln
}

func TestSocketsAreAsPrivateAsTheirMode(t *testing.T) {
	for _, mode := range []fs.FileMode{0o600, 0o660, 0o777} {
		path := filepath.Join(t.TempDir(), "s")
		ln := openSocket(t, path, mode)
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != fs.ModeSocket|mode {
			t.Errorf("the socket is %v (%v), want %v", info.Mode(), err, fs.ModeSocket|mode)
		}
		if got := ln.Addr().String(); got != path {
			t.Errorf("the address is %s, want %s", got, path)
		}
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close() // that it came about is all
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		left, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(left) > 0 {
			t.Errorf("%v is left behind (%v)", left, err)
		}
	}
}

// TestLongPathOfASocket is as long as config takes one.
func TestLongPathOfASocket(t *testing.T) {
	folder, err := os.MkdirTemp("/tmp", "s") // t.TempDir() is longer than that
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	longest := ""
	for n := 1; n < 200; n++ {
		path := folder + "/" + strings.Repeat("s", n)
		if _, err := config.Load(config.Options{}, "", map[string]any{"listen": "unix:" + path}); err != nil {
			break
		}
		longest = path
	}
	openSocket(t, longest, 0o600)
}

// TestSocketsOfTheDeadAreReplaced, those of the living and other files not.
func TestSocketsOfTheDeadAreReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	old := openSocket(t, path, 0o600)
	if _, err := ListenUnix(t.Context(), path, 0o600); !errors.Is(err, errSocketServed) {
		t.Errorf("a socket that is served: %v, want %v", err, errSocketServed)
	}
	// Who replaced it by hand keeps it when the first one closes.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	openSocket(t, path, 0o600)
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the successor's socket went with the first: %v", err)
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(t.Context(), file, 0o600); !errors.Is(err, errNoSocket) {
		t.Errorf("a file: %v, want %v", err, errNoSocket)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "data" {
		t.Errorf("the file holds %q (%v), want what it held", data, err)
	}
	if _, err := ListenUnix(t.Context(), "/nowhere/s", 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that isn't there: %v, want %v", err, fs.ErrNotExist)
	}
}
