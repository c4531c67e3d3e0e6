package memory

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A diary has the steps that it was told of.
type diary struct {
	mu    sync.Mutex
	steps []report.Step
}

func (d *diary) Step(s report.Step) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps = append(d.steps, s)
}

// TestWaitsAreToldOf: the trace is told of a message's wait, and of the wait of the call itself,
// which came before the trace. A reservation that finds room at once is no wait.
func TestWaitsAreToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(400, 1000) // 250 are for messages
		a.setSharers(2)
		var much, little Address
		d := &diary{}
		trace := &report.Trace{Steps: d}
		crowd := entryOf(a, &much)
		if !crowd.Begin(t.Context(), 750) {
			t.Fatal("the first call found no room")
		}
		crowd.Follow(trace)
		if len(d.steps) != 0 {
			t.Errorf("of a call that didn't wait, it was told %v", d.steps)
		}
		wait := func(newcomer *Entry, step func() bool) {
			t.Helper()
			d.steps = nil
			began, ended := time.Now(), make(chan bool)
			go func() { ended <- step() }()
			time.Sleep(time.Second)
			crowd.Settle()
			if !<-ended {
				t.Fatal("there was no room")
			}
			newcomer.Follow(trace)
			if want := (report.Step{What: report.WaitedForRoom, Began: began, Took: time.Second}); len(d.steps) != 1 || d.steps[0] != want {
				t.Errorf("it was told %v, want %v", d.steps, want)
			}
		}
		newcomer := entryOf(a, &little)
		wait(newcomer, func() bool { return newcomer.Begin(t.Context(), 100) })
		newcomer.Settle()

		crowd = entryOf(a, &much)
		if err := crowd.reserve(t.Context(), Request, 100); err != nil {
			t.Fatal(err)
		}
		for crowd.account.fits(Request, 200) {
			if err := crowd.reserve(t.Context(), Request, 10); err != nil {
				t.Fatal(err)
			}
		}
		reader := entryOf(a, &little)
		reader.Follow(trace)
		wait(&Entry{account: a}, func() bool { return reader.reserve(t.Context(), Request, 200) == nil })
		reader.Settle()
	})
}
