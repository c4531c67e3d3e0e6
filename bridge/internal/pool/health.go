package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// Times of a health check.
const (
	healthPatience = 5 * time.Second  // for the first answer
	recoveryPause  = time.Second      // how long an answer SERVING after another one must last: it bounds the effect of a service that flaps
	minHealthPause = time.Second      // between two Watches of a connection
	maxHealthPause = 10 * time.Second // between two, after several without an answer
)

// maxHealthAnswer bounds the bytes of an answer, which are a few.
const maxHealthAnswer = 4 << 10

// health is the part of a conn for its health check. The pool's mu guards it.
type health struct {
	serving   bool   // it may have calls
	check     *check // nil: it isn't checked
	unchecked bool   // it can't be: the backend doesn't offer it
}

// A check is the check of one connection, with a goroutine.
type check struct {
	conn     *conn
	cancel   context.CancelFunc
	recovery *time.Timer // until an answer SERVING counts; the pool's mu guards it
}

// supervise starts the health check of a connection that accepts calls, if there is one.
// grpc-go's own check isn't used: it takes a stream that the pool doesn't know of, and
// waits without a bound for an answer. The pool's mu is held.
func (c *conn) supervise() {
	p := c.slot.address.pool
	switch {
	case !p.config.health.Enabled || c.unchecked:
		c.serving = true
	case c.max < 2: // the check would take the only stream
		c.stopCheck()
		c.serving, c.slot.failure = true, nil
		p.noteUnchecked("let the backend accept two streams on a connection, of which the health check takes one, or turn " + report.Named(report.KeyHealthCheck) + " off")
	case c.check == nil:
		c.serving = false
		c.startCheck()
	}
}

// startCheck begins to ask. The pool's mu is held.
func (c *conn) startCheck() {
	p := c.slot.address.pool
	ctx, cancel := context.WithCancel(context.Background()) // ended by stopCheck
	w := &check{conn: c, cancel: cancel}
	c.check = w
	conn, release := c.sub.GetOrBuildProducer(onConn{})
	p.checks.Go(func() {
		defer release()
		defer c.wire.Catch() // another connection gets another check
		w.run(ctx, healthpb.NewHealthClient(conn.(grpc.ClientConnInterface)), p.config.health.Service)
	})
}

// stopCheck ends the check, if there is one. Its goroutine ends later. The pool's mu
// is held.
func (c *conn) stopCheck() {
	if c.check == nil {
		return
	}
	c.check.cancel()
	c.slot.address.pool.stop(c.check.recovery)
	c.check.recovery, c.check = nil, nil
}

// onConn builds the producer that opens streams on one connection, past the picker.
type onConn struct{}

// Build returns the grpc.ClientConnInterface of the connection.
func (onConn) Build(conn any) (balancer.Producer, func()) { return conn, func() {} }

// run asks until the context ends. A stream that ends after an answer is opened again,
// and the last answer counts until then: proxies end long streams.
func (w *check) run(ctx context.Context, client healthpb.HealthClient, service string) {
	unanswered := 0
	for {
		began := time.Now()
		answered, err := w.ask(ctx, client, service)
		switch {
		case ctx.Err() != nil:
			return
		case status.Code(err) == codes.Unimplemented:
			w.giveUp()
			return
		case answered:
			unanswered = 0
		default:
			w.judge(errors.New(saysUnhealthy + checkFailure(err)))
			unanswered++
		}
		select {
		case <-time.After(time.Until(began.Add(min(minHealthPause<<min(unanswered, 4), maxHealthPause)))):
		case <-ctx.Done():
			return
		}
	}
}

// errNoHealth ends a Watch without an answer.
var errNoHealth = fmt.Errorf("no answer within %v", healthPatience)

// ask opens one Watch and follows it to its end. answered reports that there was an
// answer.
func (w *check) ask(ctx context.Context, client healthpb.HealthClient, service string) (answered bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(healthPatience, func() { cancel(errNoHealth) })
	defer patience.Stop()
	stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: service}, grpc.ForceCodecV2(encoding.GetCodecV2("proto")), grpc.MaxCallRecvMsgSize(maxHealthAnswer))
	for err == nil {
		var answer *healthpb.HealthCheckResponse
		if answer, err = stream.Recv(); err == nil {
			answered = true
			patience.Stop()
			w.judge(unhealthy(answer.GetStatus(), service))
		}
	}
	if errors.Is(context.Cause(ctx), errNoHealth) {
		return answered, errNoHealth
	}
	return answered, err
}

