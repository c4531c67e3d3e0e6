package bridge

import (
	"regexp"
	"runtime"
	"sync"
	"testing"
)

// Probe hangs for as long as one of the locks is held.
func TestProbeNoticesALockThatIsHeld(t *testing.T) {
	s, err := New(Config{Backend: Backend{Target: "passthrough:///127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }() // nothing was served
	s.Probe()
	for name, lock := range map[string]*sync.Mutex{
		"calls": &s.registry.mu, "memory": s.budget.Mutex(), "refusals": s.refusals.Mutex(), "descriptors": s.edge.Mutex(), "addresses": s.quotas.Locks()[17],
	} {
		lock.Lock()
		done := make(chan struct{})
		go func() {
			s.Probe()
			close(done)
		}()
		for waiting := false; !waiting; runtime.Gosched() {
			select {
			case <-done:
				lock.Unlock()
				t.Fatalf("the lock of %s is held, and Probe has returned", name)
			default:
				waiting = waitsForALock.Match(stacks())
			}
		}
		lock.Unlock()
		<-done
	}
}

// waitsForALock matches the stack of a goroutine that waits for a lock in Probe.
var waitsForALock = regexp.MustCompile(`(?m)^goroutine .*\[sync\.Mutex\.Lock.*\]:\n(?:.+\n)*.*\.Probe\(`)

func stacks() []byte {
	buf := make([]byte, 1<<20)
	return buf[:runtime.Stack(buf, true)]
}
