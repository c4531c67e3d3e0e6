package admin

import (
	"net/http"
	"sync"
	"time"
)

// A Drain takes culvert out of service in steps: readiness falls at once, new calls are
// refused after a delay, and running calls continue. It never goes back. Its functions
// must be set before its methods are called, which may be called concurrently.
type Drain struct {
	NotReady func()      // makes readiness fall; is called once
	Refuse   func()      // refuses new calls; is called once, and calls no method of Drain
	Refuses  func() bool // whether new calls are refused, for whatever reason
	Calls    func() int  // that run
	Gone     func() bool // whether no backend is left for new calls, so that a delay is for nothing

	mu    sync.Mutex
	at    time.Time     // when new calls are refused; zero: no drain has begun
	stop  chan struct{} // closed: the delay ends; nil: there is none
	ended bool          // Stop was called
	once  sync.Once
	tasks sync.WaitGroup
}

// A DrainState is how far a drain has come.
type DrainState struct {
	State     string  `json:"state"`                // serving; delayed: culvert isn't ready, but serves new calls; refusing: it refuses new calls
	RefusesIn float64 `json:"refuses_in,omitempty"` // seconds until new calls are refused, in the state delayed
	Calls     int     `json:"calls"`                // that run
}

// What DrainState.State may be.
const (
	DrainServing  = "serving"  // no drain has begun
	DrainDelayed  = "delayed"  // culvert isn't ready, and serves new calls
	DrainRefusing = "refusing" // culvert refuses new calls
)

// Begin begins the drain. If it has begun, a shorter delay replaces what is left of
// the earlier one, and a longer delay changes nothing. Without a delay, new calls are
// refused when Begin returns. A delay ends early if no backend is left.
func (d *Drain) Begin(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	begun := !d.at.IsZero()
	at := time.Now().Add(delay)
	if begun && !at.Before(d.at) {
		return
	}
	d.at = at
	if !begun {
		d.NotReady()
	}
	if delay <= 0 {
		d.once.Do(d.Refuse)
		return
	}
	if !begun {
		d.stop = make(chan struct{})
		d.tasks.Go(d.wait)
	}
}

// lookEvery is the interval in which a delay looks at the backends.
const lookEvery = 100 * time.Millisecond

// wait refuses new calls after the delay.
func (d *Drain) wait() {
	for left := d.left(); left > 0 && !d.Gone(); left = d.left() {
		select {
		case <-time.After(min(left, lookEvery)):
		case <-d.stop:
			return
		}
	}
	d.once.Do(d.Refuse)
}

func (d *Drain) left() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Until(d.at)
}

// Stop stops a delay and waits for Refuse. Begin does nothing after it.
func (d *Drain) Stop() {
	d.mu.Lock()
	if d.stop != nil && !d.ended {
		close(d.stop)
	}
	d.ended = true
	d.mu.Unlock()
	d.tasks.Wait()
}

// State returns how far the drain has come.
func (d *Drain) State() DrainState {
	s := DrainState{State: DrainServing, Calls: d.Calls()}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.Refuses():
		s.State = DrainRefusing
	case !d.at.IsZero():
		s.State, s.RefusesIn = DrainDelayed, max(time.Until(d.at), 0).Seconds()
	}
	return s
}

// maxDelay is far more than a load balancer takes to notice that culvert isn't ready.
const maxDelay = 24 * time.Hour

func (c *Control) showDrain(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, string(encode(c.Drain.State())))
}

func (c *Control) beginDrain(w http.ResponseWriter, r *http.Request) {
	delay := time.Duration(0)
	if text := r.URL.Query().Get("delay"); text != "" {
		var err error
		if delay, err = time.ParseDuration(text); err != nil || delay < 0 || delay > maxDelay {
			answer(w, http.StatusBadRequest, "culvert: the delay is no duration from 0s to 24h: write delay=5s\n")
			return
		}
	}
	c.Log.Info("drain requested: culvert isn't ready any more", "refuses_new_calls_after", delay.String())
	c.Drain.Begin(delay)
	c.showDrain(w, r)
}
