package reflection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// The bounds of questions about types and extensions. Clients invent names, so each address
// has a share. A backend can reconnect in a loop, so the bound includes names that it knew
// behind a connection before.
const (
	maxNamedAsked = 10 // questions a minute
	maxUnknown    = 1000
	maxNamed      = 128 // known ones: a name that no descriptors have is looked for in all of them
)

// namedTypes are types and extensions that messages use and the files of services don't import.
type namedTypes struct {
	sets  descriptor.Named // for the conversions
	known map[descriptor.Unknown]*namedType
	until time.Time // the first of known that are lent must be asked for again; zero: none is

	conns   int64                           // the connections that had become ready before the answers
	unknown map[descriptor.Unknown]negative // culvert can't have them
	order   []descriptor.Unknown            // of unknown, oldest first

	failure error // of the last question, if the backend couldn't be asked
	failed  time.Time

	asked []asked // in the last minute
}

// A negative is why culvert can't have a type or an extension.
type negative struct {
	by  *memory.Address // that asked
	why *report.Fault   // what is wrong with the backend's descriptors; nil: it has none
}

// err returns what Learn returns.
func (n negative) err(unknown descriptor.Unknown) error {
	if n.why != nil {
		return n.why
	}
	return fmt.Errorf("%s: %w", unknown, descriptor.ErrUnknown)
}

// A namedType is a type or an extension that the backend knows.
type namedType struct {
	service
	by   *memory.Address // that asked first
	lent time.Time       // the descriptors from before a new connection stay in use for a minute
}

// An asked is a question that was asked.
type asked struct {
	at time.Time
	by *memory.Address
}

