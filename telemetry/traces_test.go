package telemetry

import (
	"bytes"
	"context"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A memoryReceiver keeps requests.
type memoryReceiver struct {
	mu       sync.Mutex
	requests [][]byte
}

func (r *memoryReceiver) send(_ context.Context, request []byte) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, request)
	return 0, nil
}

func (*memoryReceiver) close() {}

// tracing returns Traces that export into memory. spans ends them, and returns what they exported.
func tracing(t *testing.T, rules TraceRules) (traces *Traces, spans func() []readSpan) {
	t.Helper()
	r := &memoryReceiver{}
	to := Receiver{Service: "edge", Version: "v1", Attributes: map[string]string{"deployment.environment.name": "prod"}}
	traces = &Traces{queue: newItemQueue()}
	traces.queue.start(&exporter{signal: signalTraces, to: r, source: to.source(), limit: time.Minute, log: slog.New(slog.DiscardHandler)})
	traces.SetRules(rules)
	return traces, func() (all []readSpan) {
		traces.Close(time.Minute)
		for _, request := range r.requests {
			spans, resource := readRequest(t, request)
			all = append(all, spans...)
			if resource["service.name"] != "edge" || resource["service.version"] != "v1" || resource["deployment.environment.name"] != "prod" || len(resource) != 3 {
				t.Errorf("the resource is %v", resource)
			}
		}
		return all
	}
}

// anOrder is a call that ended well.
func anOrder() *report.CallInfo {
	return &report.CallInfo{
		ID: "call-1", Transport: "grpc-web", Method: "/shop.v1.Orders/Get", Peer: "192.0.2.7:4711", Authority: "shop.example.com:443",
		Begin: time.Now(), Route: "orders", Backend: "default", Duration: time.Second, Origin: report.OriginUpstream,
		MessagesIn: 1, MessagesOut: 2, BytesIn: 10, BytesOut: 20,
	}
}

// pass takes a call from its beginning to its end.
func pass(t *Traces, c *report.CallInfo, md metadata.MD) {
	o := t.CallBegan(context.Background(), c, md)
	if o == nil {
		return
	}
	if c.Origin == report.OriginUpstream {
		c.Trace.Note(report.Called)
	}
	o.Header(nil)
	if c.MessagesIn > 0 {
		o.Message(report.Request, 10)
	}
	if c.MessagesOut > 0 {
		o.Message(report.Response, 10)
	}
	o.Ended(c)
}

func TestSpanOfACall(t *testing.T) {
	traces, spans := tracing(t, TraceRules{Ratio: 1})
	c, md := anOrder(), metadata.MD{}
	pass(traces, c, md)
	all := spans()
	if len(all) != 1 {
		t.Fatalf("%d spans, want 1", len(all))
	}
	s := all[0]
	want := map[string]string{
		"rpc.system.name": "grpc", "rpc.method": "shop.v1.Orders/Get", "rpc.status_code": "OK",
		"server.address": "shop.example.com", "server.port": "443", "client.address": "192.0.2.7", "client.port": "4711",
		"culvert.call_id": "call-1", "culvert.transport": "grpc-web", "culvert.route": "orders", "culvert.backend": "default", "culvert.origin": "upstream",
		"culvert.messages_in": "1", "culvert.messages_out": "2", "culvert.bytes_in": "10", "culvert.bytes_out": "20",
	}
	for name, value := range want {
		if s.attributes[name] != value {
			t.Errorf("%s is %q, want %q", name, s.attributes[name], value)
		}
	}
	if len(s.attributes) != len(want) {
		t.Errorf("%d attributes, want %d: %v", len(s.attributes), len(want), s.attributes)
	}
	if s.name != "shop.v1.Orders/Get" || s.kind != kindServer || s.failed || s.flags != flagSampled|flagKnowsRemote {
		t.Errorf("it is %+v", s)
	}
	if s.start != uint64(c.Begin.UnixNano()) || s.end-s.start != uint64(time.Second) {
		t.Errorf("it took from %v to %v", s.start, s.end)
	}
	if len(s.events) != 2 || s.events[0].attributes["culvert.direction"] != "in" || s.events[1].attributes["culvert.direction"] != "out" || s.events[0].at <= s.start || s.events[0].name != "culvert.first_message" {
		t.Errorf("its events are %v", s.events)
	}
	parent, ok := parentIn(md)
	if !ok || !parent.sampled || hex.EncodeToString(parent.trace[:]) != s.trace || hex.EncodeToString(parent.span[:]) != s.id {
		t.Errorf("the backend got %q, and the span is %+v", md[traceparent], s)
	}
	if c.Trace == nil || c.Trace.ID != parent.trace || c.Trace.Span != parent.span || !c.Trace.Sampled {
		t.Errorf("the call has %+v", c.Trace)
	}
}

