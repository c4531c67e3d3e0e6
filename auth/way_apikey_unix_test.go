//go:build unix

package auth

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKeyFileIsNoPipe: nobody may ever write to one. The last good keys stay when one takes the
// file's place.
func TestKeyFileIsNoPipe(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	a := newAuth(t, Config{APIKeys: keys})
	if err := os.Remove(keys.File); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(keys.File, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(); err == nil || !strings.Contains(err.Error(), keys.File+": it isn't a regular file") {
		t.Errorf("a pipe: %v", err)
	}
	wantJudged(t, a, aCall{key: key["ci"]}, "ci")
	if _, err := New(Config{APIKeys: keys}, nil); err == nil || !strings.Contains(err.Error(), "isn't a regular file") {
		t.Errorf("a pipe from the beginning: %v", err)
	}
}
