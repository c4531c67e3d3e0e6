package e2e

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// stall has whoever opens the file from now on hang in open(2), as a drive does
// that doesn't answer: a lease, which the kernel waits 45 s for. asked waits
// until somebody hangs.
func stall(t *testing.T, name string) (asked func()) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // lets go of the lease, too
	// A program that a test beside this one is just starting may hold what wrote
	// the file until its exec.
	if err := eventually(tlsPatience, func() error {
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
		return err
	}); err != nil {
		t.Fatalf("a lease on %s: %v", name, err)
	}
	return func() {
		t.Helper()
		if err := eventually(tlsPatience, func() error {
			switch left, err := unix.FcntlInt(f.Fd(), unix.F_GETLEASE, 0); {
			case err != nil:
				return err
			case left == unix.F_WRLCK:
				return errors.New("nobody has opened the file")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// A drive that stops to answer while certificates are looked at keeps culvert
// neither from serving nor, with a hangup on top, from ending.
func TestHungDriveKeepsNobodyFromEnding(t *testing.T) {
	t.Parallel()
	ca, dir := newIssuer(t, "ca"), t.TempDir()
	certFile, keyFile := writePair(t, dir, "tls", ca.issue("first"))
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--tls-cert", certFile, "--tls-key", keyFile}})

	_, freshKey := writePair(t, dir, "fresh", ca.issue("second"))
	asked := stall(t, freshKey)
	if err := os.Rename(freshKey, keyFile); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c.signal(t, syscall.SIGHUP)
	asked()
	if err := worksTLS(t, wire.GRPC, c.address, ca.trusting()); err != nil {
		t.Errorf("while the drive hangs: %v", err)
	}
	c.signal(t, syscall.SIGTERM)
	if code := c.wait(t, 30*time.Second); code != 0 { // before the kernel takes the lease away
		t.Errorf("exit code %d", code)
	}
	// On a machine that took so long for this the kernel may have ended the wait.
	if err := c.said("waiting certificates"); err != nil && time.Since(began) < 40*time.Second {
		t.Error(err)
	}
}