// TestWhoseContextCounts: that of a trusted caller is the parent; that of others is a link, and
// their choice to sample doesn't count.
func TestWhoseContextCounts(t *testing.T) {
	unsampled := strings.TrimSuffix(aParent, "1") + "0"
	for _, c := range []struct {
		name           string
		trusted        bool
		ratio          float64
		errors, tell   bool
		parent         []string
		spans          int
		child, link    bool
		sent, stateful bool // traceparent, tracestate to the backend
	}{
		{"trusted, sampled", true, 0, false, false, []string{aParent}, 1, true, false, true, true},
		{"trusted, not sampled", true, 1, false, false, []string{unsampled}, 0, true, false, true, true},
		{"trusted, malformed", true, 1, false, false, []string{"00-1-2-01"}, 1, false, false, true, false},
		{"trusted, twice", true, 1, false, false, []string{aParent, aParent}, 1, false, false, true, false},
		{"stranger, all", false, 1, false, false, []string{aParent}, 1, false, true, true, false},
		{"stranger, none", false, 0, false, false, []string{aParent}, 0, false, false, true, false},
		{"stranger, errors", false, 0, true, false, []string{aParent}, 0, false, false, true, false},
		{"no context, all", false, 1, false, false, nil, 1, false, false, true, false},
		{"no context, told", false, 0, false, true, nil, 0, false, false, true, false},
		{"no context, none", true, 0, false, false, nil, 0, false, false, false, false},
		{"no context, errors", true, 0, true, false, nil, 0, false, false, true, false},
	} {
		traces, spans := tracing(t, TraceRules{Ratio: c.ratio, Errors: c.errors, Unsampled: c.tell})
		call, md := anOrder(), metadata.MD{tracestate: {"vendor=1"}, "other": {"x"}}
		call.Trusted = c.trusted
		if c.parent != nil {
			md[traceparent] = c.parent
		}
		pass(traces, call, md)
		all := spans()
		if len(all) != c.spans {
			t.Errorf("%s: %d spans, want %d", c.name, len(all), c.spans)
			continue
		}
		sent, has := parentIn(md)
		came, _ := parseParent(aParent)
		if has != c.sent || has && (sent.trace == came.trace) != c.child || sent.span == came.span || len(md["other"]) != 1 {
			t.Errorf("%s: the backend gets %v", c.name, md)
		}
		if _, stateful := md[tracestate]; stateful != c.stateful {
			t.Errorf("%s: the backend gets the state %q", c.name, md[tracestate])
		}
		for _, s := range all {
			if (s.parent != "") != c.child || (len(s.links) == 1) != c.link {
				t.Errorf("%s: its parent is %q, its links %q", c.name, s.parent, s.links)
			}
			if c.child && (s.parent != hex.EncodeToString(came.span[:]) || s.state != "vendor=1" || s.flags != flagSampled|flagKnowsRemote|flagRemote) {
				t.Errorf("%s: it is %+v", c.name, s)
			}
			if c.link && s.links[0] != "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7 vendor=1 301" {
				t.Errorf("%s: it links to %q", c.name, s.links)
			}
		}
	}
}

// TestErrorsAreExported: a call that fails has a span although it isn't sampled, and the backend
// was told that it isn't.
func TestErrorsAreExported(t *testing.T) {
	for code, want := range map[codes.Code]bool{
		codes.OK: false, codes.NotFound: false, codes.Canceled: false, codes.Unavailable: true, codes.Internal: true, codes.Unknown: true, 99: true,
	} {
		traces, spans := tracing(t, TraceRules{Errors: true})
		c, md := anOrder(), metadata.MD{}
		c.Code = code
		pass(traces, c, md)
		all := spans()
		if len(all) > 0 != want {
			t.Errorf("%v: %d spans, want some: %t", code, len(all), want)
		}
		if parent, ok := parentIn(md); !ok || parent.sampled || c.Trace.Sampled {
			t.Errorf("%v: the backend was told %q", code, md[traceparent])
		}
		for _, s := range all {
			if !s.failed || s.attributes["error.type"] == "" || s.flags&flagSampled == 0 {
				t.Errorf("%v: it is %+v", code, s)
			}
		}
	}
}

