package logs

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// patience is how long the end waits for a reader.
const patience = time.Second

func testNotice(dropped int, cause error) []byte {
	return fmt.Appendf(nil, "dropped %d %v\n", dropped, cause)
}

func TestLinesOfCallsWaitForOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out writes
		q := newQueue(&out, testNotice)
		put := func(s string, to io.Writer) {
			t.Helper()
			if n, err := to.Write([]byte(s)); n != len(s) || err != nil {
				t.Fatalf("Write returned %d and %v, want %d and nil", n, err, len(s))
			}
			synctest.Wait()
		}
		put("call 1\n", q.calls())
		put("call 2\n", q.calls())
		<-time.After(maxDelay - time.Nanosecond)
		synctest.Wait()
		out.want(t)
		<-time.After(time.Nanosecond)
		synctest.Wait()
		out.want(t, "call 1\ncall 2\n")

		put("call 3\n", q.calls())
		put("draining\n", q)
		out.want(t, "call 1\ncall 2\n", "call 3\ndraining\n")

		long := strings.Repeat("x", maxHeld) + "\n"
		put(long, q.calls())
		out.want(t, "call 1\ncall 2\n", "call 3\ndraining\n", long)

		put("call 4\n", q.calls())
		q.close(patience)
		out.want(t, "call 1\ncall 2\n", "call 3\ndraining\n", long, "call 4\n")
	})
}

// While the log isn't read, lines are kept up to the bound and in their order;
// the count of the others stands where they are missing.
func TestDroppedLinesAreCountedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := writes{read: make(chan struct{})}
		q := newQueue(&out, testNotice)
		_, _ = q.Write([]byte("first\n")) // is being written from here on
		synctest.Wait()
		line := strings.Repeat("x", 1<<20-1) + "\n"
		fits := 0
		for range 6 {
			_, _ = q.Write([]byte(line))
			fits = len(q.held) / len(line)
		}
		if want := (maxQueued - len("first\n")) / len(line); fits != want {
			t.Errorf("%d lines are held, want %d", fits, want)
		}
		close(out.read)
		synctest.Wait()
		_, _ = q.Write([]byte("last\n"))
		q.close(patience)
		if got, want := q.droppedInAll(), int64(6-fits); got != want {
			t.Errorf("%d lines were dropped in all, want %d", got, want)
		}
		kept := strings.Repeat(line, fits)
		out.want(t, "first\n", kept+testLine(6-fits, nil), "last\n")
	})
}

func testLine(dropped int, cause error) string { return string(testNotice(dropped, cause)) }

// A log that can't be written keeps the count until it can.
func TestFailedWritesAreCountedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out writes
		q := newQueue(&out, testNotice)
		put := func(s string) {
			_, _ = q.Write([]byte(s))
			synctest.Wait()
		}
		out.fail(syscall.EPIPE)
		put("a\nb\n")
		put("c\n")
		out.fail(nil)
		put("d\n")
		put("e\n")
		q.close(patience)
		if got := q.droppedInAll(); got != 3 {
			t.Errorf("%d lines were dropped in all, want 3: a line that couldn't be written counts once", got)
		}
		out.want(t, "d\n"+testLine(3, syscall.EPIPE), "e\n")
	})
}

// The end doesn't wait for a reader for longer than its patience.
func TestCloseWaitsForTheLogForItsPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := writes{read: make(chan struct{})}
		q := newQueue(&out, testNotice)
		_, _ = q.Write([]byte("line\n"))
		began := time.Now()
		q.close(patience)
		if took := time.Since(began); took != patience {
			t.Errorf("close took %v, want %v", took, patience)
		}
		close(out.read) // lets the goroutine end
	})
}

// writes keeps each write apart.
type writes struct {
	read chan struct{} // closed when the log is read; nil: it always is

	mu  sync.Mutex
	all []string
	err error
}

func (w *writes) Write(p []byte) (int, error) {
	if w.read != nil {
		<-w.read
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	w.all = append(w.all, string(p))
	return len(p), nil
}

func (w *writes) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

func (w *writes) want(t *testing.T, want ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := strings.Join(w.all, "|"); got != strings.Join(want, "|") {
		t.Errorf("the writes were %.200q, want %.200q", w.all, want)
	}
}
