package telemetry

import (
	"context"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// Log is an Observer that writes one line for each call that ended, and a limited
// number of lines for connections that ended because of their clients' behaviour.
// At debug level it writes the story of every connection.
//
// A cause may contain text that a peer sent. slog's handlers keep it on its line.
// If a terminal shows JSON, the writer below the handler must escape the characters
// that JSON lets through.
type Log struct {
	log     *slog.Logger
	samples atomic.Pointer[[]*sampler] // nil: every call has a line
	fields  atomic.Pointer[Fields]     // nil: none
	begins  atomic.Bool                // a call's begin has a line

	mu     sync.Mutex
	limit  *rate.Limiter // for lines about bad ends
	muted  int           // since the last of them
	probes int           // connections that ended as EndedProbe, since the last line about bad ends
}

var _ report.Observer = (*Log)(nil)

// NewLog returns a Log that writes to l.
func NewLog(l *slog.Logger) *Log {
	return &Log{log: l, limit: rate.NewLimiter(rate.Every(time.Second), 20)}
}

// call is the report.CallObserver of a call without fields: all facts for its line are in
// the CallInfo.
type call struct{ *Log }

// Header implements report.CallObserver. A backend's metadata isn't logged.
func (call) Header(metadata.MD) {}

// Message implements report.CallObserver. The call's line counts messages.
func (call) Message(report.Direction, int) {}

// Ended writes the call's line.
func (o call) Ended(c *report.CallInfo) { o.ended(c, nil) }

// ended writes the line of a call with the values of its fields, unless a Sample leaves it out. A
// defect of culvert is an error that someone must act on; any other end of a call is
// information.
func (o *Log) ended(c *report.CallInfo, fields []slog.Attr) {
	level, enabled := o.levelOf(c.Reason, c.Own)
	if !enabled {
		return
	}
	write, notLogged := o.sample(c)
	if !write {
		return
	}
	l := newLine()
	l.addCall(c)
	if c.Backend != report.DefaultBackend {
		l.addSet(slog.String("backend", c.Backend))
	}
	l.attrs = append(l.attrs, fields...)
	l.add(slog.String("code", code.Code(c.Code).String()))
	l.add(slog.String("origin", c.Origin))
	l.addSet(slog.String("reason", string(c.Reason)))
	l.add(slog.Int64("messages_in", c.MessagesIn))
	l.add(slog.Int64("messages_out", c.MessagesOut))
	l.add(slog.Int64("bytes_in", c.BytesIn))
	l.add(slog.Int64("bytes_out", c.BytesOut))
	l.add(slog.Float64("duration_ms", float64(c.Duration.Microseconds())/1000))
	l.addSet(slog.String("cause", c.Cause))
	if c.Trace != nil {
		l.addTrace(c.Trace)
	}
	if notLogged.Key != "" {
		l.add(notLogged)
	}
	l.write(context.Background(), o.log, level, "call") // the call's own context has ended
}

// levelOf returns the level of the line of an end, and reports whether lines of it are written.
// own is CallInfo's.
func (o *Log) levelOf(why report.Reason, own bool) (level slog.Level, enabled bool) {
	level = slog.LevelInfo
	switch {
	case why == report.ReasonInternal:
		level = slog.LevelError
	case own:
		level = slog.LevelDebug
	}
	return level, o.log.Enabled(context.Background(), level) // the call's own context has ended
}

// A line is made of its attributes. Few are made at a time, and calls' goroutines would
// need a large stack for them.
type line struct{ attrs []slog.Attr }

var linePool = sync.Pool{New: func() any { return &line{make([]slog.Attr, 0, 20)} }}

func newLine() *line { return linePool.Get().(*line) } //nolint:forcetypeassert // nothing else is in the pool

func (l *line) add(a slog.Attr) { l.attrs = append(l.attrs, a) }

// addCall adds what is known of a call when it begins, and its identity if it is known.
func (l *line) addCall(c *report.CallInfo) {
	l.add(slog.String("call_id", c.ID))
	l.add(slog.String("transport", c.Transport))
	l.add(slog.String("method", c.Method))
	l.add(slog.String("peer", c.Peer))
	l.addSet(slog.String("client", c.Client))
	l.addSet(slog.String("identity", bounded(c.Identity)))
	l.addSet(slog.String("listener", c.Listener))
	l.addSet(slog.String("route", c.Route))
}

// addSet adds a string that isn't empty.
func (l *line) addSet(a slog.Attr) {
	if a.Value.String() != "" {
		l.add(a)
	}
}

// addTrace adds the ids of a trace. It isn't part of Ended, whose calls mostly have none and
// would all need its stack.
//
//go:noinline
func (l *line) addTrace(t *report.Trace) {
	l.add(slog.String("trace_id", hex.EncodeToString(t.ID[:])))
	l.add(slog.String("span_id", hex.EncodeToString(t.Span[:])))
}

// An attrHandler is a slog.Handler that needs no Record, whose copy of the attributes takes
// memory for each line. It keeps none of them.
type attrHandler interface {
	HandleAttrs(ctx context.Context, at time.Time, level slog.Level, msg string, attrs []slog.Attr) error
}

// write writes the line, and gives it back.
func (l *line) write(ctx context.Context, to *slog.Logger, level slog.Level, msg string) {
	now := time.Now()
	if h, ok := to.Handler().(attrHandler); ok {
		_ = h.HandleAttrs(ctx, now, level, msg, l.attrs) // like slog.Logger, there is nowhere to report it
	} else {
		r := slog.NewRecord(now, level, msg, 0) // the line of the program that wrote it doesn't matter
		r.AddAttrs(l.attrs...)
		_ = to.Handler().Handle(ctx, r) // as above
	}
	clear(l.attrs)
	l.attrs = l.attrs[:0]
	linePool.Put(l)
}

// WebEnded implements report.Observer. It writes the line of a request to the web server.
func (o *Log) WebEnded(w *report.WebInfo) {
	level, enabled := o.levelOf(w.Reason, false)
	if !enabled {
		return
	}
	l := newLine()
	l.add(slog.String("request_id", w.ID))
	l.add(slog.String("request", w.Request))
	l.add(slog.String("peer", w.Peer))
	l.addSet(slog.String("client", w.Client))
	l.addSet(slog.String("listener", w.Listener))
	l.add(slog.Int64("status", int64(w.Status)))
	l.add(slog.String("origin", w.Origin))
	l.addSet(slog.String("reason", string(w.Reason)))
	l.add(slog.Bool("websocket", w.WebSocket))
	l.add(slog.Int64("bytes_in", w.BytesIn))
	l.add(slog.Int64("bytes_out", w.BytesOut))
	l.add(slog.Float64("duration_ms", float64(w.Duration.Microseconds())/1000))
	l.addSet(slog.String("cause", w.Cause))
	l.write(context.Background(), o.log, level, "web request") // as above
}

// bounded returns a text of a client, such as a token's subject, in the length for a line. The
// handler escapes characters that can't be printed.
func bounded(text string) string {
	if len(text) <= rules.MaxLogValueBytes {
		return text
	}
	return strings.ToValidUTF8(text[:rules.MaxLogValueBytes], "") + "…"
}

// ConnBegan implements report.Observer.
func (o *Log) ConnBegan(c report.ConnInfo) {
	if o.debugs() {
		o.log.LogAttrs(context.Background(), slog.LevelDebug, "connection began", ofConn(c)...)
	}
}

// debugs reports whether there are lines at debug level. LogAttrs asks, too, but only once
// it has the attributes.
func (o *Log) debugs() bool { return o.log.Enabled(context.Background(), slog.LevelDebug) }

// ConnEnded writes a line above debug level about a client that floods, is slow, or
// breaks the protocol. Anybody on the internet can cause such a line, so only a few
// are written: each has the number of those left out before it, which are at debug
// level.
func (o *Log) ConnEnded(c report.ConnInfo) {
	if c.Ended == report.EndedOrderly && !o.debugs() {
		return
	}
	attrs := ofConn(c)
	level := slog.LevelDebug
	switch c.Ended {
	case report.EndedFlood:
		level = slog.LevelWarn
	case report.EndedSlow, report.EndedProtocol, report.EndedUnauthenticated:
		level = slog.LevelInfo
	}
	if c.Ended != report.EndedOrderly {
		attrs = append(attrs, slog.String("reason", c.Ended))
	}
	if c.Cause != "" {
		attrs = append(attrs, slog.String("cause", c.Cause))
	}
	if c.Ended == report.EndedProbe {
		o.mu.Lock()
		o.probes++
		o.mu.Unlock()
	}
	if level > slog.LevelDebug {
		told, muted, probes := o.tell()
		if told {
			attrs = append(attrs, slog.Int("not_logged", muted))
			if probes > 0 {
				attrs = append(attrs, slog.Int("probes", probes))
			}
		} else {
			level = slog.LevelDebug
		}
	}
	o.log.LogAttrs(context.Background(), level, "connection ended", attrs...)
}

// tell reports whether a line may be written about a bad end. If so, it also
// returns how many lines were left out since the last one, and how many probes
// there were.
func (o *Log) tell() (may bool, muted, probes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.limit.Allow() {
		o.muted++
		return false, 0, 0
	}
	muted, probes = o.muted, o.probes
	o.muted, o.probes = 0, 0
	return true, muted, probes
}

func ofConn(c report.ConnInfo) []slog.Attr {
	attrs := make([]slog.Attr, 0, 5)
	attrs = append(attrs, slog.String("peer", c.Peer))
	if c.Listener != "" {
		attrs = append(attrs, slog.String("listener", c.Listener))
	}
	return append(attrs, slog.Bool("tunnel", c.Tunnel))
}

// SetBegin sets whether the begin of a call has a line, while calls run. At debug level it
// has one anyway.
func (o *Log) SetBegin(on bool) { o.begins.Store(on) }

// CallBegan takes the values of the fields, and writes the line of the begin, for calls that
// last.
func (o *Log) CallBegan(ctx context.Context, c *report.CallInfo, md metadata.MD) report.CallObserver {
	var fields []slog.Attr
	if f := o.fields.Load(); f != nil {
		fields = f.of(c, md)
	}
	if o.begins.Load() || o.log.Enabled(ctx, slog.LevelDebug) {
		o.begin(ctx, c, fields)
	}
	if fields == nil {
		return call{o}
	}
	c.Kept += keptBytes(fields)
	return &callWithFields{call{o}, fields}
}

// begin writes the line of a call's begin. A method of which most calls have no line at their
// end has none at their begin, when nobody knows yet how they will end.
func (o *Log) begin(ctx context.Context, c *report.CallInfo, fields []slog.Attr) {
	level := slog.LevelDebug
	if o.begins.Load() && !c.Own && !o.leavesOut(c.Method) {
		level = slog.LevelInfo
	}
	if !o.log.Enabled(ctx, level) {
		return
	}
	l := newLine()
	l.addCall(c)
	l.attrs = append(l.attrs, fields...)
	l.write(ctx, o.log, level, "call began")
}

// Certificate writes a line about a certificate in use, when it is loaded, when its
// end is near and when it has expired: a warning if somebody should have replaced
// it by now.
func (o *Log) Certificate(c report.CertificateInfo) {
	level, msg := slog.LevelInfo, "certificate in use"
	switch {
	case time.Now().After(c.NotAfter):
		level, msg = slog.LevelWarn, "certificate expired: clients refuse it"
	case c.Ending:
		level, msg = slog.LevelWarn, "certificate expires soon: renew it"
	}
	//nolint:sloglint // the messages are constants, a few lines above
	o.log.LogAttrs(context.Background(), level, msg,
		slog.String("file", c.File),
		slog.String("names", strings.Join(c.Names, " ")),
		slog.Time("not_after", c.NotAfter.UTC()),
	)
}

// Refused implements report.Observer. The bridge itself writes refusals, at a
// limited rate.
func (o *Log) Refused(report.Refusal) {}
