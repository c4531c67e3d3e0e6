// Package tasks has goroutines that outlive what starts them, and waits for them at the end.
package tasks

import "sync"

// A Group are goroutines that may start until Stop, which waits for them.
type Group struct {
	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup
}

// Start runs the function on a goroutine of its own, or returns false.
func (g *Group) Start(f func()) bool {
	if !g.Enter() {
		return false
	}
	go func() {
		defer g.Leave()
		f()
	}()
	return true
}

// Enter begins a task that has no goroutine at times, and ends with Leave. It returns false
// after Stop.
func (g *Group) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return false
	}
	g.running.Add(1)
	return true
}

// Leave ends what Enter began.
func (g *Group) Leave() { g.running.Done() }

// Stop lets no more tasks begin, and waits for those that run.
func (g *Group) Stop() {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	g.running.Wait()
}
