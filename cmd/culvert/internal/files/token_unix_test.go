//go:build unix

package files

import (
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

// TestTokenFileIsNoPipe: nobody may ever write to one.
func TestTokenFileIsNoPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenToken(cmdtest.Load(t, "admin: {token: "+pipe+"}"), slog.New(slog.DiscardHandler), func(admin.Token) {})
	if err == nil || !strings.Contains(err.Error(), "isn't a regular file") {
		t.Errorf("a pipe: %v", err)
	}
}
