package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/descriptor"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// Described returns a method by the backend's descriptors. If the Backend has no
// Descriptors, culvert asks the backend by server reflection, at the first need and again
// after a new connection, behind which there may be another program. Described waits for
// the answer until ctx ends; calls that wait share it.
//
// The error is the cause of ctx, ErrNoReflection, a *report.Fault if the backend can't be
// asked, or why the answer can't be used. It wraps descriptor.ErrUnknown if there is
// no such method.
func (u *Upstream) Described(ctx context.Context, path string) (descriptor.Method, error) {
	if u.source != nil {
		return u.described().Method(path)
	}
	return u.learned.method(ctx, path)
}

// described returns the descriptors of the backend's source.
func (u *Upstream) described() *descriptor.Set {
	set, ok := u.source.Descriptors().(*descriptor.Set)
	if !ok {
		return new(descriptor.Set) // of no method
	}
	return set
}

// Knows reports whether the descriptors that are known already have a method. certain
// reports whether others could not have it. If they could, Knows has the backend asked,
// but doesn't wait for the answer.
func (u *Upstream) Knows(path string) (known, certain bool) {
	if u.source != nil {
		_, err := u.described().Method(path)
		return err == nil, true
	}
	return u.learned.knows(path)
}

// Lacks returns the error of a method that a service doesn't have by the descriptors that
// are known already, or nil.
func (u *Upstream) Lacks(path string) (unknown *descriptor.UnknownMethodError) {
	var set *descriptor.Set
	if u.source != nil {
		set = u.described()
	} else {
		set = u.learned.setOf(path)
	}
	if set == nil {
		return nil
	}
	_, err := set.Method(path)
	unknown, _ = errors.AsType[*descriptor.UnknownMethodError](err)
	return unknown
}

// The bounds of a backend's answers that culvert keeps. Only services that the backend
// lists are asked for, so names that a client invents cost nothing.
const (
	askPatience    = 5 * time.Second // for the answer to one question
	askAgain       = 5 * time.Second // after a failure, or for a name that wasn't there
	maxAsked       = 10              // times a minute for the same, behind new connections
	maxServices    = 10_000
	maxLearnedSize = 192 << 20 // bytes that all descriptors take in memory
)

// learned has the answers of a backend's server reflection: the names of its services, and
// the descriptors of those that were needed. One goroutine at a time asks the backend. It
// ends with close, which waits for it.
type learned struct {
	u       *Upstream
	account *memory.Account
	log     *slog.Logger
	ctx     context.Context // ended by close
	cancel  context.CancelFunc
	asking  sync.WaitGroup
	reading *rate.Limiter // of bytes in memory that the answers become, see room

	mu       sync.Mutex
	closed   bool
	question *question       // under way; nil: none
	listing  attempt         // of names
	names    map[string]bool // of services; nil: never known
	services map[string]*service
	others   others
	size     int  // of all descriptors
	warned   bool // that old descriptors are in use, since the last success
}

// A service is one whose descriptors were asked for.
type service struct {
	attempt
	set  *descriptor.Set // the last that came; nil: none
	held *memory.Entry   // the memory of set; nil: none
}

// A question asks the backend for a service, or for a type or an extension.
type question struct {
	service string
	unknown descriptor.Unknown
	by      *memory.Address // that asks for unknown
	err     error           // what Learn returns, after done
	done    chan struct{}   // closed when the answer is noted
}

// An attempt says when the backend was asked last, and how that ended.
type attempt struct {
	at    time.Time // zero: never
	conns int64     // connections that had become ready before
	err   error

	since time.Time // a minute begins, in which the backend was asked behind n connections
	n     int
}

// current reports whether it is too early to ask again: no connection has become ready
// since and, if the attempt was in vain, it isn't long ago. A backend whose connections
// break all the time isn't asked all the time.
func (a attempt) current(conns int64, vain bool) bool {
	switch {
	case a.at.IsZero():
		return false
	case a.conns == conns:
		return !vain || time.Since(a.at) < askAgain
	default:
		return a.n >= maxAsked && time.Since(a.since) < time.Minute
	}
}

