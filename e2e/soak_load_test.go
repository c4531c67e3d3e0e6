package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A soakPlan is what one call does.
type soakPlan struct {
	method    string
	requests  int
	reqBytes  int
	replies   int
	repBytes  int
	pause     time.Duration // before each reply is read
	stallAt   int           // the reply before which nothing is read for a while; -1: none
	stall     time.Duration
	cancelAt  int // the reply at which the client cancels; -1: never
	timeout   time.Duration
	unclosed  bool // the request never ends: the client cancels before
	pipelined bool // requests don't wait for replies
}

var soakSizes = []int{0, 1, 100, 1 << 10, 16 << 10, 70 << 10, 256 << 10}

// newPlan is one of the many calls that there are.
func newPlan(r *rand.Rand) soakPlan {
	p := soakPlan{requests: 1, replies: 1, stallAt: -1, cancelAt: -1, pipelined: r.IntN(2) == 0}
	p.reqBytes, p.repBytes = soakSizes[r.IntN(len(soakSizes))], soakSizes[r.IntN(len(soakSizes))]
	if r.IntN(40) == 0 {
		p.reqBytes = 2 << 20
	}
	if r.IntN(40) == 0 {
		p.repBytes = 2 << 20
	}
	many := func(size int) int { return 1 + r.IntN(max(1, min(200, (2<<20)/(size+1)))) }
	switch r.IntN(4) {
	case 0:
		p.method = wire.Unary
	case 1:
		p.method, p.replies = wire.ServerStream, many(p.repBytes)
	case 2:
		p.method, p.requests = wire.ClientStream, many(p.reqBytes)
	case 3:
		p.method, p.requests = wire.Bidi, many(p.reqBytes)
		p.replies, p.repBytes = p.requests, p.reqBytes
	}
	switch r.IntN(10) {
	case 0: // a slow reader
		p.pause = time.Duration(1+r.IntN(20)) * time.Millisecond
		p.replies = min(p.replies, 60)
		if p.method == wire.Bidi {
			p.requests = p.replies
		}
	case 1:
		p.stallAt, p.stall = r.IntN(p.replies), time.Duration(100+r.IntN(900))*time.Millisecond
	case 2:
		p.cancelAt = r.IntN(p.replies)
		p.unclosed = p.method == wire.Bidi || p.method == wire.ClientStream
		p.stall = time.Duration(r.IntN(100)) * time.Millisecond
	case 3:
		p.timeout = time.Duration(1+r.IntN(50)) * time.Millisecond
	}
	return p
}

func (p soakPlan) script() probe.Script {
	s := probe.Script{ReplyBytes: p.repBytes}
	switch p.method {
	case wire.ServerStream:
		s.Replies = p.replies
	case wire.Bidi:
		s.Echo = true
	}
	return s
}

// A soakResult is how a call ended for its client.
type soakResult struct {
	id       string
	plan     soakPlan
	began    time.Time
	status   *wire.Status // nil: it was not told
	err      error        // why not, or what was wrong
	replies  uint64
	sentAll  bool // and the half-close
	canceled bool // by the client itself
	carried  int64
}

// errWrong is wrapped by what must never happen, whatever fails around it.
var errWrong = errors.New("WRONG")

// play makes one call.
func play(ctx context.Context, conn soakConn, id string, p soakPlan) (res *soakResult) {
	res = &soakResult{id: id, plan: p, began: time.Now()}
	md := wire.Metadata(id, p.script())
	md["x-request-id"] = []string{logID(id)}
	if p.timeout > 0 {
		md["grpc-timeout"] = []string{fmt.Sprintf("%dm", p.timeout.Milliseconds())}
	}
	var call wire.Call
	var sending sync.WaitGroup
	var turn chan struct{} // a request may be sent
	if p.method == wire.Unary || p.method == wire.ServerStream {
		call, res.err = conn.Post(ctx, p.method, md, wire.Request(0, p.reqBytes))
		res.sentAll = true
	} else {
		call, res.err = conn.Open(ctx, p.method, md)
	}
	if res.err != nil {
		return res
	}
	var sent atomic.Bool
	if p.method == wire.ClientStream || p.method == wire.Bidi {
		turn = make(chan struct{}, p.requests+1)
		for i := range p.requests {
			if i == 0 || p.pipelined || p.method == wire.ClientStream {
				turn <- struct{}{}
			}
		}
		sending.Go(func() { sent.Store(sendPlan(call, p, turn, res)) })
	}
	defer func() {
		call.Close() // makes a waiting Send return
		if turn != nil {
			close(turn)
		}
		sending.Wait()
		res.sentAll = res.sentAll || sent.Load()
	}()
	receivePlan(call, p, turn, res)
	return res
}

