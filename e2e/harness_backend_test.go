package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
)

// A backend is the gRPC server behind culvert, a process of its own.
type backend struct {
	*process
	address   string // as culvert's --backend takes it
	control   *probe.Control
	socket    string
	namespace string
	args      []string
}

type backendOptions struct {
	listen    string // "": a free port of 127.0.0.1; "unix:": a socket in a directory of its own
	namespace string
	streams   int  // its MaxConcurrentStreams; 0: no limit
	quiet     bool // it has no server reflection
}

func startBackend(t testing.TB, o backendOptions) *backend {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-") // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &backend{socket: filepath.Join(dir, "control"), namespace: o.namespace}
	if o.streams > 0 {
		b.args = []string{fmt.Sprintf("-max-streams=%d", o.streams)}
	}
	if o.quiet {
		b.args = append(b.args, "-no-reflection")
	}
	switch o.listen {
	case "":
		o.listen = "127.0.0.1:0"
	case "unix:":
		o.listen += filepath.Join(dir, "backend")
	}
	b.control = probe.NewControl(b.socket)
	t.Cleanup(b.control.Close)
	b.start(t, o.listen)
	return b
}

func (b *backend) start(t testing.TB, listen string) {
	t.Helper()
	argv := append([]string{backendProgram, "-listen", listen, "-control", b.socket}, b.args...)
	b.process = startProcess(t, "backend", b.namespace, argv...)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	line, _, err := b.output.find(ctx, 0, func(l string) bool { return strings.HasPrefix(l, "listening ") })
	if err != nil {
		t.Fatalf("backend: %v", err)
	}
	b.address = strings.TrimPrefix(line, "listening ")
	if strings.HasPrefix(listen, "unix:") {
		b.address = "unix://" + b.address
	}
}

// restart starts the backend again where it was, after kill.
func (b *backend) restart(t testing.TB) {
	t.Helper()
	b.start(t, strings.Replace(b.address, "unix://", "unix:", 1))
}

var lastID atomic.Int64

// newID returns a name for a call that no other has.
func newID(t testing.TB) string {
	return fmt.Sprintf("%s#%d", t.Name(), lastID.Add(1))
}

// record returns what the backend saw of a call once it came to state, which must
// happen within patience.
func (b *backend) record(t testing.TB, id, state string, patience time.Duration) probe.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := b.control.Wait(ctx, id, state)
	if err != nil {
		t.Fatalf("call %s has not %s at the backend within %v: %v", id, state, patience, err)
	}
	return r
}

// saw returns the record of a call as it is now. ok is false if it never began.
func (b *backend) saw(t testing.TB, id string) (r probe.Record, ok bool) {
	t.Helper()
	r = b.record(t, id, probe.Now, patience)
	return r, r.Attempts > 0
}

// sent returns how many bytes of payload the backend has sent in the calls that
// run.
func (b *backend) sent(t testing.TB) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, err := b.control.Sent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (b *backend) records(t testing.TB) map[string]probe.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	all, err := b.control.Records(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// idle waits until the backend has no call.
func (b *backend) idle(t testing.TB, patience time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.control.WaitIdle(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			for id, r := range b.records(t) {
				if r.Ended.IsZero() {
					t.Errorf("call %s still runs at the backend: %+v", id, r)
				}
			}
		}
		t.Fatalf("the backend is not idle after %v: %v", patience, err)
	}
}
