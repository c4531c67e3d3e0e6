package report

import "time"

// A Trace is the place of a call in a distributed trace. An Observer that traces sets it in
// CallBegan, and nothing changes it afterwards. Its methods may be called on nil, which has
// no effect, and concurrently.
type Trace struct {
	ID      [16]byte // of the trace, never all zeros
	Span    [8]byte  // of the call's own span, never all zeros
	Sampled bool     // the call's span is exported, whatever becomes of the call

	// Steps is told what happens to the call on its way, until Ended. If nil, nobody is.
	Steps StepObserver
}

// A StepObserver is told of a call's steps, concurrently. It must return quickly, and must
// not call the bridge.
type StepObserver interface{ Step(s Step) }

// A Step is something that delayed a call.
type Step struct {
	What  What
	Began time.Time
	Took  time.Duration // zero: it has no length
}

// A What is what a step was.
type What string

// The steps.
const (
	Called         What = "call"   // the call to the backend begins: the bridge has refused nothing, and the backend can be asked
	Retried        What = "retry"  // the call was sent again, by a route's policy or to another address
	WaitedForPlace What = "place"  // on a connection to the backend, or for the connection
	WaitedForRoom  What = "memory" // for a message, or for the call itself
)

// Wants reports whether somebody is told of steps.
func (t *Trace) Wants() bool { return t != nil && t.Steps != nil }

// Note tells of a step that happens now.
func (t *Trace) Note(what What) {
	if t.Wants() {
		t.Steps.Step(Step{What: what, Began: time.Now()})
	}
}

// Waited tells of a wait that ends now.
func (t *Trace) Waited(what What, since time.Time) {
	if t.Wants() {
		t.Steps.Step(Step{What: what, Began: since, Took: time.Since(since)})
	}
}
