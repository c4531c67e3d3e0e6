package bridge

import (
	"context"
	"net"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A downstream is the client's end of one call. Recv may run beside the others; no
// method runs beside itself.
//
// The end of the call's context makes a waiting Send return. If a part of the message was
// sent, nothing more can be sent to that client, and Finish only closes. The context's end must
// not make a waiting Recv return, since on a WebSocket that would close the connection that
// Finish needs. Finish makes Recv return. After Finish no method but Abort is called.
type downstream interface {
	// Bind ties the downstream to the call's context. It is called once, before
	// the other methods.
	Bind(ctx context.Context, cancel context.CancelCauseFunc)

	// Prepare reads the part of the request that can be read before culvert asks the
	// upstream. It may add to the ask. It is called once,
	// unless the call is refused before. An error ends the call.
	Prepare(ctx context.Context) error

	// Recv returns one message, which the caller frees. io.EOF is the client's
	// half-close. Called once more after it, Recv returns io.EOF again. On transports
	// that must be read to notice that the client goes away, Recv instead waits for
	// that or for Finish.
	Recv() (mem.BufferSlice, error)

	// SendHeader is called at most once, before the first Send. more means that a Send
	// or Finish follows without any wait, so that the header may leave together with
	// it.
	SendHeader(md metadata.MD, more bool) error

	// Send takes the message over and frees it. It blocks while the client can't accept
	// more. more is as with SendHeader.
	Send(m mem.BufferSlice, more bool) error

	// Flush sends what was kept for more that follows.
	Flush() error

	// Finish sends the client the end of the call, and makes a waiting Recv return. It
	// is called exactly once, or not at all if Abort is. If it returns
	// socket.ErrNothingSent, the last messages are lost with the end, and it is called once
	// more with why.
	Finish(st *status.Status, trailer metadata.MD) error

	// Abort cuts the client off, and makes a waiting Recv return. It is called after a
	// panic in Finish, or in place of Finish.
	Abort()
}

// A bodyDecoder is a downstream whose body may have a coding as a whole.
type bodyDecoder interface {
	// decodeBody is called once the call is settled, unless it is refused before. A fault
	// refuses the call.
	decodeBody() error
}

// A handled is a downstream whose call is all of one HTTP request.
type handled interface {
	// countBody has the transport count with the call the bytes of the client that nobody
	// has read yet.
	countBody()

	// Close ends the request once the call has ended. It is called on the handler's
	// goroutine, and may panic with http.ErrAbortHandler.
	Close()
}

// An upgrader is a downstream that has its request's connection for itself. Its call
// outlives the HTTP handler.
type upgrader interface {
	// upgrade makes a WebSocket of the request, unless Open does so later, and returns the
	// connection. It answers a request that it can't upgrade.
	upgrade() (net.Conn, error)

	// served returns when the HTTP handler may return, too. started is false if the call
	// hasn't started, after the end of the server.
	served(started bool)
}

// An opener is a downstream whose client learns only now that the call has begun.
type opener interface {
	// Open is called once the stream at the upstream is open, before Recv and Send. An
	// error ends the call.
	Open() error
}

// An endAwaiter is a downstream that notices only by reading that its client goes away.
type endAwaiter interface {
	// AwaitEnd waits until the client goes away or breaks a rule, and returns what Recv
	// would. It reads no message: it returns nil where the next one begins, and after
	// StopAwaiting. Recv then continues as if AwaitEnd had not been called. AwaitEnd is
	// called in place of Recv.
	AwaitEnd() error

	// StopAwaiting makes AwaitEnd return. It is called beside AwaitEnd, at most once.
	// It returns after stopped is closed, when AwaitEnd has returned.
	StopAwaiting(stopped <-chan struct{})
}
