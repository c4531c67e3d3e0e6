package call

import (
	"sync"
	"time"
)

// quietTime is how long a caller says nothing before it says what it waits for.
const quietTime = 10 * time.Second

// A watch says what a call waits for when nothing has come for a while. Its timer ends with end.
type watch struct {
	c *caller

	mu      sync.Mutex
	timer   *time.Timer
	since   time.Time
	waiting string // for what
	quiet   bool   // streams may be quiet: it is said with -v only
	said    bool   // without a terminal it is said once
	ended   bool
}

// newWatch returns a watch of a call that connects.
func newWatch(c *caller) *watch {
	w := &watch{c: c, since: time.Now(), waiting: "a connection to " + c.target.Address()}
	w.mu.Lock() // speak may run before timer is set
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(quietTime, w.speak)
	return w
}

// wait says what the call waits for from now on.
func (w *watch) wait(what string, quiet bool) {
	w.mu.Lock()
	w.waiting, w.quiet = what, quiet
	w.mu.Unlock()
	w.heard()
}

// heard notes that something has happened.
func (w *watch) heard() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Now()
	if !w.ended {
		w.timer.Reset(quietTime)
	}
}

func (w *watch) speak() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	passed := time.Since(w.since).Round(time.Second)
	switch c := w.c; {
	case c.trace != nil:
		c.trace.say(note, "%s without a word: waiting for %s", passed, w.waiting)
	case !w.quiet && (c.cfg.StderrIsTerminal || !w.said):
		w.said = true
		c.out.note("waiting for %s for %s (Ctrl-C ends the call)", w.waiting, passed)
	}
	w.timer.Reset(quietTime)
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.timer.Stop()
}