// checkFailure returns the text of an error that ended a Watch. It must not be a status:
// grpc-go would take it for that of the call that looks for a connection.
func checkFailure(err error) string {
	switch st, isStatus := status.FromError(err); {
	case errors.Is(err, io.EOF):
		return "the backend ended it without an answer"
	case isStatus:
		return fmt.Sprintf("%v: %.200q", st.Code(), st.Message())
	}
	return err.Error()
}

// saysUnhealthy begins the cause of a call that found no address that passes its health
// check.
const saysUnhealthy = "health check: "

// unhealthy returns what an answer says, or nil for SERVING.
func unhealthy(s healthpb.HealthCheckResponse_ServingStatus, service string) error {
	of := "the server"
	if service != "" {
		of = fmt.Sprintf("the service %q", service)
	}
	switch s {
	case healthpb.HealthCheckResponse_SERVING:
		return nil
	case healthpb.HealthCheckResponse_SERVICE_UNKNOWN:
		return fmt.Errorf("%sthe backend doesn't know %s: is %s right?", saysUnhealthy, of, report.Named(report.KeyHealthCheck+".service"))
	default:
		return fmt.Errorf("%s%s is %v", saysUnhealthy, of, s)
	}
}

// judge sets the health of the connection. nil means that it serves. A connection that didn't
// gets calls again only if that lasts.
func (w *check) judge(failure error) {
	c := w.conn
	s := c.slot
	p := s.address.pool
	p.mu.Lock()
	defer p.unlock()
	switch {
	case c.check != w: // it was stopped
	case failure != nil:
		p.stop(w.recovery)
		w.recovery = nil
		if s.failure == nil || s.failure.Error() != failure.Error() {
			c.serving, s.failure = false, failure
			p.publish()
		}
	case c.serving || w.recovery != nil:
	case s.failure == nil: // the first answer
		w.serve()
	default:
		w.recovery = p.after(recoveryPause, func() {
			if w.recovery != nil { // else it ran out while judge or stopCheck stopped it
				w.serve()
			}
		})
	}
}

// serve gives the connection calls. The pool's mu is held.
func (w *check) serve() {
	w.recovery = nil
	w.conn.serving, w.conn.slot.failure = true, nil
	w.conn.slot.address.pool.publish()
}

// giveUp ends the check of a backend that doesn't offer it.
func (w *check) giveUp() {
	c := w.conn
	p := c.slot.address.pool
	p.mu.Lock()
	defer p.unlock()
	if c.check != w {
		return
	}
	c.stopCheck()
	c.unchecked, c.serving = true, true
	c.slot.failure = nil
	c.slot.address.streams = c.places()
	p.noteUnchecked("add the health service (grpc.health.v1) to the backend, or turn " + report.Named(report.KeyHealthCheck) + " off")
	p.publish()
}

// noteUnchecked logs once that the backend's health isn't checked. mu is held.
func (p *Pool) noteUnchecked(remedy string) {
	if p.warned {
		return
	}
	p.warned = true
	p.notes = append(p.notes, func() {
		p.log.Warn("culvert can't check the backend's health, and takes it for healthy", slog.String("hint", remedy))
	})
}

// noteHealth logs a change of the address. The pool's mu is held.
func (a *address) noteHealth() {
	var failure error
	for _, s := range a.slots {
		if s.accepts() {
			failure = nil
			break
		}
		if s.conn != nil {
			failure = cmp.Or(s.failure, failure)
		}
	}
	p, address := a.pool, slog.String("address", a.String())
	switch {
	case failure != nil && !a.failing:
		a.failing = true
		p.notes = append(p.notes, func() {
			p.log.Warn("an address of the backend fails its health check: it gets no new calls", address, slog.String("cause", failure.Error()))
		})
	case a.failing && a.accepts():
		a.failing = false
		p.notes = append(p.notes, func() { p.log.Info("an address of the backend passes its health check again", address) })
	}
}
