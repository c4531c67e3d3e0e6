package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Backend describes where calls go.
type Backend struct {
	// Target is "host:port", "dns:///host:port", "unix:///path", or any other
	// target that grpc-go resolves.
	Target string

	// TLS is the configuration for connections to the backend. If nil, they are
	// plaintext.
	TLS *tls.Config

	// TLSSource replaces TLS if it isn't nil: it is asked for each connection, so that
	// certificates can change while other connections last.
	TLSSource TLSSource

	// Authority replaces the :authority that the backend sees. If empty, it
	// is the target's.
	Authority string

	// Keepalive is how long a connection with calls on it may be quiet before culvert
	// sends an HTTP/2 ping; less than 10 s counts as 10 s. A grpc server whose
	// settings don't allow these pings answers with GOAWAY. If zero, culvert pings a
	// backend only if something was sent to it and nothing came for 10 s, as rarely
	// as every server allows.
	Keepalive time.Duration

	// Balance is how calls are distributed over the backend's addresses, named like
	// grpc-go's policies:
	//
	//   - "round_robin", or empty: to each address in turn.
	//   - "least_request": to the one of two random addresses with fewer open calls.
	//   - "pick_first": to the first address that works. The addresses of a name are in
	//     numerical order, IPv4 first.
	Balance string

	// HealthCheck asks each connection whether the backend serves. If it is zero, every
	// connection counts as healthy.
	HealthCheck HealthCheck

	// MaxConnections bounds the connections to each address of the backend. A
	// second one is opened when the first has as many calls as the backend
	// allows on a connection. If zero, 64; if negative, there is no bound.
	MaxConnections int

	// QueueTimeout is how long a call may wait while every connection has as many
	// calls as the backend allows. If zero, 5 s; if negative, it doesn't wait.
	QueueTimeout time.Duration

	// MaxWaiting bounds the calls that wait for a connection or for a place on one. A
	// further call ends at once. If zero, 10,000; if negative, there is no bound.
	MaxWaiting int

	// ResolveInterval is how often a name is resolved again. If zero, 30 s; if
	// negative, only when there is no connection. It isn't used with Dial or
	// UseEnvProxy and for targets other than names.
	ResolveInterval time.Duration

	// UseEnvProxy honours HTTPS_PROXY and NO_PROXY.
	UseEnvProxy bool

	// Logger logs the health of addresses. If nil, nothing is logged.
	Logger *slog.Logger

	// Dial opens a connection. If nil it is TCP or a unix socket, with TCP
	// keep-alive and a bound on unacknowledged bytes.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Fixed windows towards the backend. grpc-go's own estimate grows a stream's window
// to 16 MiB, and one slow reader then holds that much. The connection's window bounds
// the data in flight for all its streams. It counts with the account for as long as
// the connection lasts.
const (
	streamWindow  = memory.UnaskedBytes
	minConnWindow = 64 << 10
	maxConnWindow = 1 << 20
)

// connWindow is a small part of the account: an upstream has up to 64 connections
// to each address.
func connWindow(a *memory.Account) int {
	return int(min(max(a.Messages/256, minConnWindow), maxConnWindow))
}

const (
	connectPatience = 5 * time.Second  // how long a call waits for a connection to the backend
	pingTimeout     = 10 * time.Second // for the backend to answer a ping
)

// An Upstream is a backend and the connections to it.
type Upstream struct {
	cc      *grpc.ClientConn
	pool    *pool
	retries retryBudget
	limit   report.SizeLimit // of a message
	holders holders          // while it is in a Set
}

// New begins to connect to the backend. messages limits each message of an answer.
// headerBytes is the limit of a block of metadata, which the caller must check.
func New(b Backend, messages report.SizeLimit, headerBytes int, account *memory.Account) (*Upstream, error) {
	if b.Target == "" {
		return nil, errors.New("no backend address")
	}
	creds := insecure.NewCredentials()
	switch {
	case b.TLSSource != nil:
		creds = newCurrentCredentials(b.TLSSource.Config)
	case b.TLS != nil:
		creds = credentials.NewTLS(b.TLS)
	}
	config, err := b.pool()
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", b.Target, err)
	}
	p := &pool{config: config, log: cmp.Or(b.Logger, slog.New(slog.DiscardHandler))}
	p.absent.Store(time.Now().UnixNano())
	target, dial := b.dialer()
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(windowCredentials{creds, account, p}),
		grpc.WithContextDialer(dial),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(poolService),
		grpc.WithResolvers(nameBuilder{b.resolveInterval()}),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(int32(connWindow(account))),
		grpc.WithMaxHeaderListSize(looseHeaderBytes(headerBytes)),
		grpc.WithStatsHandler(facts{}),
		grpc.WithIdleTimeout(0),
		experimental.WithBufferPool(account.Pool),
		grpc.WithConnectParams(grpc.ConnectParams{
			// Use a backend that comes back within a second or so.
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: connectPatience,
		}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(rawCodec{}),
			grpc.MaxCallRecvMsgSize(messages.Bytes),
			grpc.MaxCallSendMsgSize(math.MaxInt32),
			// The part of the first messages that is kept for a transparent retry
			// (only of a call that the backend certainly never saw).
			grpc.MaxRetryRPCBufferSize(16<<10),
		),
	}
	if b.Authority != "" {
		opts = append(opts, grpc.WithAuthority(b.Authority))
	}
	if b.Keepalive > 0 {
		opts = append(opts, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: b.Keepalive, Timeout: pingTimeout}))
	}
	cc, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", b.Target, err)
	}
	cc.Connect()
	u := &Upstream{cc: cc, pool: p, limit: messages, holders: holders{none: make(chan struct{})}}
	u.holders.n.Store(1) // for the Set that may take it
	return u, nil
}

