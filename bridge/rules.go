package bridge

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// clientRules are what a call's client needs of the messages, beyond any stream of gRPC. The zero
// value is nothing.
type clientRules struct {
	oneReply   bool // the client gets exactly one reply
	oneRequest bool // the backend gets the half-close after one message, unless the method takes more
	noStream   bool // the message is for another call: the backend gets no stream
	byGet      bool // the client calls by GET, as a cache may: the method must have no side effects
}

// replied returns a fault if the client's protocol needs exactly one reply, and the
// backend has sent another number of them than want.
func (c *call) replied(want int64) error {
	switch {
	case !c.rules.oneReply || c.out.messages.Load() == want:
		return nil
	case want == 0:
		return errManyReplies
	default:
		return errNoReply
	}
}

// awaitGoodbye waits for the client's end behind the only message that its method takes.
func (c *call) awaitGoodbye() error {
	m, err := c.recv()
	if errors.Is(err, io.EOF) { // a half-close that the client needn't have sent
		m, err = c.recv()
	}
	if err == nil {
		m.Free()
		return report.New(report.ReasonBadRequest, "the method takes one message, and a second one came")
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// A client that sends messages in JSON by hand makes mistakes in them, often in one body
// that it has written before. The replies to the messages before the mistake must not
// depend on whether culvert finds the mistake before the backend replies.

// replyPatience is how long a mistake in a message waits for the replies to the messages
// before it. The backend may not owe one for each.
const replyPatience = time.Second

// answered counts the replies of a two-way call in JSON that the client was sent.
type answered struct {
	replies atomic.Int64
	more    chan struct{} // one element: there are more
}

// note counts one. Nil counts none.
func (a *answered) note() {
	if a == nil {
		return
	}
	a.replies.Add(1)
	select {
	case a.more <- struct{}{}:
	default: // nobody waits, or knows already
	}
}

// awaitReplies waits for as many replies as the backend has messages, if the error is the
// client's mistake in a message. The backend doesn't get the half-close meanwhile: it
// would take the request for complete.
func (c *call) awaitReplies(err error) {
	f, ok := errors.AsType[*report.Fault](err)
	if c.answered == nil || c.in.messages.Load() == 0 || !ok || f.Reason != report.ReasonBadRequest && f.Reason != report.ReasonRequestTooLarge {
		return
	}
	late := time.After(replyPatience)
	for c.answered.replies.Load() < c.in.messages.Load() {
		select {
		case <-c.answered.more:
		case <-late:
			return
		case <-c.timed.Done():
			return
		}
	}
}