// TestUnknownMethodsHaveNoNames: a client can call any name.
func TestUnknownMethodsHaveNoNames(t *testing.T) {
	traces, spans := tracing(t, TraceRules{Ratio: 1})
	c := anOrder()
	c.Method, c.Code, c.MessagesOut = "/"+strings.Repeat("x", 10_000), codes.Unimplemented, 0
	pass(traces, c, metadata.MD{})
	known := anOrder()
	pass(traces, known, metadata.MD{})
	known = anOrder()
	known.Code, known.Origin, known.MessagesOut = codes.Unavailable, report.OriginCulvert, 0
	pass(traces, known, metadata.MD{})
	own := anOrder()
	own.Own, own.Method, own.Code, own.Origin, own.MessagesOut = true, "/culvert.v1.Path/Nonsense", codes.Unimplemented, report.OriginCulvert, 0
	pass(traces, own, metadata.MD{})
	all := spans()
	if got := all[3]; got.name != "grpc" || got.attributes["rpc.method"] != "_OTHER" {
		t.Errorf("an unknown method of culvert's own service is %q, %v", got.name, got.attributes)
	}
	if got := all[0].attributes; all[0].name != "grpc" || got["rpc.method"] != "_OTHER" || len(got["rpc.method_original"]) > attributeBytes+len("…") {
		t.Errorf("an unknown method is %q, %.400v", all[0].name, got)
	}
	if all[2].name != "shop.v1.Orders/Get" {
		t.Errorf("the span of a method that has shown to be known is %q", all[2].name)
	}
}

// TestClientSpan: the backend's parent is then the CLIENT span.
func TestClientSpan(t *testing.T) {
	traces, spans := tracing(t, TraceRules{Ratio: 1, Upstream: true})
	c, md := anOrder(), metadata.MD{traceparent: {aParent}}
	c.Trusted, c.Code = true, codes.NotFound
	pass(traces, c, md)
	all := spans()
	if len(all) != 2 {
		t.Fatalf("%d spans, want 2", len(all))
	}
	server, client := all[0], all[1]
	sent, _ := parentIn(md)
	if client.kind != kindClient || client.parent != server.id || client.id != hex.EncodeToString(sent.span[:]) || client.trace != server.trace || client.flags != flagSampled|flagKnowsRemote {
		t.Errorf("the backend's parent is %v, the spans are %+v and %+v", sent, server, client)
	}
	if server.failed || !client.failed {
		t.Errorf("NOT_FOUND is an error for the client: %t, and one of the backend: %t", server.failed, client.failed)
	}
	if hex.EncodeToString(c.Trace.Span[:]) != server.id {
		t.Errorf("the call has the span %x", c.Trace.Span)
	}
}

// TestClientSpanIsOfACall: it begins with the call to the backend, and there is none if culvert
// has refused the call before.
func TestClientSpanIsOfACall(t *testing.T) {
	traces, spans := tracing(t, TraceRules{Ratio: 1, Upstream: true})
	refused := anOrder() // for a backend, such as a call whose message can't be converted
	refused.Origin, refused.Code, refused.MessagesOut = report.OriginCulvert, codes.InvalidArgument, 0
	pass(traces, refused, metadata.MD{})
	c := anOrder()
	o := traces.CallBegan(t.Context(), c, metadata.MD{})
	c.Trace.Steps.Step(report.Step{What: report.Called, Began: c.Begin.Add(300 * time.Millisecond)})
	o.Ended(c)
	all := spans()
	if len(all) != 3 || all[0].kind != kindServer || all[1].kind != kindServer || all[2].kind != kindClient {
		t.Fatalf("the spans are %+v", all)
	}
	if client := all[2]; client.start != uint64(c.Begin.Add(300*time.Millisecond).UnixNano()) || client.end != all[1].end || len(all[1].events) != 0 {
		t.Errorf("the call to the backend took from %v to %v: %+v", client.start, client.end, all[1])
	}
}