// looseHeaderBytes returns the limit of a block of metadata for grpc-go. For a block
// that is much larger, grpc-go ends the whole connection, with every call on it. The
// limit proper costs only the call.
func looseHeaderBytes(limit int) uint32 { return uint32(min(4*limit, math.MaxInt32)) }

// Close ends the streams and closes the connections.
func (u *Upstream) Close() error { return u.cc.Close() }

// A Stream is one call to a backend. As with any grpc.ClientStream,
// one goroutine may send while another receives.
type Stream struct {
	stream grpc.ClientStream
	facts  *callFacts
	limit  report.SizeLimit // of a message
	ctx    context.Context  // the call's: it ends with the stream
	again  *retried         // nil: the call isn't sent again

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

	// Held is the entry that counts the call's replies from their arrival until Sent,
	// and its requests while they are in grpc-go's queue. If nil, nothing counts. If
	// set, ID is the x-request-id in Metadata.
	Held *memory.Entry
	ID   string

	// Retry says when a call is sent again. If nil, only a call that the backend has
	// surely not seen is sent again, once.
	Retry *Retry
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
	if r.Retry != nil && r.Retry.Attempts > 1 {
		open = u.openRetried
	}
	if err := open(s, giveUp, r); err != nil {
		return nil, err
	}
	return s, nil
}

// attempt opens the stream of s, and sets its facts. It returns why that failed.
func (u *Upstream) attempt(s *Stream, giveUp context.CancelCauseFunc, r Request) error {
	ctx := s.ctx
	patience := time.AfterFunc(connectPatience, func() { giveUp(errPatience) })
	known := &callFacts{header: make(chan struct{}), patience: patience}
	if r.Held != nil {
		known.flow.entry, known.flow.id = r.Held, r.ID
		known.flow.giveUp, known.flow.packs = giveUp, r.Coding != ""
	}
	streamCtx := context.WithValue(metadata.NewOutgoingContext(ctx, r.Metadata), factsKey{}, known)
	opts := make([]grpc.CallOption, 0, 4)
	if s.limit != u.limit {
		opts = append(opts, grpc.MaxCallRecvMsgSize(s.limit.Bytes))
	}
	if r.Authority != "" {
		opts = append(opts, grpc.CallAuthority(r.Authority))
	}
	if r.Subtype != "" {
		opts = append(opts, grpc.CallContentSubtype(r.Subtype))
	}
	if r.Coding == "gzip" {
		opts = append(opts, grpc.UseCompressor("gzip"))
	}
	stream, err := u.cc.NewStream(streamCtx, bidi, r.Method, opts...)
	u.pool.began(known)
	inTime := patience.Stop()
	if inTime && err == nil {
		s.stream, s.facts = stream, known
		return nil
	}
	known.flow.unborn.Store(true)
	if f := known.refusal.Load(); f != nil {
		return f
	}
	if !inTime {
		giveUp(errPatience) // the timer is about to
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, errPatience) {
		return known.unreachable(err)
	}
	if cause != nil {
		return cause
	}
	return known.openError(err)
}

var (
	bidi        = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	errPatience = errors.New("no stream became free in time")
)

