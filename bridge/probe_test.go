package bridge

import (
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
		"calls": &s.registry.mu, "memory": &s.budget.mu, "refusals": &s.refusals.mu, "descriptors": &s.files.mu, "addresses": &s.quotas.addresses.shards[17].mu,
	} {
		lock.Lock()
		done := make(chan struct{})
		go func() {
			s.Probe()
			close(done)
		}()
		select {
		case <-done:
			t.Errorf("the lock of %s is held, and Probe has returned", name)
		default:
		}
		lock.Unlock()
		<-done
	}
}