// TestSampledShare: about the ratio, decided by the trace's id.
func TestSampledShare(t *testing.T) {
	traces, spans := tracing(t, TraceRules{Ratio: 0.25})
	defer spans()
	const calls = 20_000
	sampled := 0
	for range calls {
		c := anOrder()
		traces.CallBegan(t.Context(), c, metadata.MD{})
		if c.Trace != nil && c.Trace.Sampled {
			sampled++
		}
	}
	if share := float64(sampled) / calls; share < 0.22 || share > 0.28 { // eight standard deviations
		t.Errorf("%v of the calls are sampled", share)
	}
}

// TestRulesChangeWhileCallsRun, and the end comes: each span counts once.
func TestRulesChangeWhileCallsRun(t *testing.T) {
	traces, spans := tracing(t, TraceRules{Ratio: 1})
	const callers, calls = 4, 500
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range calls {
				pass(traces, anOrder(), metadata.MD{traceparent: {aParent}, baggage: {"user=1,tenant=2"}})
			}
		})
	}
	all.Go(func() {
		for i := range calls {
			traces.SetRules(TraceRules{Ratio: 1, Errors: i%2 == 0, Baggage: []string{"user", "tenant"}[i%3%2:]})
		}
	})
	all.Go(func() { spans() })
	all.Wait()
	if got := traces.Exports(); got.Exported+got.Overflowed != callers*calls || got.Failed != 0 {
		t.Errorf("of %d spans the counts are %+v", callers*calls, got)
	}
}

// TestStepsAreEvents, up to a bound.
func TestStepsAreEvents(t *testing.T) {
	traces, spans := tracing(t, TraceRules{Ratio: 1})
	c := anOrder()
	o := traces.CallBegan(t.Context(), c, metadata.MD{})
	c.Trace.Note(report.Retried)
	c.Trace.Waited(report.WaitedForRoom, time.Now().Add(-time.Hour))
	for range maxSteps {
		c.Trace.Note(report.Retried)
	}
	o.Ended(c)
	s := spans()[0]
	if len(s.events) != maxSteps || s.dropped != 2 || s.events[0].name != "culvert.retry" || s.events[0].at == 0 {
		t.Fatalf("%d events, %d dropped: %v", len(s.events), s.dropped, s.events)
	}
	if e := s.events[1]; e.name != "culvert.wait" || e.attributes["culvert.for"] != "memory" || !strings.HasPrefix(e.attributes["culvert.microseconds"], "36000") {
		t.Errorf("the wait is %v", e)
	}
}

// TestSpansHaveBounds: whatever a client and an operator call things.
func TestSpansHaveBounds(t *testing.T) {
	traces, spans := tracing(t, TraceRules{Ratio: 1})
	c, long := anOrder(), strings.Repeat("\xff\u00e9", 100_000)
	c.Method, c.Authority, c.Peer = "/"+long, long, long
	state := strings.Repeat("x", maxStateBytes)
	pass(traces, c, metadata.MD{traceparent: {aParent}, tracestate: {state}})
	all := spans()
	if len(all) != 1 || !strings.HasSuffix(all[0].links[0], " "+state+" 301") {
		t.Fatalf("%.2000v", all)
	}
	for name, value := range all[0].attributes {
		if len(value) > attributeBytes+len("…") || strings.ToValidUTF8(value, "") != value {
			t.Errorf("%s has %d bytes: %q", name, len(value), value)
		}
	}
}

// TestUnsampledCallsAllocateNothing: nor does a call with rules that export none.
func TestUnsampledCallsAllocateNothing(t *testing.T) {
	for _, ratio := range []float64{0, 1e-18} {
		traces, spans := tracing(t, TraceRules{Ratio: ratio})
		c, md := anOrder(), metadata.MD{"other": {"x"}}
		if n := testing.AllocsPerRun(100, func() { traces.CallBegan(t.Context(), c, md) }); n != 0 {
			t.Errorf("ratio %v: %v allocations", ratio, n)
		}
		spans()
	}
}

func BenchmarkSampledCall(b *testing.B) {
	traces := &Traces{queue: newItemQueue()}
	traces.queue.start(exporterTo(&memoryReceiver{}, new(bytes.Buffer)))
	traces.SetRules(TraceRules{Ratio: 1})
	defer traces.Close(time.Minute)
	c := anOrder()
	b.ReportAllocs()
	for b.Loop() {
		pass(traces, c, metadata.MD{})
	}
}
