// Package tasks has goroutines that outlive what starts them, and waits for them at the end.
package tasks

import (
	"errors"
	"sync"
)

// A Group are goroutines that may start until Stop, which waits for them.
type Group struct {
	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup
}

// ErrParked is why a task's work has ended its goroutine: there is nothing to do for now, and
// more may come later.
var ErrParked = errors.New("there is nothing to do for now")

// Start runs the function on a goroutine of its own, or returns false.
func (g *Group) Start(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return false
	}
	g.running.Go(f)
	return true
}

// Stay adds a task that has no goroutine at times, and ends with Leave. It is called by a task
// of the group.
func (g *Group) Stay() { g.running.Add(1) }

// Leave ends what Stay began.
func (g *Group) Leave() { g.running.Done() }

// Stop lets no more tasks begin, and waits for those that run.
func (g *Group) Stop() {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	g.running.Wait()
}
