package bridge

import (
	"regexp"
	"runtime"
	"sync"
	"testing"

	"github.com/culvert-grpc/culvert/internal/parts"
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
		"calls": &s.registry.mu, "memory": s.account.Mutex(), "refusals": s.refusals.Mutex(), "descriptors": s.edge.Mutex(), "addresses": s.quotas.Locks()[17],
		"decompressed bytes": s.policy.Load().quotas.Mutex(),
	} {
		lock.Lock()
		done := make(chan struct{})
		go func() {
			s.Probe()
			close(done)
		}()
		problem := parts.PollFor(patience, func() string {
			if waitsForALock.Match(stacks()) {
				return ""
			}
			return "Probe doesn't wait"
		})
		lock.Unlock()
		<-done
		if problem != "" {
			t.Errorf("the lock of %s is held: %s", name, problem)
		}
	}
}

// waitsForALock matches the stack of a goroutine that waits for a lock in Probe.
var waitsForALock = regexp.MustCompile(`(?m)^goroutine .*\[sync\.Mutex\.Lock.*\]:\n(?:.+\n)*.*\.Probe\(`)

func stacks() []byte {
	buf := make([]byte, 1<<20)
	return buf[:runtime.Stack(buf, true)]
}
