package files

import (
	"errors"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// TestUnrestEnds: files that are never quiet are read in the end.
func TestUnrestEnds(t *testing.T) {
	w := NewWatch(time.Second, 3*time.Second)
	defer w.Close()
	begin := time.Now().Add(-2 * time.Second)
	w.unrest(begin)
	w.unrest(begin.Add(4 * time.Second))
	<-w.timer.C // at once, and not in a second
	w.rested()
	if !w.since.IsZero() {
		t.Error("unrest lasts")
	}
}

// TestTheKernelNeverWaits: while culvert reads a file or asks for a watch, events and
// errors don't pile up. fsnotify may hold the lock of its watches until an error is taken.
func TestTheKernelNeverWaits(t *testing.T) {
	w := NewWatch(time.Second, time.Second)
	w.kernel = &fsnotify.Watcher{Events: make(chan fsnotify.Event), Errors: make(chan error)}
	w.names.Store(&map[string]bool{"/a": true})
	w.receiving.Go(w.receive)
	for range 100 {
		w.kernel.Events <- fsnotify.Event{Name: "/b"}
	}
	if len(w.changed) > 0 {
		t.Error("another file disturbs")
	}
	for range 100 {
		w.kernel.Events <- fsnotify.Event{Name: "//a"}
		w.kernel.Errors <- errors.New("no watch")
	}
	close(w.kernel.Events)
	w.receiving.Wait()
	if err := <-w.changed; err != nil || len(w.changed) > 0 {
		t.Errorf("culvert hears %v, and more: %d; want one change", err, len(w.changed))
	}
}

// TestWatchWithoutTheKernelIsSilent: Open has returned the error.
func TestWatchWithoutTheKernelIsSilent(t *testing.T) {
	w := &Watch{}
	if w.changed != nil || w.Set([]string{"/etc/proxy.yaml"}) != nil {
		t.Error("a watch that the kernel refused isn't silent")
	}
}
