package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/descriptor"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// The bounds of questions about types and extensions. Clients invent names, so each address
// has a share. A backend can reconnect in a loop, so the bound includes names that it knew
// behind a connection before.
const (
	maxNamedAsked = 10 // questions a minute
	maxUnknown    = 1000
	maxOthers     = 128 // known ones: a name that no descriptors have is looked for in all of them
)

// others are types and extensions that messages use and the files of services don't import.
type others struct {
	sets  descriptor.Others // for the conversions
	known map[descriptor.Unknown]*other
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

// An other is a type or an extension that the backend knows.
type other struct {
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
// address uses and the descriptors don't have. Without an error, the descriptors have it from now on, and the
// message can be converted again. The error is the cause of ctx, a *report.Fault if the
// backend can't be asked now or its descriptors can't be used, or it wraps descriptor.ErrUnknown.
func (u *Upstream) Learn(ctx context.Context, by *memory.Address, unknown descriptor.Unknown) error {
	if u.source != nil {
		return fmt.Errorf("%s: %w", unknown, descriptor.ErrUnknown)
	}
	return u.learned.learn(ctx, by, unknown)
}

func (l *learned) learn(ctx context.Context, by *memory.Address, unknown descriptor.Unknown) error {
	for {
		q, err := l.lookFor(unknown, by)
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
func (l *learned) lookFor(unknown descriptor.Unknown, by *memory.Address) (*question, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.others
	o.renew(l.u.pool.readied.Load())
	s := o.known[unknown]
	var refused error
	switch n, negative := o.unknown[unknown]; {
	case negative:
		return nil, n.err(unknown)
	case s != nil && o.has(s):
		return nil, nil
	case o.failure != nil && time.Since(o.failed) < time.Minute: // no message waits for a silent backend again and again
		refused = o.failure
	case l.closed:
		return nil, errUpstreamClosed
	case l.question != nil:
		return l.question, nil
	case !o.mayAsk(by):
		refused = errAskedOften
	default:
		return l.begin(&question{unknown: unknown, by: by}, false), nil
	}
	if s != nil {
		o.lend(s)
		return nil, nil
	}
	return nil, refused
}

var errAskedOften = func() *report.Fault {
	f := report.Newf(report.ReasonLimitExceeded, "messages name types that the descriptors of the service don't have, and culvert asks the backend for %d a minute, and for one client address for %d", maxNamedAsked, maxNamedAsked/2)
	f.Retry = time.Minute
	f.Remedy = "try again in a minute; or import the types' files in the service's, or set backend.descriptors"
	return f
}()

// renew has the backend asked again after a new connection, behind which there may be
// another program, and for the descriptors that were lent a minute ago. mu is held.
func (o *others) renew(conns int64) {
	switch {
	case o.conns != conns:
		o.conns, o.unknown, o.order, o.failure = conns, nil, nil, nil
		for _, s := range o.known {
			s.lent = time.Time{}
		}
		o.publish()
	case !o.until.IsZero() && !time.Now().Before(o.until):
		o.publish()
	}
}

// has reports whether it needn't be asked for again. mu is held.
func (o *others) has(s *other) bool {
	return s.conns == o.conns || time.Since(s.lent) < time.Minute
}

// lend keeps the descriptors from before a new connection in use, because the backend can't
// be asked again now. mu is held.
func (o *others) lend(s *other) {
	s.lent = time.Now()
	o.publish()
}

// publish gives the conversions those that needn't be asked for again. mu is held.
func (o *others) publish() {
	var sets []*descriptor.Set
	o.until = time.Time{}
	for _, s := range o.known {
		if !o.has(s) {
			continue
		}
		sets = append(sets, s.set)
		if until := s.lent.Add(time.Minute); s.conns != o.conns && (o.until.IsZero() || until.Before(o.until)) {
			o.until = until
		}
	}
	o.sets.Put(sets, o.until)
}

// noteOther notes an answer, and returns what Learn returns. mu is held.
func (l *learned) noteOther(unknown descriptor.Unknown, by *memory.Address, a fetched, of attempt) error {
	o := &l.others
	o.renew(of.conns)
	s := o.known[unknown]
	replaced := 0
	if s != nil {
		replaced = s.set.Size()
	}
	if a.err == nil && l.size-replaced+a.set.Size() > maxLearnedSize {
		a.err = errTooLarge
	}
	if a.err == nil {
		if s == nil {
			if len(o.known) == maxOthers {
				o.evict(l)
			}
			s = &other{by: by}
			if o.known == nil {
				o.known = make(map[descriptor.Unknown]*other)
			}
			o.known[unknown] = s
		}
		s.keep(l, a.set, a.held)
		s.attempt = of
		o.publish()
		return nil
	}
	a.held.Settle()
	if unasked, ok := errors.AsType[*report.Fault](a.err); ok {
		if unasked.Reason != report.ReasonLimitExceeded { // else it is a want of room here, which is another name's no more
			o.failure, o.failed = unasked, of.at
		}
		if s != nil {
			o.lend(s)
			return nil
		}
		return unasked
	}
	n := negative{by, unusable(unknown, a.err)}
	if s != nil && n.why != nil {
		o.lend(s)
		return nil
	}
	if s != nil {
		s.drop(l)
		delete(o.known, unknown)
	}
	o.doesntKnow(unknown, n)
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
		f.Remedy = "add " + missing.File + " to the backend's server reflection, or set backend.descriptors"
	case contradicts:
		f.Text += ": they define " + isFalse.Type + " in another way than protobuf"
		f.Remedy = "have the backend use protobuf's own " + isFalse.Type + ", or set backend.descriptors"
	case errors.Is(err, errTooLarge):
		f.Text += ": with them, all of the backend's take more memory than culvert gives them"
		f.Remedy = "set backend.descriptors"
	default:
		return nil
	}
	return f
}

// evict drops the oldest of the address that has most. mu is held.
func (o *others) evict(l *learned) {
	counts := make(map[*memory.Address]int)
	for _, s := range o.known {
		counts[s.by]++
	}
	var oldest descriptor.Unknown
	var out *other
	for unknown, s := range o.known {
		if out == nil || counts[s.by] > counts[out.by] || s.by == out.by && s.at.Before(out.at) {
			oldest, out = unknown, s
		}
	}
	out.drop(l)
	delete(o.known, oldest)
}

// doesntKnow notes that culvert can't have it. mu is held.
func (o *others) doesntKnow(unknown descriptor.Unknown, n negative) {
	if len(o.order) == maxUnknown {
		o.forget()
	}
	if o.unknown == nil {
		o.unknown = make(map[descriptor.Unknown]negative)
	}
	o.unknown[unknown] = n
	o.order = append(o.order, unknown)
}

// forget removes the oldest of the address that has most. mu is held.
func (o *others) forget() {
	counts, most := make(map[*memory.Address]int), o.unknown[o.order[0]].by
	for _, n := range o.unknown {
		if counts[n.by]++; counts[n.by] > counts[most] {
			most = n.by
		}
	}
	i := slices.IndexFunc(o.order, func(u descriptor.Unknown) bool { return o.unknown[u].by == most })
	delete(o.unknown, o.order[i])
	o.order = slices.Delete(o.order, i, i+1)
}

// mayAsk counts a question by an address, if it may ask: half of what others leave in a
// minute. mu is held.
func (o *others) mayAsk(by *memory.Address) bool {
	o.asked = slices.DeleteFunc(o.asked, func(a asked) bool { return time.Since(a.at) >= time.Minute })
	own := 0
	for _, a := range o.asked {
		if a.by == by {
			own++
		}
	}
	left := maxNamedAsked - (len(o.asked) - own)
	if own >= (left+1)/2 {
		return false
	}
	o.asked = append(o.asked, asked{time.Now(), by})
	return true
}
