package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/descriptor"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A DescriptorSource has the descriptors of a backend's methods. It is asked for each
// call that needs them, so that a file can change while the upstream stays.
type DescriptorSource interface{ Descriptors() *descriptor.Set }

// Described returns what the backend's descriptors say of a method. If the Backend has no
// Descriptors, culvert asks the backend by server reflection, at the first need and again
// after a new connection, behind which there may be another program. Described waits for
// the answer until ctx ends; calls that wait share it.
//
// The error is the cause of ctx, ErrNoReflection, a *report.Fault if the backend can't be
// asked, or why the answer can't be used. It wraps descriptor.ErrUnknown if there is
// no such method.
func (u *Upstream) Described(ctx context.Context, path string) (descriptor.Method, error) {
	if u.source != nil {
		return u.source.Descriptors().Method(path)
	}
	return u.learned.method(ctx, path)
}

// Knows reports whether the descriptors that are known already have a method. certain
// reports whether others could not have it. If they could, Knows has the backend asked,
// but doesn't wait for the answer.
func (u *Upstream) Knows(path string) (known, certain bool) {
	if u.source != nil {
		_, err := u.source.Descriptors().Method(path)
		return err == nil, true
	}
	return u.learned.knows(path)
}

// The bounds of what culvert keeps of a backend's answers. Only services that the backend
// lists are asked for, so names that a client invents cost nothing.
const (
	askPatience    = 5 * time.Second // for the answer to one question
	askAgain       = 5 * time.Second // after a failure, or for a name that wasn't there
	maxServices    = 10_000
	maxLearnedSize = 16 << 20 // bytes of all descriptors
)

// learned is what a backend has said by server reflection: the names of its services, and
// the descriptors of those that were needed. One goroutine at a time asks the backend. It
// ends with close, which waits for it.
type learned struct {
	u      *Upstream
	log    *slog.Logger
	ctx    context.Context // ended by close
	cancel context.CancelFunc
	asking sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	question *question       // under way; nil: none
	listing  attempt         // of names
	names    map[string]bool // of services; nil: never known
	services map[string]*service
	size     int  // of all their descriptors
	warned   bool // that old descriptors are in use, since the last success
}

// A service is one whose descriptors were asked for.
type service struct {
	attempt
	set *descriptor.Set // the last that came; nil: none
}

// A question asks the backend for a service.
type question struct {
	service string
	done    chan struct{} // closed when the answer is noted
}

// An attempt says when the backend was asked last, and how that ended.
type attempt struct {
	at    time.Time // zero: never
	conns int64     // connections that had become ready before
	err   error
}

// current reports whether it is too early to ask again: no connection has become ready
// since and, if the attempt was in vain, it isn't long ago.
func (a attempt) current(conns int64, vain bool) bool {
	return !a.at.IsZero() && a.conns == conns && (!vain || time.Since(a.at) < askAgain)
}

// failed reports whether the attempt was in vain, and no connection has become ready since.
func (a attempt) failed(conns int64) bool { return a.err != nil && a.conns == conns }

func newLearned(u *Upstream, log *slog.Logger) *learned {
	l := &learned{u: u, log: log, services: make(map[string]*service)}
	l.ctx, l.cancel = context.WithCancel(context.Background()) // ended by close
	return l
}

// close ends the question under way. Upstream.Close waits for it.
func (l *learned) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.cancel()
}

var errUpstreamClosed = report.New(report.ReasonUpstreamUnreachable, "the backend is no longer in use")

// method implements Described.
func (l *learned) method(ctx context.Context, path string) (descriptor.Method, error) {
	name := serviceOf(path)
	for asked := false; ; {
		l.mu.Lock()
		m, settled, err := l.find(name, path)
		if settled || asked {
			l.mu.Unlock()
			return m, err
		}
		q := l.ask(name)
		failing := err == nil && (l.listing.failed(l.u.pool.readied.Load()) || l.services[name].failed(l.u.pool.readied.Load()))
		l.mu.Unlock()
		switch {
		case q == nil:
			return m, errUpstreamClosed
		case failing: // the descriptors from before stay, and nobody waits again and again
			return m, nil
		}
		select {
		case <-q.done:
			asked = q.service == name
		case <-ctx.Done():
			return m, context.Cause(ctx)
		}
	}
}

func serviceOf(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return name
}

