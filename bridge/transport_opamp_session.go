package bridge

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/opamp"
	"github.com/culvert-grpc/culvert/bridge/internal/replies"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A sessionDown is the client's end of a session's call. Thousands of these calls are idle
// nearly all of the time, so nothing waits for their ends meanwhile: the polls start the
// goroutines that copy messages, and the end of the context the one that ends the call.
// Server.sockets waits for it all.
type sessionDown struct {
	*opamp.Session
	s    *Server
	call *call

	running *running
	ctx     context.Context // the call's
	from    *replies.Queue
	headed  bool        // receive has read the header
	unwatch func() bool // of the context

	ended   bool // at the backend, with these:
	err     error
	trailer metadata.MD
}

// open takes the call through the steps. It is handle up to the pump.
func (d *sessionDown) open() {
	defer d.s.panics.Catch("the beginning of a session", d.abandon)
	d.running, d.ctx = d.s.begin(context.Background(), d.call, d, nil)
	if err := d.s.take(d.running); err != nil {
		defer d.leave()
		defer d.s.catchRest(d.running)
		d.s.endEarly(d.running, err)
		return
	}
	d.from = replies.New(d.running.up, d.call.held, &d.running.others, d.s.panics)
	d.unwatch = context.AfterFunc(d.ctx, d.conclude)
	d.Ready(d.pass, d.receive, d.running.up.Waiting)
}

// abandon ends a call after a panic in open that take and endEarly haven't caught.
func (d *sessionDown) abandon(panicked *report.Fault) {
	if d.running == nil { // there is no call yet
		d.Abort()
		d.call.held.Settle()
		d.call.arrived()
		d.s.sockets.Leave()
		return
	}
	if d.unwatch == nil {
		d.unwatch = context.AfterFunc(d.ctx, d.conclude)
	}
	d.running.cancel(panicked) // has conclude end it
}

// pass passes messages to the backend. It ends the call if that fails.
func (d *sessionDown) pass() error {
	err := d.passMessages()
	if report.IsPanic(err) {
		d.running.cancel(err)
	}
	return err
}

func (d *sessionDown) passMessages() (err error) {
	r := d.running
	defer d.s.catch(r.call, "copying a session's requests", &err)
	for {
		m, err := r.recv()
		if errors.Is(err, io.EOF) {
			r.up.CloseSend()
		}
		if err != nil {
			return err
		}
		d.s.noteMessage(r, report.Request, m.Len())
		m.Ref()
		switch err = r.pass(m); {
		case errors.Is(err, io.EOF): // the backend has ended the call before
			d.Return(m)
			return err
		case err != nil:
			m.Free()
			r.cancel(err)
			return err
		}
		m.Free()
	}
}

// receive sends replies to the session, and ends the call when the backend does.
func (d *sessionDown) receive() error {
	trailer, err := d.copyReplies()
	if errors.Is(err, opamp.ErrEnough) {
		return err
	}
	if d.unwatch() {
		d.ended, d.err, d.trailer = true, endOf(d.ctx, err), trailer
		go d.conclude()
	}
	return io.EOF
}

// copyReplies is the part of receive that copies.
func (d *sessionDown) copyReplies() (trailer metadata.MD, err error) {
	r := d.running
	defer d.s.catch(r.call, "copying a session's replies", &err)
	if !d.headed {
		d.headed = true
		if err := d.s.copyHeader(d.ctx, r, d.from); err != nil {
			return nil, err
		}
	}
	return d.s.copyMessages(d.ctx, r, d.from)
}

// conclude ends the call. It is the pump's end.
func (d *sessionDown) conclude() {
	defer d.leave()
	defer d.s.catchRest(d.running)
	d.Stop()
	if !d.ended {
		d.err = context.Cause(d.ctx)
	}
	d.s.finish(d.running, d.err, d.trailer)
	d.running.cancel(errFinished)
	d.from.Drop()
	d.running.others.Wait()
}

func (d *sessionDown) leave() {
	defer d.s.panics.Catch("the end of a session", nil)
	defer d.s.sockets.Leave()
	d.s.end(d.running)
}

// Finish implements downstream.
func (d *sessionDown) Finish(st *status.Status, trailer metadata.MD) error {
	d.Reason = d.call.ending
	return d.Session.Finish(st, trailer)
}
