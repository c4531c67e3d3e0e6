package serve

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

// TestReloadedBackendsAreAnnounced: new and changed ones, and none of the others. The
// wait for one that goes ends.
func TestReloadedBackendsAreAnnounced(t *testing.T) {
	first := cmdtest.Load(t, "backends: [{name: default, address: users:9000}, {name: away, address: away:9000}, {name: gone, address: gone:9000}]")
	second := cmdtest.Load(t, "backends: [{name: new, address: new:9000}, {name: default, address: users:9000}, {name: away, address: here:9000}, {name: listless, address: listless:9000}]")
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		here := false
		a := newAnnouncer(first, func(ctx context.Context, backend string) (open, unnamed []string, err error) {
			switch {
			case backend == "gone":
				return nil, nil, report.New(report.ReasonUpstreamUnreachable, "it was removed")
			case backend == "listless":
				return nil, nil, status.Error(codes.Internal, "no list")
			case backend == "away" && !here:
				<-ctx.Done()
				return nil, nil, status.FromContextError(ctx.Err()).Err()
			}
			return []string{backend + ".Service"}, nil, nil
		}, log)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.run(ctx)
		}()
		want := func(step string, lines ...string) {
			t.Helper()
			synctest.Wait()
			text := out.take()
			for _, line := range lines {
				if strings.Count(text, line) != 1 {
					t.Errorf("%s: want the line once: %s", step, line)
				}
			}
			if got := strings.Count(text, "\n"); got != len(lines) {
				t.Errorf("%s: %d lines, want %d:\n%s", step, got, len(lines), text)
			}
		}
		want(
			"at the start",
			"msg=backend backend=default address=users:9000 tls=false",
			"msg=backend backend=away address=away:9000 tls=false",
			"msg=backend backend=gone address=gone:9000 tls=false",
			`msg="services that clients can call" backend=default services=default.Service count=1`,
		)
		time.Sleep(firstAnswer + pause)
		want("after a while", "level=WARN msg=\"the backend doesn't answer yet: calls end UNAVAILABLE until it does\" backend=away address=away:9000")
		here = true
		commit, _, err := a.change(first, second)
		if err != nil {
			t.Fatal(err)
		}
		commit()
		want(
			"after a reload",
			"msg=backend backend=new address=new:9000 tls=false",
			"msg=backend backend=away address=here:9000 tls=false",
			"msg=backend backend=listless address=listless:9000 tls=false",
			`msg="services that clients can call" backend=new services=new.Service count=1`,
			`msg="services that clients can call" backend=away services=away.Service count=1`,
			"level=WARN msg=\"the backend doesn't list its services: clients can call them\" backend=listless",
		)
		cancel()
		<-done
		want("at the end")
	})
}

// A lockedBuffer may be read while others write.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// take returns what was written since the last take.
func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.text.Reset()
	return b.text.String()
}