// find returns the method by what is known. settled reports whether there is no use in
// asking the backend. mu is held.
func (l *learned) find(name, path string) (m descriptor.Method, settled bool, err error) {
	conns := l.u.pool.readied.Load()
	s, listed := l.services[name], l.names[name]
	settled = l.listing.current(conns, l.listing.err != nil || !listed)
	switch {
	case !listed && l.names != nil:
		return m, settled, fmt.Errorf("the service %s: %w", name, descriptor.ErrUnknown)
	case l.listing.err != nil && (s == nil || s.set == nil):
		return m, settled, l.listing.err
	case s == nil:
		return m, false, errUpstreamClosed
	}
	fresh := l.listing.err != nil || s.current(conns, s.err != nil)
	if s.set == nil {
		return m, settled && fresh, s.err
	}
	m, err = s.set.Method(path)
	if err != nil && l.listing.err == nil {
		fresh = s.current(conns, true)
	}
	return m, settled && fresh, err
}

// knows implements Knows.
func (l *learned) knows(path string) (known, certain bool) {
	name := serviceOf(path)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, settled, _ := l.find(name, path); !settled {
		l.ask(name)
	}
	conns := l.u.pool.readied.Load()
	s := l.services[name]
	if s != nil && s.set != nil {
		if _, err := s.set.Method(path); err == nil {
			return true, true
		}
		return false, s.err == nil && s.current(conns, false)
	}
	return false, l.listing.err == nil && l.listing.current(conns, false) && !l.names[name]
}

// ask begins a question for the service, unless there is one under way, and returns it. It
// returns nil if the upstream is closed. mu is held.
//
//nolint:contextcheck // calls share a question, which may outlive each of them
func (l *learned) ask(name string) *question {
	if l.question != nil || l.closed {
		return l.question
	}
	q := &question{service: name, done: make(chan struct{})}
	l.question = q
	conns := l.u.pool.readied.Load()
	list := !l.names[name] || l.listing.err != nil || !l.listing.current(conns, false)
	l.asking.Go(func() { l.run(q, list) })
	return q
}

// run asks a question, and notes the answer.
func (l *learned) run(q *question, list bool) {
	ctx, cancel := context.WithTimeout(l.ctx, askPatience)
	defer cancel()
	// In this order: a connection that becomes ready between the two is one of conns.
	connected := l.u.pool.absent.Load() == 0
	conns := l.u.pool.readied.Load()
	var a fetched
	a.err = l.u.reflect(ctx, false, func(r *reflectionStream) (err error) {
		if !connected {
			conns = l.u.pool.readied.Load() // r's connection is one of them
		}
		names := l.known(list)
		if list {
			if names, err = r.services(); err != nil {
				return err
			}
			a.names = names
		}
		if names[q.service] {
			a.set, err = descriptor.Fetch(ctx, r, q.service)
		}
		return err
	})
	a.err = whyUnasked(a.err)
	l.mu.Lock()
	outdated := l.note(q.service, list, a, attempt{time.Now(), conns, a.err})
	l.question = nil
	l.mu.Unlock()
	close(q.done)
	if outdated {
		l.log.Warn("the backend's descriptors can't be fetched again: messages are converted by those from before", slog.Any("error", a.err))
	}
}

// whyUnasked returns a *report.Fault if the backend didn't answer a question to its end.
func whyUnasked(err error) error {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return report.New(report.ReasonUpstreamUnreachable, "the backend doesn't say which messages its methods have").Because(err)
	default:
		return err
	}
}

// known returns the names, unless they are asked for.
func (l *learned) known(list bool) map[string]bool {
	if list {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.names // it never changes: an answer has another one
}

// A fetched is what the backend said.
type fetched struct {
	names map[string]bool // nil: not asked, or no answer
	set   *descriptor.Set // likewise, or the backend doesn't list the service
	err   error
}

// note notes an answer. It reports whether descriptors stay in use that may be outdated,
// the first time after a success. mu is held.
func (l *learned) note(name string, list bool, a fetched, of attempt) (outdated bool) {
	if list {
		l.listing = of
		if a.names == nil {
			return l.warn(l.names != nil)
		}
		l.listing.err = nil
		l.names = a.names
		for name, s := range l.services {
			if !a.names[name] {
				l.size -= s.set.Size()
				delete(l.services, name)
			}
		}
	}
	if !l.names[name] {
		return false
	}
	s := l.services[name]
	if s == nil {
		s = new(service)
		l.services[name] = s
	}
	if size := l.size - s.set.Size() + a.set.Size(); a.err == nil && size > maxLearnedSize {
		of.err = errTooLarge
	} else if a.err == nil {
		s.set, l.size, l.warned = a.set, size, false
	}
	s.attempt = of
	return of.err != nil && l.warn(s.set != nil)
}

var errTooLarge = fmt.Errorf("server reflection: the descriptors of the services have more than %d MiB", maxLearnedSize>>20)

// warn reports whether the log must say that old descriptors stay in use. mu is held.
func (l *learned) warn(old bool) bool {
	if !old || l.warned {
		return false
	}
	l.warned = true
	return true
}