// logID is a call's id in culvert's log.
func logID(id string) string { return strings.ReplaceAll(id, "#", "-") }

// String is the call for a test's message.
func (res *soakResult) String() string {
	return fmt.Sprintf("call %s %+v, after %v and %d replies (all sent: %v): status %v, error %v",
		res.id, res.plan, time.Since(res.began).Round(time.Millisecond), res.replies, res.sentAll, res.status, res.err)
}

// sendPlan sends the requests and the half-close; it reports whether all of that was
// taken.
func sendPlan(call wire.Call, p soakPlan, turn <-chan struct{}, res *soakResult) bool {
	for i := range uint64(p.requests) {
		if _, ok := <-turn; !ok {
			return false
		}
		if call.Send(wire.Request(i, p.reqBytes)) != nil {
			return false // Recv has the reason
		}
		atomic.AddInt64(&res.carried, int64(p.reqBytes))
	}
	if p.unclosed {
		return false
	}
	return call.CloseSend() == nil
}

// receivePlan receives until the call ends, or its client ends it.
func receivePlan(call wire.Call, p soakPlan, turn chan<- struct{}, res *soakResult) {
	for {
		switch {
		case p.cancelAt == int(res.replies) && (p.method != wire.ClientStream || p.unclosed):
			if p.unclosed {
				<-time.After(p.stall)
			}
			res.canceled = true
			return
		case p.stallAt == int(res.replies):
			<-time.After(p.stall)
		case p.pause > 0:
			<-time.After(p.pause)
		}
		reply, err := wire.RecvReply(call, res.replies)
		if errors.Is(err, io.EOF) && call.Status() != nil {
			res.status = call.Status()
			return
		}
		if err != nil {
			res.err = err
			if strings.HasPrefix(err.Error(), "reply ") { // another than it must be
				res.err = fmt.Errorf("%w: %w", errWrong, err)
			}
			return
		}
		atomic.AddInt64(&res.carried, int64(len(reply.GetPayload())))
		res.replies++
		if p.method == wire.ClientStream && reply.GetReceived() != uint64(p.requests) {
			res.err = fmt.Errorf("%w: the backend answered after %d requests of %d", errWrong, reply.GetReceived(), p.requests)
			return
		}
		if turn != nil && !p.pipelined && p.method == wire.Bidi && int(res.replies) < p.requests {
			turn <- struct{}{}
		}
	}
}

// wrong returns what must never be, by what client and backend saw. r is the
// backend's record, known whether there is one.
func (res *soakResult) wrong(r probe.Record, known bool) error {
	if errors.Is(res.err, errWrong) {
		return res.err
	}
	if known && r.Fault != "" {
		return fmt.Errorf("at the backend %s", r.Fault)
	}
	if known && r.Attempts > 1 {
		return fmt.Errorf("the call began %d times", r.Attempts)
	}
	if known && r.HalfClosed && res.plan.unclosed {
		return errors.New("a request that never ended was ended for the backend")
	}
	if res.status == nil || res.status.Code != codes.OK {
		return nil
	}
	switch {
	case res.replies != uint64(res.plan.replies):
		return fmt.Errorf("OK after %d replies of %d", res.replies, res.plan.replies)
	case !res.sentAll:
		return errors.New("OK without the whole request")
	case !known:
		return nil
	case r.Ended.IsZero() || r.Code != codes.OK.String():
		return fmt.Errorf("OK, and the backend ended it with %q", r.Code)
	case r.Received != int64(res.plan.requests) || r.Sent != int64(res.plan.replies):
		return fmt.Errorf("OK, and the backend read %d requests of %d and sent %d replies of %d", r.Received, res.plan.requests, r.Sent, res.plan.replies)
	}
	return nil
}
