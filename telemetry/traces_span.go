package telemetry

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A callSpan is the report.CallObserver of a call that may be exported: what its spans need and
// its end doesn't tell.
type callSpan struct {
	carried
	traces   *Traces
	upstream [8]byte     // the CLIENT span; zero: there is none
	parent   [8]byte     // zero: the span begins the trace
	link     spanContext // of an untrusted caller; zero: there is none
	state    string      // of the caller's trace
	begin    time.Time
	first    [2]time.Duration // when the first message passed, by direction; zero: none did
	called   time.Duration    // when the call to the backend began; zero: culvert made none

	mu      sync.Mutex
	steps   []report.Step
	dropped int // steps for which there was no room
}

// maxSteps is the most that a span has. A stream may wait for room with each message.
const maxSteps = 32

// Step implements report.StepObserver.
func (s *callSpan) Step(step report.Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if step.What == report.Called {
		s.called = max(step.Began.Sub(s.begin), 1)
		return
	}
	if len(s.steps) == maxSteps {
		s.dropped++
		return
	}
	s.steps = append(s.steps, step)
}

// attributeBytes is the most that a span holds of a text from outside.
const attributeBytes = 256

// schema is the version of OpenTelemetry's conventions that names of attributes are from.
// https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/
const schema = "https://opentelemetry.io/schemas/1.45.0"

// Header implements report.CallObserver. Spans have no metadata.
func (*callSpan) Header(metadata.MD) {}

// Message notes when the first one passes.
func (s *callSpan) Message(d report.Direction, _ int) {
	if s.first[d] == 0 {
		s.first[d] = max(time.Since(s.begin), 1)
	}
}

// Ended hands the spans to the queue, if the call is sampled or failed.
func (s *callSpan) Ended(c *report.CallInfo) {
	if !s.Sampled && errorType(c.Code) == "" {
		return
	}
	known := c.Own && showsMethod(c.Code) // a client can call any name of culvert's own service, too
	if s.first[report.Response] != 0 || c.Origin == report.OriginUpstream && showsMethod(c.Code) {
		s.traces.learn(c.Method)
		known = true
	}
	known = known || s.traces.knows(c.Method)

	b := itemPool.Get().(*itemBuffer) //nolint:forcetypeassert // nothing else is in the pool
	s.traces.queue.add(s.server(b.m[:0], c, known))
	if s.upstream != [8]byte{} && s.called != 0 && c.Backend != "" { // else no backend was asked
		s.traces.queue.add(s.client(b.m[:0], c, known))
	}
	itemPool.Put(b)
}

func (s *callSpan) server(m message, c *report.CallInfo, known bool) message {
	state, flags := "", uint32(flagSampled|flagKnowsRemote)
	if s.parent != [8]byte{} {
		state, flags = s.state, flags|flagRemote
	}
	m = s.span(m, c, known, s.Span, s.parent, kindServer, s.begin, state)
	failure := errorType(c.Code)
	m = m.attribute(spanAttributes, "error.type", failure)
	m = m.address("server.address", "server.port", c.Authority).address("client.address", "client.port", c.Peer)
	m = m.attribute(spanAttributes, "culvert.call_id", c.ID)
	m = m.attribute(spanAttributes, "culvert.transport", c.Transport)
	m = m.attribute(spanAttributes, "culvert.listener", c.Listener)
	m = m.attribute(spanAttributes, "culvert.route", c.Route)
	m = m.attribute(spanAttributes, "culvert.backend", c.Backend)
	m = m.attribute(spanAttributes, "culvert.origin", c.Origin)
	m = m.attribute(spanAttributes, "culvert.reason", string(c.Reason))
	m = m.attribute(spanAttributes, "culvert.limit", c.Limit)
	m = m.count(spanAttributes, "culvert.messages_in", c.MessagesIn).count(spanAttributes, "culvert.messages_out", c.MessagesOut)
	m = m.count(spanAttributes, "culvert.bytes_in", c.BytesIn).count(spanAttributes, "culvert.bytes_out", c.BytesOut)
	m = s.stepped(m)
	m = s.firstMessage(m, report.Request, "in")
	m = s.firstMessage(m, report.Response, "out")
	if s.link.span != [8]byte{} {
		m = s.linked(m)
	}
	return m.status(failure != "").flags(spanFlags, flags) // an error only if a server is to blame: OpenTelemetry, "gRPC"
}

