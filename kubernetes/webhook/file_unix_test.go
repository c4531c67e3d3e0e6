//go:build unix

package webhook_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts/authority"
	"github.com/culvert-grpc/culvert/kubernetes/webhook"
)

// TestHangingFile has a file that can be opened and gives no bytes, as on a network file
// system that hangs. The request that reads it waits. All others use the certificate that is there.
func TestHangingFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, ca := t.TempDir(), authority.New(t)
		first, second := leaf(t, ca), leaf(t, ca)
		cert, key := write(t, dir, first)
		current, err := webhook.CertificateFiles(cert, key, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		otherCert, otherKey := write(t, t.TempDir(), second)
		pipe := filepath.Join(dir, "pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		for from, to := range map[string]string{otherCert: cert, pipe: key} {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second) // then it is read again

		var reading sync.WaitGroup
		reading.Go(func() {
			if got, err := current(); err != nil || !got.Leaf.Equal(second.Leaf) {
				t.Errorf("the reader of the files has %v (%v), want the new one, %v", got.Leaf.SerialNumber, err, second.Leaf.SerialNumber)
			}
		})
		w, err := os.OpenFile(key, os.O_WRONLY, 0) // returns when the reader has opened it
		if err != nil {
			t.Fatal(err)
		}
		if got, err := current(); err != nil || !got.Leaf.Equal(first.Leaf) {
			t.Errorf("while a file hangs, in use is %v (%v), want %v", got.Leaf.SerialNumber, err, first.Leaf.SerialNumber)
		}
		text, err := os.ReadFile(otherKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		reading.Wait()
		if got, err := current(); err != nil || !got.Leaf.Equal(second.Leaf) {
			t.Errorf("in use is %v (%v), want %v", got.Leaf.SerialNumber, err, second.Leaf.SerialNumber)
		}
	})
}
