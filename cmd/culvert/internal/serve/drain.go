package serve

import (
	"context"
	"os"
	"syscall"
	"time"
)

// echoTime is the time in which the signal that began the drain may come again
// without ending culvert: timeout(1) and terminals signal the process and its
// group.
const echoTime = time.Second

// exitTime is the part of drain_timeout that is left when the bridge has ended, or less.
// culvert then waits for clients that watch its health, for files, and for the log: up to
// minPatience for each, if it doesn't respond.
const (
	exitTime    = 3 * minPatience
	minPatience = 100 * time.Millisecond
)

// patienceUntil returns how long to wait for something that may never happen: at most
// longest, and no longer than until end, if it isn't zero, with what is left for others. It
// is at least minPatience.
func patienceUntil(end time.Time, longest, others time.Duration) time.Duration {
	if end.IsZero() {
		return longest
	}
	return max(min(longest, time.Until(end)-others), minPatience).Round(time.Millisecond)
}

// drain lets running calls end. A second signal cuts them without goodbyes.
func (p *program) drain(ctx context.Context, first os.Signal) error {
	p.health.SetReady(false)
	p.ports.leave()
	notify(ctx, p.log.Logger, "STOPPING=1")
	timeout := p.reloads.current().DrainTimeout
	p.log.Info("draining: culvert asks clients to connect elsewhere", "signal", first.String(), "drain_timeout", timeout.String())
	began := time.Now()
	rest := exitTime
	if p.exports.any() {
		rest += flushPatience
	}
	limit, cancel := context.WithDeadline(ctx, began.Add(timeout-min(rest, timeout/2)))
	defer cancel()
	p.ends = began.Add(timeout)
	done := make(chan error)
	go func() { done <- p.bridge.Shutdown(limit) }() // received below, or the process ends
	for {
		select {
		case err := <-done:
			p.log.Info("stopped")
			return err
		case s := <-p.Signals:
			if s == syscall.SIGHUP || s == first && time.Since(began) < echoTime {
				continue
			}
			p.logCut(s)
			p.closeLog(nil)
			p.Abort()
		}
	}
}

func (p *program) logCut(second os.Signal) {
	if n := p.bridge.RunningCalls(); n > 0 {
		p.log.Warn("stopped at once: culvert cut running calls", "signal", second.String(), "calls", n)
		return
	}
	p.log.Info("stopped at once", "signal", second.String())
}