// Header waits for the upstream's header. It returns false when there is none: the
// answer is trailers-only, or the call failed. A header always has a content-type, so
// it is never empty.
func (s *Stream) Header() (metadata.MD, bool) {
	if s.again != nil {
		s.settle()
	}
	md, err := s.stream.Header()
	return md, err == nil && len(md) > 0
}

// Compressed reports, once there is a header, whether the upstream names a coding for
// its messages. grpc-go hands out a header a moment before the rest of its facts,
// hence the wait.
func (s *Stream) Compressed() bool {
	select {
	case <-s.facts.header:
		return s.facts.compressed
	case <-s.ctx.Done():
		return false
	}
}

// Ended reports, once there is a header, whether the upstream's end has arrived and
// the rest can be received without a wait. (A compressed message waits for room for
// its decompression.)
func (s *Stream) Ended() bool { return s.facts.trailer.Load() && !s.Compressed() }

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
	err := s.stream.RecvMsg(&s.in)
	m := s.in
	s.in = nil
	if err == nil {
		s.wire = s.facts.in.take(m.Len())
		return m, nil
	}
	return nil, s.facts.classify(s.ctx, err, s.limit)
}

// Wire returns the size of the last message from Recv as it came from the backend,
// perhaps compressed. It must not run beside Recv.
func (s *Stream) Wire() int { return s.wire }

// Sent notes that messages of this many bytes, as they arrived, are no longer held,
// or are counted elsewhere. A message of more than memory.UnaskedBytes is noted
// alone.
func (s *Stream) Sent(messages, bytes int) {
	if s.facts.flow.entry != nil {
		s.facts.flow.taken(messages, bytes)
	}
}

// Arrivals counts the reads of the stream's connection that brought messages. If the
// count is unchanged after Recv, the message had already arrived.
func (s *Stream) Arrivals() uint64 {
	l := s.facts.link.Load()
	if l == nil {
		return 0
	}
	return l.arrivals.Load()
}

// Send takes the message over. io.EOF means that the upstream ended the call and that
// Recv has the status.
func (s *Stream) Send(m mem.BufferSlice) error {
	if s.again != nil {
		return s.sendRetried(m)
	}
	return s.send(m)
}

func (s *Stream) send(m mem.BufferSlice) error {
	n, f := m.Len(), &s.facts.flow
	counts := f.entry != nil
	switch {
	case counts && f.packs: // there are two copies, until grpc-go has queued the second
		f.entry.Add(memory.RequestClass(n), n)
	case counts:
		f.queue(n)
	}
	s.out = m
	err := s.stream.SendMsg(&s.out)
	s.out = nil
	if counts && f.packs {
		if err == nil {
			f.queuePacked(s.facts.out.take(n))
		}
		f.entry.Sub(memory.RequestClass(n), n)
	}
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return s.facts.classify(s.ctx, err, s.limit)
}

// streamQueueBytes is how much of a stream grpc-go queues before SendMsg waits: its
// defaultWriteQuota.
const streamQueueBytes = 64 << 10

// Full reports whether Send would wait until the backend accepts more.
func (s *Stream) Full() bool {
	if s.again != nil {
		s.again.sending.Lock()
		defer s.again.sending.Unlock()
	}
	return s.facts.flow.queued.bytes.Load() >= streamQueueBytes
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

// rawCodec passes messages through as bytes.
type rawCodec struct{}

// Name is empty so that the content-type is plain application/grpc; if the client
// named a subtype, the call sets it.
func (rawCodec) Name() string { return "" }

// Marshal passes the reference that SendMsg was given on to grpc-go, which
// frees it.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) { return *v.(*mem.BufferSlice), nil }

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	data.Ref() // grpc-go frees its own reference on return
	*v.(*mem.BufferSlice) = data
	return nil
}

// openError returns why a call could not be started.
func (k *callFacts) openError(err error) error {
	st, _ := status.FromError(err)
	switch st.Code() {
	case codes.Unavailable:
		return k.unreachable(err)
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded // grpc-go reads the clock itself, a moment before the context ends
	case codes.Internal:
		if isTooMuchMetadata(st.Message()) {
			return requestTooLargeForBackend(err)
		}
	default:
	}
	return report.New(report.ReasonInternal, "internal error").Because(err)
}

// requestTooLargeForBackend returns the fault for a limit that isn't culvert's.
func requestTooLargeForBackend(err error) *report.Fault {
	return &report.Fault{Reason: report.ReasonMetadataTooLarge, Text: "the request metadata is larger than the backend accepts", Remedy: "send less, or raise the backend's own limit", Cause: err}
}
