package reflection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// The bounds of a backend's answers that culvert keeps. Only services that the backend
// lists are asked for, so names that a client invents cost nothing.
const (
	askPatience = 5 * time.Second // for the answer to one question
	askAgain    = 5 * time.Second // after a failure, or for a name that wasn't there
	maxAsked    = 10              // times a minute for the same, behind new connections
	maxSize     = 192 << 20       // bytes that all descriptors take in memory
)

// A Book has the answers of a backend's server reflection: the names of its services, and
// the descriptors of those that were needed. One goroutine at a time asks the backend. It
// ends with Close.
type Book struct {
	backend Backend
	source  report.DescriptorSource // that has the descriptors; nil: the backend is asked
	limit   int                     // bytes of an answer
	account *memory.Account
	log     *slog.Logger
	panics  *report.Panics
	ctx     context.Context // ended by Close
	cancel  context.CancelFunc
	asking  sync.WaitGroup
	reading *rate.Limiter // of bytes in memory that the answers become, see room

	mu       sync.Mutex
	closed   bool
	question *question       // under way; nil: none
	listing  attempt         // of names
	names    map[string]bool // of services; nil: never known
	services map[string]*service
	named    namedTypes
	size     int  // of all descriptors
	warned   bool // that old descriptors are in use, since the last success
}