// after returns the attempt with the count of those before. One more behind the same
// connections doesn't count: askAgain bounds those, and the next connection is asked at once.
func (a attempt) after(before attempt) attempt {
	a.since, a.n = before.since, before.n
	if a.conns != before.conns {
		a.n++
	}
	if a.at.Sub(before.since) >= time.Minute {
		a.since, a.n = a.at, 1
	}
	return a
}

// failed reports whether the attempt was in vain, and no connection has become ready since.
func (a attempt) failed(conns int64) bool { return a.err != nil && a.conns == conns }

func newLearned(u *Upstream, account *memory.Account, log *slog.Logger) *learned {
	l := &learned{u: u, account: account, log: log, services: make(map[string]*service), reading: rate.NewLimiter(readingRate, readingBurst)}
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

// wait waits for the end of the question, and gives the memory back.
func (l *learned) wait() {
	l.asking.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.services {
		s.drop(l)
	}
	for _, s := range l.others.known {
		s.drop(l)
	}
}

// keep replaces the descriptors of a service. mu is held.
func (s *service) keep(l *learned, set *descriptor.Set, held *memory.Entry) {
	s.drop(l)
	s.set, s.held = set, held
	l.size += set.Size()
}

// drop gives the memory of a service's descriptors back. mu is held.
func (s *service) drop(l *learned) {
	l.size -= s.set.Size()
	if s.held != nil {
		s.held.Settle()
	}
	s.set, s.held = nil, nil
}

// The memory that a backend's answers may take over time. Reading 128 MiB takes a second of
// CPU, so this rate takes 6 % of one.
const (
	readingRate  = 8 << 20
	readingBurst = 512 << 20
	lookupBytes  = 16 // that a look-up of a name counts as
)

// room returns an entry for the descriptors of an answer, and the Reserve that counts them.
func (l *learned) room() (*memory.Entry, descriptor.Reserve) {
	held := l.account.NewEntry()
	return held, func(bytes, lookups int) error {
		switch {
		case !l.reading.AllowN(time.Now(), min(bytes+lookups*lookupBytes, readingBurst)):
			return errReading
		case !held.Keep(int64(bytes)):
			return report.OverLimit(report.KeyMemory, report.AnyMoment, "there is no room for the descriptors of the backend")
		default:
			return nil
		}
	}
}

var errReading = report.New(report.ReasonLimitExceeded, "the backend's descriptors are too large to read them again and again")

var errUpstreamClosed = report.New(report.ReasonUpstreamUnreachable, "the backend is no longer in use")

// method implements Described.
func (l *learned) method(ctx context.Context, path string) (descriptor.Method, error) {
	name := serviceOf(path)
	for asked := false; ; {
		m, q, failing, err := l.look(name, path, asked)
		switch {
		case q == nothingToAsk:
			return m, err
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

// nothingToAsk is the question of a call that has its answer.
var nothingToAsk = new(question)

// look returns the method by the descriptors so far, and the question whose answer may say
// more.
// failing reports whether the last answer didn't come.
//
//nolint:contextcheck // calls share a question, which may outlive each of them
func (l *learned) look(name, path string, asked bool) (m descriptor.Method, q *question, failing bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, settled, err := l.find(name, path)
	if settled || asked {
		return m, nothingToAsk, false, err
	}
	q = l.ask(name)
	failing = err == nil && (l.listing.failed(l.u.pool.readied.Load()) || l.services[name].failed(l.u.pool.readied.Load()))
	return m, q, failing, err
}

func serviceOf(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return name
}

// find returns the method by the descriptors so far. settled reports whether there is no use
// in asking the backend. mu is held.
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

// setOf returns the descriptors of a method's service that are known, or nil.
func (l *learned) setOf(path string) *descriptor.Set {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.services[serviceOf(path)]; s != nil {
		return s.set
	}
	return nil
}

// ask begins a question for the service, unless there is one under way, and returns it. It
// returns nil if the upstream is closed. mu is held.
//
//nolint:contextcheck // calls share a question, which may outlive each of them
func (l *learned) ask(name string) *question {
	if l.question != nil || l.closed {
		return l.question
	}
	conns := l.u.pool.readied.Load()
	list := !l.names[name] || l.listing.err != nil || !l.listing.current(conns, false)
	return l.begin(&question{service: name}, list)
}

// begin begins a question. mu is held.
//
//nolint:contextcheck // calls share a question, which may outlive each of them
func (l *learned) begin(q *question, list bool) *question {
	q.done = make(chan struct{})
	l.question = q
	l.asking.Go(func() { l.run(q, list) })
	return q
}

// run asks a question, and notes the answer.
func (l *learned) run(q *question, list bool) {
	defer l.u.pool.panics.Catch("a backend's descriptors", nil)
	a, of := l.fetch(q, list)
	if l.answer(q, list, a, of) {
		l.log.Warn("the backend's descriptors can't be fetched again: messages are converted by those from before", slog.Any("error", a.err))
	}
	if f, ok := errors.AsType[*report.Fault](q.err); ok && f.Reason == report.ReasonDescriptorMismatch {
		l.log.Warn("descriptors of a type that messages use can't be used", slog.String("detail", q.unknown.String()), slog.Any("error", a.err))
	}
}

// fetch asks the backend. A panic is an answer that came to nothing.
func (l *learned) fetch(q *question, list bool) (a fetched, of attempt) {
	ctx, cancel := context.WithTimeout(l.ctx, askPatience)
	defer cancel()
	// In this order: a connection that becomes ready between the two is one of conns.
	connected := l.u.pool.absent.Load() == 0
	conns := l.u.pool.readied.Load()
	var reserve descriptor.Reserve
	a.held, reserve = l.room()
	defer func() { of = attempt{at: time.Now(), conns: conns, err: a.err} }()
	defer l.u.pool.panics.Catch("a backend's descriptors", func(f *report.Fault) { a.set, a.err = nil, f })
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
		switch {
		case q.service == "":
			a.set, err = descriptor.FetchUnknown(ctx, r, reserve, q.unknown)
		case names[q.service]:
			a.set, err = descriptor.Fetch(ctx, r, reserve, q.service)
		}
		return err
	})
	a.err = whyUnasked(a.err)
	return a, of
}

// answer notes the answer to a question, and reports what note does.
func (l *learned) answer(q *question, list bool, a fetched, of attempt) (outdated bool) {
	defer close(q.done)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.question = nil
	if q.service == "" {
		q.err = l.noteOther(q.unknown, q.by, a, of)
		return false
	}
	return l.note(q.service, list, a, of)
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

// A fetched is an answer of the backend.
type fetched struct {
	names map[string]bool // nil: not asked, or no answer
	set   *descriptor.Set // nil: not asked, no answer, or the backend doesn't list the service
	held  *memory.Entry   // the memory of set. It is kept or settled
	err   error
}

// note notes an answer. It reports whether descriptors stay in use that may be outdated,
// the first time after a success. mu is held.
func (l *learned) note(name string, list bool, a fetched, of attempt) (outdated bool) {
	if a.set == nil {
		a.held.Settle()
	}
	if list {
		l.listing = of.after(l.listing)
		if a.names == nil {
			return l.warn(l.names != nil)
		}
		l.listing.err = nil
		l.names = a.names
		l.others.renew(of.conns)
		for name, s := range l.services {
			if !a.names[name] {
				s.drop(l)
				delete(l.services, name)
			}
		}
	}
	if !l.names[name] {
		a.held.Settle() // empty: the service wasn't asked for
		return false
	}
	s := l.services[name]
	if s == nil {
		s = new(service)
		l.services[name] = s
	}
	if a.err == nil && l.size-s.set.Size()+a.set.Size() > maxLearnedSize {
		of.err = errTooLarge
		a.held.Settle()
	} else if a.err == nil {
		a.set.With(&l.others.sets)
		s.keep(l, a.set, a.held)
		l.warned = false
	}
	s.attempt = of.after(s.attempt)
	return of.err != nil && l.warn(s.set != nil)
}

var errTooLarge = fmt.Errorf("server reflection: the descriptors of the services take more than %d MiB of memory", maxLearnedSize>>20)

// warn reports whether the log must say that old descriptors stay in use. mu is held.
func (l *learned) warn(old bool) bool {
	if !old || l.warned {
		return false
	}
	l.warned = true
	return true
}
