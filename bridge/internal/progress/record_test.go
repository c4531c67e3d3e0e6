package progress

import (
	"sync/atomic"
	"testing"
)

// TestTakenMovesOnWhatIsUnderWay, and nothing that began since.
func TestTakenMovesOnWhatIsUnderWay(t *testing.T) {
	p := &Record{Clock: new(atomic.Int64)}
	p.Clock.Store(1)
	p.BeginSend()
	began := p.Sending.Load()
	p.Clock.Add(5)
	p.Taken(began)
	if got, want := p.Sending.Load(), began+5; got != want {
		t.Errorf("the client took something: under way since %d, want %d", got, want)
	}
	p.Clock.Add(5)
	p.Taken(began)
	if got, want := p.Sending.Load(), began+5; got != want {
		t.Errorf("a write of before: under way since %d, want %d", got, want)
	}
	p.EndSend()
	p.Taken(began)
	if got := p.Sending.Load(); got != 0 {
		t.Errorf("nothing is under way, and it says since %d", got)
	}
}
