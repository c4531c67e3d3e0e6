package main

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLinesOfCallsWaitForOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out writes
		b := &batchingLog{w: &out}
		put := func(s string, calls bool) {
			t.Helper()
			to := b.calls()
			if !calls {
				to = b
			}
			if n, err := to.Write([]byte(s)); n != len(s) || err != nil {
				t.Fatalf("Write returned %d and %v, want %d and nil", n, err, len(s))
			}
		}
		put("call 1\n", true)
		put("call 2\n", true)
		<-time.After(maxLogDelay - time.Nanosecond)
		synctest.Wait()
		out.want(t)
		<-time.After(time.Nanosecond)
		synctest.Wait()
		out.want(t, "call 1\ncall 2\n")

		put("call 3\n", true)
		put("draining\n", false)
		out.want(t, "call 1\ncall 2\n", "call 3\n", "draining\n")

		long := strings.Repeat("x", maxHeldLog) + "\n"
		put(long, true)
		out.want(t, "call 1\ncall 2\n", "call 3\n", "draining\n", long)

		put("call 4\n", true)
		b.close()
		out.want(t, "call 1\ncall 2\n", "call 3\n", "draining\n", long, "call 4\n")
	})
}

// writes keeps each write apart.
type writes struct {
	mu  sync.Mutex
	all []string
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, string(p))
	return len(p), nil
}

func (w *writes) want(t *testing.T, want ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := strings.Join(w.all, "|"); got != strings.Join(want, "|") {
		t.Errorf("the writes were %.200q, want %.200q", w.all, want)
	}
}