// Learn asks the backend for a type or an extension that a message of a client at the
// address uses and the descriptors don't have. Without an error, the descriptors have it from
// now on, and the message can be converted again. The error is the cause of ctx, a *report.Fault if the
// backend can't be asked now or its descriptors can't be used, or it wraps descriptor.ErrUnknown.
func (b *Book) Learn(ctx context.Context, by *memory.Address, unknown descriptor.Unknown) error {
	if b.source != nil {
		return fmt.Errorf("%s: %w", unknown, descriptor.ErrUnknown)
	}
	for {
		q, err := b.lookFor(unknown, by)
		if q == nil {
			return err
		}
		select {
		case <-q.done:
			if q.service == "" && q.unknown == unknown {
				return q.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// lookFor returns the question whose answer may have it, or else what Learn returns.
func (b *Book) lookFor(unknown descriptor.Unknown, by *memory.Address) (*question, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &b.named
	t.renew(b.backend.Readied())
	s := t.known[unknown]
	var refused error
	switch n, negative := t.unknown[unknown]; {
	case negative:
		return nil, n.err(unknown)
	case s != nil && t.has(s):
		return nil, nil
	case t.failure != nil && time.Since(t.failed) < time.Minute: // no message waits for a silent backend again and again
		refused = t.failure
	case b.closed:
		return nil, errClosed
	case b.question != nil:
		return b.question, nil
	case !t.mayAsk(by):
		refused = errAskedOften
	default:
		return b.begin(&question{unknown: unknown, by: by}, false), nil
	}
	if s != nil {
		t.lend(s)
		return nil, nil
	}
	return nil, refused
}

var errAskedOften = func() *report.Fault {
	f := report.Newf(report.ReasonLimitExceeded, "messages name types that the descriptors of the service don't have, and culvert asks the backend for %d a minute, and for one client address for %d", maxNamedAsked, maxNamedAsked/2)
	f.Retry = time.Minute
	f.Remedy = "try again in a minute; or import the types' files in the service's, or set " + report.Named(report.KeyDescriptors)
	return f
}()

// renew has the backend asked again after a new connection, behind which there may be
// another program, and for the descriptors that were lent a minute ago. mu is held.
func (t *namedTypes) renew(conns int64) {
	switch {
	case t.conns != conns:
		t.conns, t.unknown, t.order, t.failure = conns, nil, nil, nil
		for _, s := range t.known {
			s.lent = time.Time{}
		}
		t.publish()
	case !t.until.IsZero() && !time.Now().Before(t.until):
		t.publish()
	}
}

// has reports whether it needn't be asked for again. mu is held.
func (t *namedTypes) has(s *namedType) bool {
	return s.conns == t.conns || time.Since(s.lent) < time.Minute
}

// lend keeps the descriptors from before a new connection in use, because the backend can't
// be asked again now. mu is held.
func (t *namedTypes) lend(s *namedType) {
	s.lent = time.Now()
	t.publish()
}

// publish gives the conversions those that needn't be asked for again. mu is held.
func (t *namedTypes) publish() {
	var sets []*descriptor.Set
	t.until = time.Time{}
	for _, s := range t.known {
		if !t.has(s) {
			continue
		}
		sets = append(sets, s.set)
		if until := s.lent.Add(time.Minute); s.conns != t.conns && (t.until.IsZero() || until.Before(t.until)) {
			t.until = until
		}
	}
	t.sets.Put(sets, t.until)
}

// noteNamed notes an answer, and returns what Learn returns. mu is held.
func (b *Book) noteNamed(unknown descriptor.Unknown, by *memory.Address, a fetched, of attempt) error {
	t := &b.named
	t.renew(of.conns)
	s := t.known[unknown]
	replaced := 0
	if s != nil {
		replaced = s.set.Size()
	}
	if a.err == nil && b.size-replaced+a.set.Size() > maxSize {
		a.err = errTooLarge
	}
	if a.err == nil {
		if s == nil {
			if len(t.known) == maxNamed {
				t.evict(b)
			}
			s = &namedType{by: by}
			t.known[unknown] = s
		}
		s.keep(b, a.set, a.held)
		s.attempt = of
		t.publish()
		return nil
	}
	a.held.Settle()
	if unasked, ok := errors.AsType[*report.Fault](a.err); ok {
		if unasked.Reason != report.ReasonLimitExceeded { // else it is a want of room here, which is another name's no more
			t.failure, t.failed = unasked, of.at
		}
		if s != nil {
			t.lend(s)
			return nil
		}
		return unasked
	}
	n := negative{by, unusable(unknown, a.err)}
	if s != nil && n.why != nil {
		t.lend(s)
		return nil
	}
	if s != nil {
		s.drop(b)
		delete(t.known, unknown)
	}
	t.doesntKnow(unknown, n)
	return n.err(unknown)
}

// unusable returns the fault of descriptors that the backend has and culvert can't use, or
// nil if err is about something else.
func unusable(unknown descriptor.Unknown, err error) *report.Fault {
	f := report.Newf(report.ReasonDescriptorMismatch, "the backend's descriptors of %s can't be used", unknown).Because(err)
	missing, lacks := errors.AsType[*descriptor.MissingFileError](err)
	isFalse, contradicts := errors.AsType[*descriptor.FalseTypeError](err)
	switch {
	case lacks:
		f.Text += ": " + missing.ImportedBy + " imports " + missing.File + ", and the backend's server reflection doesn't have it"
		f.Remedy = "add " + missing.File + " to the backend's server reflection, or set " + report.Named(report.KeyDescriptors)
	case contradicts:
		f.Text += ": they define " + isFalse.Type + " in another way than protobuf"
		f.Remedy = "have the backend use protobuf's own " + isFalse.Type + ", or set " + report.Named(report.KeyDescriptors)
	case errors.Is(err, errTooLarge):
		f.Text += ": with them, all of the backend's take more memory than culvert gives them"
		f.Remedy = "set " + report.Named(report.KeyDescriptors)
	default:
		return nil
	}
	return f
}

// evict drops the oldest of the address that has most. mu is held.
func (t *namedTypes) evict(b *Book) {
	counts := make(map[*memory.Address]int)
	for _, s := range t.known {
		counts[s.by]++
	}
	var oldest descriptor.Unknown
	var out *namedType
	for unknown, s := range t.known {
		if out == nil || counts[s.by] > counts[out.by] || s.by == out.by && s.at.Before(out.at) {
			oldest, out = unknown, s
		}
	}
	out.drop(b)
	delete(t.known, oldest)
}

// doesntKnow notes that culvert can't have it. mu is held.
func (t *namedTypes) doesntKnow(unknown descriptor.Unknown, n negative) {
	if len(t.order) == maxUnknown {
		t.forget()
	}
	if t.unknown == nil {
		t.unknown = make(map[descriptor.Unknown]negative)
	}
	t.unknown[unknown] = n
	t.order = append(t.order, unknown)
}

// forget removes the oldest of the address that has most. mu is held.
func (t *namedTypes) forget() {
	counts, most := make(map[*memory.Address]int), t.unknown[t.order[0]].by
	for _, n := range t.unknown {
		if counts[n.by]++; counts[n.by] > counts[most] {
			most = n.by
		}
	}
	i := slices.IndexFunc(t.order, func(u descriptor.Unknown) bool { return t.unknown[u].by == most })
	delete(t.unknown, t.order[i])
	t.order = slices.Delete(t.order, i, i+1)
}

// mayAsk counts a question by an address, if it may ask: half of what others leave in a
// minute. mu is held.
func (t *namedTypes) mayAsk(by *memory.Address) bool {
	t.asked = slices.DeleteFunc(t.asked, func(a asked) bool { return time.Since(a.at) >= time.Minute })
	own := 0
	for _, a := range t.asked {
		if a.by == by {
			own++
		}
	}
	left := maxNamedAsked - (len(t.asked) - own)
	if own >= (left+1)/2 {
		return false
	}
	t.asked = append(t.asked, asked{time.Now(), by})
	return true
}