// A Backend opens the streams of server reflection.
type Backend interface {
	// Open opens a stream. If it doesn't wait for a connection when attempts fail, the error
	// is a *report.Fault then, as a call's.
	Open(ctx context.Context, path string, wait bool, opts ...grpc.CallOption) (grpc.ClientStream, error)
	// Readied returns how many connections have become ready so far.
	Readied() int64
	// Ready reports whether there is a connection.
	Ready() bool
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

// NewBook returns the Book of a backend, whose answers have at most limit bytes each. The
// descriptors count with the account. If there is a source, it has them, and Described, Knows,
// Lacks and Learn ask nobody. source and panics may be nil.
func NewBook(backend Backend, source report.DescriptorSource, limit int, account *memory.Account, log *slog.Logger, panics *report.Panics) *Book {
	b := &Book{
		backend: backend, source: source, limit: min(descriptor.MaxReflected, limit), account: account, log: log, panics: panics,
		services: make(map[string]*service), named: namedTypes{known: make(map[descriptor.Unknown]*namedType)},
		reading: rate.NewLimiter(readingRate, readingBurst),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background()) // ended by Close
	return b
}

// Close ends the question under way. wait waits for its end, and gives the memory back.
func (b *Book) Close() (wait func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.cancel()
	return b.wait
}

func (b *Book) wait() {
	b.asking.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.services {
		s.drop(b)
	}
	for _, s := range b.named.known {
		s.drop(b)
	}
}

// keep replaces the descriptors of a service. mu is held.
func (s *service) keep(b *Book, set *descriptor.Set, held *memory.Entry) {
	s.drop(b)
	s.set, s.held = set, held
	b.size += set.Size()
}

// drop gives the memory of a service's descriptors back. mu is held.
func (s *service) drop(b *Book) {
	b.size -= s.set.Size()
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
func (b *Book) room() (*memory.Entry, descriptor.Reserve) {
	held := b.account.NewEntry()
	return held, func(bytes, lookups int) error {
		switch {
		case !b.reading.AllowN(time.Now(), min(bytes+lookups*lookupBytes, readingBurst)):
			return errReading
		case !held.Keep(int64(bytes)):
			return report.OverLimit(report.KeyMemory, report.AnyMoment, "there is no room for the descriptors of the backend")
		default:
			return nil
		}
	}
}

var errReading = report.New(report.ReasonLimitExceeded, "the backend's descriptors are too large to read them again and again")

var errClosed = report.New(report.ReasonUpstreamUnreachable, "the backend is no longer in use")

// Described returns a method by the backend's descriptors. Without a source of them, it asks
// the backend by server reflection, at the first need and again after a new connection,
// behind which there may be another program. Described waits for the answer until ctx ends;
// calls that wait share it.
//
// The error is the cause of ctx, ErrNoReflection, a *report.Fault if the backend can't be
// asked, or why the answer can't be used. It wraps descriptor.ErrUnknown if there is
// no such method.
func (b *Book) Described(ctx context.Context, path string) (descriptor.Method, error) {
	if b.source != nil {
		return b.given().Method(path)
	}
	name := serviceOf(path)
	for asked := false; ; {
		m, q, failing, err := b.look(name, path, asked)
		switch {
		case q == nothingToAsk:
			return m, err
		case q == nil:
			return m, errClosed
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
func (b *Book) look(name, path string, asked bool) (m descriptor.Method, q *question, failing bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, settled, err := b.find(name, path)
	if settled || asked {
		return m, nothingToAsk, false, err
	}
	q = b.ask(name)
	failing = err == nil && (b.listing.failed(b.backend.Readied()) || b.services[name].failed(b.backend.Readied()))
	return m, q, failing, err
}

func serviceOf(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return name
}

// find returns the method by the descriptors so far. settled reports whether there is no use
// in asking the backend. mu is held.
func (b *Book) find(name, path string) (m descriptor.Method, settled bool, err error) {
	conns := b.backend.Readied()
	s, listed := b.services[name], b.names[name]
	settled = b.listing.current(conns, b.listing.err != nil || !listed)
	switch {
	case !listed && b.names != nil:
		return m, settled, fmt.Errorf("the service %s: %w", name, descriptor.ErrUnknown)
	case b.listing.err != nil && (s == nil || s.set == nil):
		return m, settled, b.listing.err
	case s == nil:
		return m, false, errClosed
	}
	fresh := b.listing.err != nil || s.current(conns, s.err != nil)
	if s.set == nil {
		return m, settled && fresh, s.err
	}
	m, err = s.set.Method(path)
	if err != nil && b.listing.err == nil {
		fresh = s.current(conns, true)
	}
	return m, settled && fresh, err
}

// Knows reports whether the descriptors that are known already have a method. certain
// reports whether others could not have it. If they could, Knows has the backend asked,
// but doesn't wait for the answer.
func (b *Book) Knows(path string) (known, certain bool) {
	if b.source != nil {
		_, err := b.given().Method(path)
		return err == nil, true
	}
	name := serviceOf(path)
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, settled, _ := b.find(name, path); !settled {
		b.ask(name)
	}
	conns := b.backend.Readied()
	s := b.services[name]
	if s != nil && s.set != nil {
		if _, err := s.set.Method(path); err == nil {
			return true, true
		}
		return false, s.err == nil && s.current(conns, false)
	}
	return false, b.listing.err == nil && b.listing.current(conns, false) && !b.names[name]
}

// Lacks returns the error of a method that a service doesn't have by the descriptors that
// are known already, or nil.
func (b *Book) Lacks(path string) (unknown *descriptor.UnknownMethodError) {
	set := b.setOf(path)
	if set == nil {
		return nil
	}
	_, err := set.Method(path)
	unknown, _ = errors.AsType[*descriptor.UnknownMethodError](err)
	return unknown
}

// setOf returns the descriptors of a method's service that are known, or nil.
func (b *Book) setOf(path string) *descriptor.Set {
	if b.source != nil {
		return b.given()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.services[serviceOf(path)]; s != nil {
		return s.set
	}
	return nil
}

// given returns the descriptors of the source.
func (b *Book) given() *descriptor.Set {
	set, ok := b.source.Descriptors().(*descriptor.Set)
	if !ok {
		return new(descriptor.Set) // of no method
	}
	return set
}

// ask begins a question for the service, unless there is one under way, and returns it. It
// returns nil if the Book is closed. mu is held.
//
//nolint:contextcheck // calls share a question, which may outlive each of them
func (b *Book) ask(name string) *question {
	if b.question != nil || b.closed {
		return b.question
	}
	conns := b.backend.Readied()
	list := !b.names[name] || b.listing.err != nil || !b.listing.current(conns, false)
	return b.begin(&question{service: name}, list)
}

// begin begins a question. mu is held.
//
//nolint:contextcheck // calls share a question, which may outlive each of them
func (b *Book) begin(q *question, list bool) *question {
	q.done = make(chan struct{})
	b.question = q
	b.asking.Go(func() { b.run(q, list) })
	return q
}

// run asks a question, and notes the answer.
func (b *Book) run(q *question, list bool) {
	defer b.panics.Catch("a backend's descriptors", nil)
	a, of := b.fetch(q, list)
	if b.answer(q, list, a, of) {
		b.log.Warn("the backend's descriptors can't be fetched again: messages are converted by those from before", slog.Any("error", a.err))
	}
	if f, ok := errors.AsType[*report.Fault](q.err); ok && f.Reason == report.ReasonDescriptorMismatch {
		b.log.Warn("descriptors of a type that messages use can't be used", slog.String("detail", q.unknown.String()), slog.Any("error", a.err))
	}
}

// fetch asks the backend. A panic is an answer that came to nothing.
func (b *Book) fetch(q *question, list bool) (a fetched, of attempt) {
	ctx, cancel := context.WithTimeout(b.ctx, askPatience)
	defer cancel()
	// In this order: a connection that becomes ready between the two is one of conns.
	connected := b.backend.Ready()
	conns := b.backend.Readied()
	var reserve descriptor.Reserve
	a.held, reserve = b.room()
	defer func() { of = attempt{at: time.Now(), conns: conns, err: a.err} }()
	defer b.panics.Catch("a backend's descriptors", func(f *report.Fault) { a.set, a.err = nil, f })
	a.err = b.reflect(ctx, false, func(r descriptor.Reflection) (err error) {
		if !connected {
			conns = b.backend.Readied() // r's connection is one of them
		}
		names := b.known(list)
		if list {
			if names, err = r.Services(ctx); err != nil {
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
func (b *Book) answer(q *question, list bool, a fetched, of attempt) (outdated bool) {
	defer close(q.done)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.question = nil
	if q.service == "" {
		q.err = b.noteNamed(q.unknown, q.by, a, of)
		return false
	}
	return b.note(q.service, list, a, of)
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
func (b *Book) known(list bool) map[string]bool {
	if list {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.names // it never changes: an answer has another one
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
func (b *Book) note(name string, list bool, a fetched, of attempt) (outdated bool) {
	if a.set == nil {
		a.held.Settle()
	}
	if list {
		b.listing = of.after(b.listing)
		if a.names == nil {
			return b.warn(b.names != nil)
		}
		b.listing.err = nil
		b.names = a.names
		b.named.renew(of.conns)
		for name, s := range b.services {
			if !a.names[name] {
				s.drop(b)
				delete(b.services, name)
			}
		}
	}
	if !b.names[name] {
		a.held.Settle() // empty: the service wasn't asked for
		return false
	}
	s := b.services[name]
	if s == nil {
		s = new(service)
		b.services[name] = s
	}
	if a.err == nil && b.size-s.set.Size()+a.set.Size() > maxSize {
		of.err = errTooLarge
		a.held.Settle()
	} else if a.err == nil {
		a.set.With(&b.named.sets)
		s.keep(b, a.set, a.held)
		b.warned = false
	}
	s.attempt = of.after(s.attempt)
	return of.err != nil && b.warn(s.set != nil)
}

var errTooLarge = fmt.Errorf("server reflection: the descriptors of the services take more than %d MiB of memory", maxSize>>20)

// warn reports whether the log must say that old descriptors stay in use. mu is held.
func (b *Book) warn(old bool) bool {
	if !old || b.warned {
		return false
	}
	b.warned = true
	return true
}
