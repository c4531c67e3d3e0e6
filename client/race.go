package client

import (
	"context"
	"errors"
	"time"
)

// An opened is the result of a way.
type opened struct {
	conn   *conn
	err    error
	lesson lesson
	rtt    time.Duration
}

// half reports whether the way streams in one direction at a time only.
func (o *opened) half() bool { return o.conn != nil && o.conn.way == GRPCWeb && !o.lesson.twoWay }

// A race tries ways one after another, each a moment after the one before or as soon as that has
// failed. The first that delivers wins, and the others are closed.
type race struct {
	edge  string
	begin func(func()) bool // runs a function beside the race, or returns false: the Dialer is closed
	try   func(Way) opened

	known   lesson
	left    []Way
	running int
	results chan opened // with room for all

	next   *time.Timer // until the next way may begin
	half   *opened     // streams in one direction at a time, and isn't chosen yet; nil: none does
	begun  time.Time
	settle <-chan time.Time // when the half way is good enough; nil: there is none
	failed []error
}

// race finds a way.
func (d *Dialer) race(ctx context.Context) opened {
	end, _ := ctx.Deadline() // Dial sets one
	left := time.Until(end)
	if left > wayTimeout/2 {
		left = left * 19 / 20 // so that ways can say why they don't deliver, before the caller ends
	}
	trying, cancel := context.WithTimeoutCause(ctx, left, errSilent)
	defer cancel() // those that are still trying
	d.judge()
	known := recall(d.where(), time.Now())
	r := &race{
		edge: d.target.String(), begin: d.begin, try: func(way Way) opened { return d.try(trying, way) },
		known: known, left: order(d.o.way, known),
	}
	return r.run(ctx)
}

func (r *race) run(ctx context.Context) opened {
	r.results = make(chan opened, len(r.left))
	r.begun, r.next = time.Now(), time.NewTimer(0)
	defer r.next.Stop()
	defer r.drop()
	for {
		select {
		case <-r.next.C:
			if !r.start() {
				return opened{err: errClosed}
			}
		case o := <-r.results:
			if found, ok := r.take(o); ok {
				return found
			}
		case <-r.settle:
			return r.takeHalf()
		case <-ctx.Done():
			if r.half != nil {
				return r.takeHalf()
			}
			if len(r.failed) == 0 {
				r.failed = []error{&wayError{"all", errors.New("no byte came in time")}}
			}
			return r.none()
		}
	}
}

// start begins the next way. It returns false if the Dialer is closed.
func (r *race) start() bool {
	if len(r.left) == 0 {
		return true
	}
	way := r.left[0]
	r.left = r.left[1:]
	if !r.begin(func() { r.results <- r.try(way) }) {
		return false
	}
	r.running++
	ahead := headStart
	if r.known.silent != "" {
		ahead = halfPatience // what went silent may prove itself again, before a better way on a slow machine
	}
	r.next.Reset(ahead)
	return true
}

// take takes a result, and returns the winner if there is one.
func (r *race) take(o opened) (found opened, ok bool) {
	r.running--
	switch over := r.running == 0 && len(r.left) == 0; {
	case o.err == nil && (over || !o.half()):
		return o, true
	case o.err == nil:
		r.half, r.settle = &o, time.After(halfPatience)
		if len(r.left) == 0 {
			r.settle = time.After(halfPatience - time.Since(r.begun)) // it has waited with the others
		}
	case over && r.half != nil:
		return r.takeHalf(), true
	case over:
		r.failed = append(r.failed, o.err)
		return r.none(), true
	default:
		r.failed = append(r.failed, o.err)
	}
	r.next.Reset(0)
	return opened{}, false
}

func (r *race) takeHalf() opened {
	o := *r.half
	r.half = nil
	return o
}

func (r *race) none() opened { return opened{err: &noWayError{r.edge, r.failed}} }

// drop closes what nobody has taken, and what is still opened.
func (r *race) drop() {
	if r.half != nil {
		closeConn(r.half)
	}
	rest := func() {
		for range r.running {
			o := <-r.results
			closeConn(&o)
		}
	}
	if !r.begin(rest) {
		rest()
	}
}

func closeConn(o *opened) {
	if o.conn != nil {
		_ = o.conn.Close() // nobody has it
	}
}
