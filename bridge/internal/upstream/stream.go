package upstream

import (
	"context"
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/pool"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Stream is one call to a backend. As with any grpc.ClientStream,
// one goroutine may send while another receives.
type Stream struct {
	stream grpc.ClientStream
	call   *pool.Call       // the attempt whose stream it is
	limit  report.SizeLimit // of a message
	ctx    context.Context  // the call's: it ends with the stream
	again  *attempts        // nil: the call isn't sent again

	wire    int             // bytes of the last message from Recv, as they arrived
	in, out mem.BufferSlice // only Recv and Send use them: grpc-go gets their addresses, so that no message needs an allocation
}

// A Request is what the backend gets of a call before the first message.
type Request struct {
	Method   string // as in the path: "/package.Service/Method"
	Metadata metadata.MD

	Authority string // the :authority, in place of the backend's; empty: the backend's

	Subtype string // of the content-type; empty: it is plain application/grpc
	Coding  string // of the messages that are marked as compressed: empty or "gzip"

	// Messages limits the messages of the answer. If zero, the upstream's limit
	// is used.
	Messages report.SizeLimit

	// ID is the x-request-id in Metadata. It identifies the call's stream for wire.Conn.
	ID string

	// Held is the entry that counts the call's replies from their arrival until Sent,
	// and its requests while they are in grpc-go's queue. Its trace is told of retries, and
	// of waits for a place. If nil, nothing counts.
	Held *memory.Entry

	// Retry says when a call is sent again. If nil, only a call that the backend has
	// surely not seen is sent again, at once, to other addresses.
	Retry *report.Retry

	// Elsewhere says that another backend may take the call if this one can't be
	// reached, or has no place. Open then doesn't wait for a connection for long, nor
	// for the end of other calls, and makes no other attempts.
	Elsewhere bool
}

// Open starts the call at the backend. It waits for a connection, but not for long:
// then it ends the call with giveUp, which cancels ctx. The pool waits for a place on
// a connection, with its own bound. The end of ctx releases the stream.
func (u *Upstream) Open(ctx context.Context, giveUp context.CancelCauseFunc, r Request) (*Stream, error) {
	s := &Stream{ctx: ctx, limit: u.limit}
	if r.Messages.Bytes > 0 {
		s.limit = r.Messages
	}
	open := u.attempt
	if r.Retry != nil && r.Retry.Attempts > 1 || u.pool.Size() > fewAddresses { // grpc-go may not make all attempts
		open = u.openRetried
	}
	if err := open(s, giveUp, r); err != nil {
		return nil, err
	}
	return s, nil
}

// attempt opens the stream of s. It returns why that failed.
func (u *Upstream) attempt(s *Stream, giveUp context.CancelCauseFunc, r Request) error {
	call := u.pool.NewCall(r.ID, s.limit.Bytes, s.call)
	if r.Held != nil {
		call.Trace = r.Held.Trace()
		call.Flow.Count(r.Held, giveUp, r.Coding != "")
	}
	opts := u.options.of(r.Subtype)
	if s.limit != u.limit {
		opts = append(opts, grpc.MaxCallRecvMsgSize(s.limit.Bytes))
	}
	if r.Authority != "" {
		opts = append(opts, grpc.CallAuthority(r.Authority))
	}
	if r.Coding == "gzip" {
		opts = append(opts, grpc.UseCompressor("gzip"))
	}
	stream, err := call.Open(metadata.NewOutgoingContext(s.ctx, r.Metadata), giveUp, r.Elsewhere, u.prefix+r.Method, opts...)
	if err == nil {
		s.stream, s.call = stream, call
	}
	return err
}

// callOptions are grpc-go's options of calls by their content-subtype: made once, and not as
// the connection's default, which grpc-go copies for each call with others. They have no
// room, so that an append copies them.
type callOptions struct{ plain, proto []grpc.CallOption }

func newCallOptions(messages report.SizeLimit) callOptions {
	plain := []grpc.CallOption{
		grpc.ForceCodecV2(RawCodec{}),
		grpc.MaxCallRecvMsgSize(messages.Bytes),
		// The part of the first messages that is kept for a transparent retry
		// (only of a call that the backend certainly never saw).
		grpc.MaxRetryRPCBufferSize(maxUnseenBytes),
	}
	return callOptions{plain, slices.Clip(append(plain, grpc.CallContentSubtype("proto")))}
}

func (o *callOptions) of(subtype string) []grpc.CallOption {
	switch subtype {
	case "":
		return o.plain
	case "proto": // of nearly every browser
		return o.proto
	default:
		return append(o.plain, grpc.CallContentSubtype(subtype))
	}
}

// GaveUp reports whether this package ended the call with giveUp, because no connection
// was there in time. The stream's own error says more then.
func GaveUp(cause error) bool { return errors.Is(cause, pool.ErrPatience) }

// Header waits for the upstream's header. It returns false when there is none: the
// answer is trailers-only, or the call failed. A header always has a content-type, so
// it is never empty.
func (s *Stream) Header() (metadata.MD, bool) {
	if s.again != nil {
		s.settle()
	}
	md := s.header()
	return md, len(md) > 0
}

// header waits for the header of the attempt. It asks grpc-go twice where recvMsg does.
func (s *Stream) header() metadata.MD {
	md, err := s.stream.Header()
	if len(md) == 0 && s.call.IsReplayed() {
		md, err = s.stream.Header()
	}
	if err != nil {
		return nil // Recv has it
	}
	return md
}

// Compressed reports, once there is a header, whether the upstream names a coding for
// its messages.
func (s *Stream) Compressed() bool { return s.call.OnWire().IsCompressed() }

// Ended reports, once there is a header, whether the upstream's end has arrived and
// the rest can be received without a wait. (A compressed message waits for room for
// its decompression.)
func (s *Stream) Ended() bool { return s.call.OnWire().Trailed() && !s.Compressed() }

// HasMore reports, once Recv has returned a message, whether another one has arrived, so that
// Recv returns it without a wait. It must not run beside Recv.
func (s *Stream) HasMore() bool { return s.call.OnWire().HasMore() }

// Recv returns one message, which the caller frees. At the end it returns
// io.EOF for the upstream's OK, a Status, or a fault.
func (s *Stream) Recv() (mem.BufferSlice, error) {
	if s.again != nil {
		s.settle()
		if s.again.end != nil {
			return nil, s.again.end
		}
	}
	return s.recv()
}

func (s *Stream) recv() (mem.BufferSlice, error) {
	err := s.recvMsg()
	m := s.in
	s.in = nil
	if err == nil {
		s.wire = s.call.OnWire().Received(m.Len())
		return m, nil
	}
	err = s.classify(err)
	s.noteRefusal(err)
	return nil, err
}

// recvMsg receives a message into s.in. If the backend ends the call while grpc-go still
// sends it again, grpc-go returns io.EOF for whatever has arrived. When asked again, it
// returns what has arrived.
func (s *Stream) recvMsg() error {
	err := s.stream.RecvMsg(&s.in)
	if errors.Is(err, io.EOF) && s.call.IsReplayed() {
		err = s.stream.RecvMsg(&s.in)
	}
	return err
}

// Wire returns the size of the last message from Recv as it came from the backend,
// perhaps compressed. It must not run beside Recv.
func (s *Stream) Wire() int { return s.wire }

// Sent notes that messages of this many bytes, as they arrived, are no longer held,
// or are counted elsewhere. A message of more than the stream's window is
// noted alone.
func (s *Stream) Sent(messages, bytes int) {
	s.call.OnWire().Taken(messages, bytes)
}

// Waiting returns how many bytes of messages have arrived and aren't noted by Sent, with
// the prefixes of messages.
func (s *Stream) Waiting() int64 { return s.call.Flow.Waiting() }

// Send takes the message over. io.EOF means that the upstream ended the call and that
// Recv has the status.
func (s *Stream) Send(m mem.BufferSlice) error {
	if s.again != nil && !s.again.final.Load() {
		return s.sendRetried(m)
	}
	return s.send(m)
}

func (s *Stream) send(m mem.BufferSlice) error {
	s.call.Flow.Queue(m.Len())
	s.out = m
	err := s.stream.SendMsg(&s.out)
	s.out = nil
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if s.call.IsReplayed() && s.ctx.Err() == nil {
		return io.EOF // grpc-go couldn't send the call again; Recv has the status of the attempt that was refused
	}
	return s.classify(err)
}

// Full reports whether Send would wait until the backend accepts more.
func (s *Stream) Full() bool {
	if s.again != nil && !s.again.final.Load() {
		if !s.again.sending.TryLock() {
			return true // the call is being sent again, and may wait for a connection
		}
		defer s.again.sending.Unlock()
	}
	return s.call.Flow.IsFull()
}

// CloseSend passes the client's half-close on.
func (s *Stream) CloseSend() {
	if s.again != nil {
		s.again.sending.Lock()
		defer s.again.sending.Unlock()
		s.again.closed = true
	}
	_ = s.stream.CloseSend() // always nil; the status comes from Recv
}

// Trailer is valid after Recv returned an error.
func (s *Stream) Trailer() metadata.MD {
	if s.again != nil && s.again.unopened {
		return nil // the stream is that of the attempt before
	}
	return s.stream.Trailer()
}

// A RawCodec passes messages through as bytes: SendMsg and RecvMsg get a *mem.BufferSlice.
type RawCodec struct{}

// Name is empty so that the content-type is plain application/grpc; if the client
// named a subtype, the call sets it.
func (RawCodec) Name() string { return "" }

// Marshal passes the reference that SendMsg was given on to grpc-go, which
// frees it.
func (RawCodec) Marshal(v any) (mem.BufferSlice, error) { return *v.(*mem.BufferSlice), nil }

// Unmarshal gives the caller a reference of its own to the bytes.
func (RawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	data.Ref() // grpc-go frees its own reference on return
	*v.(*mem.BufferSlice) = data
	return nil
}
