package check

import (
	"context"
	"sync"
)

// flights are the questions that callers with the same key share.
type flights struct {
	mu     sync.Mutex
	byKey  map[key]*flight
	closed bool
	wg     sync.WaitGroup // the goroutines of all questions
}

// A flight is one question. Its goroutine writes v, then closes done.
type flight struct {
	done    chan struct{}
	v       verdict
	callers int // guarded by flights.mu; the last one that goes ends the question
	cancel  context.CancelCauseFunc
}

// find returns the flight for a key, for one more caller, or nil.
func (fs *flights) find(k key) *flight {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.byKey[k]
	if f != nil {
		f.callers++
	}
	return f
}

// join returns the flight for a key, and whether the caller shares another's. A new one runs
// ask with a context of its own: no caller's end ends the question for the others. It returns
// nil after close.
func (fs *flights) join(k key, ask func(context.Context) verdict) (f *flight, shared bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed {
		return nil, false
	}
	if f, ok := fs.byKey[k]; ok {
		f.callers++
		return f, true
	}
	// The question's life is the callers', which leave tells it the end of, and not that
	// of the first caller's call.
	ctx, cancel := context.WithCancelCause(context.Background())
	f = &flight{done: make(chan struct{}), callers: 1, cancel: cancel}
	fs.byKey[k] = f
	fs.wg.Go(func() { fs.fly(ctx, k, f, ask) })
	return f, false
}

// fly asks, and tells the callers.
func (fs *flights) fly(ctx context.Context, k key, f *flight, ask func(context.Context) verdict) {
	f.v = ask(ctx)
	f.cancel(errAnswered)
	fs.mu.Lock()
	fs.forget(k, f)
	fs.mu.Unlock()
	close(f.done)
}

// leave is called once by each caller that joined.
func (fs *flights) leave(k key, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.callers--; f.callers == 0 {
		fs.forget(k, f) // nobody may join what ends now
		f.cancel(errNobodyWaits)
	}
}

// forget takes a flight out of the table, unless another has its place.
func (fs *flights) forget(k key, f *flight) {
	if fs.byKey[k] == f {
		delete(fs.byKey, k)
	}
}

// close begins no more questions, and waits for the goroutines of those that run. The Checker
// ends them.
func (fs *flights) close() {
	fs.mu.Lock()
	fs.closed = true
	fs.mu.Unlock()
	fs.wg.Wait()
}