// client writes the CLIENT span. It names the backend as the server, whose addresses are many
// and change.
func (s *callSpan) client(m message, c *report.CallInfo, known bool) message {
	state := ""
	if s.parent != [8]byte{} {
		state = s.state
	}
	m = s.span(m, c, known, s.upstream, s.Span, kindClient, s.begin.Add(s.called), state)
	if c.Code != codes.OK {
		m = m.attribute(spanAttributes, "error.type", statusName(c.Code))
	}
	m = m.attribute(spanAttributes, "server.address", c.Backend).attribute(spanAttributes, "culvert.backend", c.Backend)
	return m.status(c.Code != codes.OK).flags(spanFlags, flagSampled|flagKnowsRemote)
}

// span writes what both spans of a call have. A client can call any name, so one that no backend
// knows isn't the span's. OpenTelemetry, "RPC spans", "Name". The flag says that the span is
// sampled even if the backend was told otherwise, since a receiver may drop others.
func (s *callSpan) span(m message, c *report.CallInfo, known bool, id, parent [8]byte, kind uint64, begin time.Time, state string) message {
	m = m.bytes(spanTrace, s.ID[:]).bytes(spanID, id[:]).text(spanState, state)
	if parent != [8]byte{} {
		m = m.bytes(spanParent, parent[:])
	}
	method, title := cut(strings.TrimPrefix(c.Method, "/")), "grpc"
	if known {
		title = method
	}
	m = m.text(spanName, title).number(spanKind, kind).at(spanStart, begin).at(spanEnd, s.begin.Add(c.Duration))
	m = m.attribute(spanAttributes, "rpc.system.name", "grpc")
	if known {
		m = m.attribute(spanAttributes, "rpc.method", method)
	} else {
		m = m.attribute(spanAttributes, "rpc.method", other).attribute(spanAttributes, "rpc.method_original", method)
	}
	return m.attribute(spanAttributes, "rpc.status_code", statusName(c.Code))
}

func (s *callSpan) stepped(m message) message {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, step := range s.steps {
		var event int
		m, event = m.begin(spanEvents)
		m = m.at(eventTime, s.begin.Add(step.Began.Sub(s.begin))) // by the clock of the span, which may be set meanwhile
		if step.What == report.Retried {
			m = m.text(eventName, "culvert.retry").end(event)
			continue
		}
		m = m.text(eventName, "culvert.wait").attribute(eventAttributes, "culvert.for", string(step.What))
		m = m.count(eventAttributes, "culvert.microseconds", max(step.Took.Microseconds(), 0)).end(event)
	}
	if s.dropped > 0 {
		m = m.number(spanDroppedEvents, uint64(s.dropped))
	}
	return m
}

func (s *callSpan) firstMessage(m message, d report.Direction, name string) message {
	if s.first[d] == 0 {
		return m
	}
	m, event := m.begin(spanEvents)
	return m.at(eventTime, s.begin.Add(s.first[d])).text(eventName, "culvert.first_message").attribute(eventAttributes, "culvert.direction", name).end(event)
}

// linked writes the link to the span of an untrusted caller.
func (s *callSpan) linked(m message) message {
	flags := uint32(flagKnowsRemote | flagRemote)
	if s.link.sampled {
		flags |= flagSampled
	}
	m, link := m.begin(spanLinks)
	return m.bytes(linkTrace, s.link.trace[:]).bytes(linkID, s.link.span[:]).text(linkState, s.state).flags(linkFlags, flags).end(link)
}

func (m message) status(failed bool) message {
	if !failed {
		return m
	}
	m, status := m.begin(spanStatus)
	return m.number(statusCode, statusError).end(status)
}

// address writes an address and its port, as OpenTelemetry splits them.
func (m message) address(name, portName, address string) message {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return m.attribute(spanAttributes, name, cut(address))
	}
	m = m.attribute(spanAttributes, name, cut(host))
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		m = m.count(spanAttributes, portName, int64(n))
	}
	return m
}

// cut returns a text in the length for an attribute, in UTF-8 as protobuf wants it.
func cut(text string) string {
	if len(text) > attributeBytes {
		text = text[:attributeBytes] + "…"
	}
	return strings.ToValidUTF8(text, "")
}
