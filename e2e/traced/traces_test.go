package traced

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	clientTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientSpan  = "00f067aa0ba902b7"
	fromClient  = "00-" + clientTrace + "-" + clientSpan + "-01"
)

func call(t *testing.T, way, address string, md map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := ways[way](ctx, address, md); err != nil {
		t.Fatalf("%s: %v", way, err)
	}
}

// A made is a call that was made.
type made struct {
	way, id string
	md      metadata.MD // that the backend got
}

// callAll makes a call over each transport.
func callAll(t *testing.T, p *program, b *tracedBackend, md map[string]string) (all []made) {
	t.Helper()
	for way := range ways {
		id := strings.NewReplacer(" ", "-", "+", "-").Replace(way)
		sent := maps.Clone(md)
		sent["x-request-id"] = id
		call(t, way, p.address, sent)
		all = append(all, made{way, id, <-b.calls})
	}
	return all
}

// TestParentsAndChildren: over each transport, and each protocol to the receiver, the client's
// span is the parent of culvert's, and that of the backend's.
func TestParentsAndChildren(t *testing.T) {
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		for _, compression := range []string{"none", "gzip"} {
			t.Run(protocol+" "+compression, func(t *testing.T) {
				t.Parallel()
				r := startReceiver(t, nil)
				b := startBackend(t, r)
				p := startCulvert(t, b.address, fmt.Sprintf("trusted_proxies: [127.0.0.1]\notlp: {traces: %q, protocol: %s, compression: %s, service: edge}\ntraces: {ratio: 0}\n", r.at(protocol), protocol, compression))
				for _, c := range callAll(t, p, b, map[string]string{"traceparent": fromClient, "tracestate": "vendor=1"}) {
					own := r.find(t, "of culvert", func(s span) bool { return s.service == "edge" && s.attribute("culvert.call_id") == c.id })
					transport, _, _ := strings.Cut(c.way, " ")
					if own.TraceID().String() != clientTrace || own.ParentSpanID().String() != clientSpan || own.Kind() != ptrace.SpanKindServer || own.TraceState().AsRaw() != "vendor=1" ||
						own.Name() != method || own.attribute("culvert.transport") != transport || own.attribute("rpc.status_code") != "OK" || own.attribute("culvert.messages_out") != "1" {
						t.Errorf("%s: culvert's span is %s in %s below %s: %q %v", c.way, own.SpanID(), own.TraceID(), own.ParentSpanID(), own.Name(), own.Attributes().AsRaw())
					}
					messages := slices.DeleteFunc(own.events(), func(name string) bool { return name != "culvert.first_message" })
					if own.EndTimestamp() < own.StartTimestamp() || len(messages) != 2 {
						t.Errorf("%s: it took from %v to %v, with %q", c.way, own.StartTimestamp(), own.EndTimestamp(), own.events())
					}
					if got := c.md["tracestate"]; !slices.Equal(got, []string{"vendor=1"}) {
						t.Errorf("%s: the backend's tracestate is %q", c.way, got)
					}
					r.find(t, "of the backend", func(s span) bool {
						return s.service == "backend" && s.TraceID() == own.TraceID() && s.ParentSpanID() == own.SpanID()
					})
					line := p.loggedLike(t, "call", func(l map[string]any) bool { return l["call_id"] == c.id })
					if line["trace_id"] != clientTrace || line["span_id"] != own.SpanID().String() {
						t.Errorf("%s: the log has %v", c.way, line)
					}
				}
			})
		}
	}
}

// TestStrangersAreLinked: a client that isn't trusted neither chooses what is sampled nor puts
// culvert's span into its trace, and its baggage doesn't cross.
func TestStrangersAreLinked(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, nil)
	b := startBackend(t, r)
	p := startCulvert(t, b.address, fmt.Sprintf("otlp: {traces: %q, service: edge}\ntraces: {ratio: 1, upstream_span: true, baggage: [tenant]}\n", r.http))
	for _, c := range callAll(t, p, b, map[string]string{"traceparent": fromClient, "tracestate": "vendor=1", "baggage": "user=1,tenant=2"}) {
		if c.md["tracestate"] != nil || !slices.Equal(c.md["baggage"], []string{"tenant=2"}) {
			t.Errorf("%s: the backend got %v", c.way, c.md)
		}
		own := r.find(t, "of culvert", func(s span) bool { return s.attribute("culvert.call_id") == c.id })
		if own.TraceID().String() == clientTrace || !own.ParentSpanID().IsEmpty() || own.Links().Len() != 1 {
			t.Fatalf("%s: culvert's span is in %s below %s, with %d links", c.way, own.TraceID(), own.ParentSpanID(), own.Links().Len())
		}
		if l := own.Links().At(0); l.TraceID().String() != clientTrace || l.SpanID().String() != clientSpan || l.TraceState().AsRaw() != "vendor=1" {
			t.Errorf("%s: it links to %s in %s", c.way, l.SpanID(), l.TraceID())
		}
		client := r.find(t, "towards the backend", func(s span) bool { return s.Kind() == ptrace.SpanKindClient && s.ParentSpanID() == own.SpanID() })
		r.find(t, "of the backend", func(s span) bool {
			return s.service == "backend" && s.TraceID() == own.TraceID() && s.ParentSpanID() == client.SpanID()
		})
	}
}

// TestStrangersBehindATrustedProxy: the proxy vouches for what it passes on. It doesn't see what is
// in a WebSocket or in a tunnel, so there the client's context counts as a stranger's.
func TestStrangersBehindATrustedProxy(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, nil)
	b := startBackend(t, r)
	p := startCulvert(t, b.address, fmt.Sprintf("trusted_proxies: [127.0.0.1]\notlp: {traces: %q, service: edge}\ntraces: {ratio: 1}\n", r.http))
	for _, c := range callAll(t, p, b, map[string]string{"traceparent": fromClient, "tracestate": "vendor=1", "x-forwarded-for": "203.0.113.7"}) {
		own := r.find(t, "of culvert", func(s span) bool { return s.attribute("culvert.call_id") == c.id })
		unseen := c.way == "grpc-websockets" || strings.HasPrefix(c.way, "h2ts")
		if own.ParentSpanID().IsEmpty() != unseen || (own.Links().Len() == 1) != unseen || own.attribute("client.address") != "203.0.113.7" || (c.md["tracestate"] == nil) != unseen {
			t.Errorf("%s: the span of %s is below %q, with %d links, and the backend got %v", c.way, own.attribute("client.address"), own.ParentSpanID(), own.Links().Len(), c.md)
		}
	}
}

// TestWithoutTraces: all that the client sends crosses.
func TestWithoutTraces(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, nil)
	b := startBackend(t, r)
	p := startCulvert(t, b.address, "")
	for _, c := range callAll(t, p, b, map[string]string{"traceparent": fromClient, "tracestate": "vendor=1", "baggage": "user=1"}) {
		if !slices.Equal(c.md["traceparent"], []string{fromClient}) || !slices.Equal(c.md["tracestate"], []string{"vendor=1"}) || !slices.Equal(c.md["baggage"], []string{"user=1"}) {
			t.Errorf("%s: the backend got %v", c.way, c.md)
		}
	}
}

// TestStandardVariables turn traces on, and what waits is exported before culvert ends.
func TestStandardVariables(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, nil)
	b := startBackend(t, r)
	p := startCulvert(t, b.address, "", "OTEL_EXPORTER_OTLP_ENDPOINT="+r.http, "OTEL_SERVICE_NAME=standard", "OTEL_EXPORTER_OTLP_HEADERS=authorization=hunter2")
	call(t, "grpc-web", p.address, nil)
	p.stop(t)
	r.find(t, "of culvert", func(s span) bool { return s.service == "standard" })
	for _, l := range p.lines {
		if strings.Contains(fmt.Sprint(l), "hunter2") {
			t.Errorf("the log shows a header: %v", l)
		}
	}
}

// TestErrorsAreExported although the call isn't sampled, which the backend was told.
func TestErrorsAreExported(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, nil)
	p := startCulvert(t, freeAddress(t), fmt.Sprintf("otlp: {traces: %q, protocol: grpc}\ntraces: {ratio: 0, errors: true}\n", r.grpc))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := ways["grpc"](ctx, p.address, map[string]string{"x-request-id": "failed"}); status.Code(err) != codes.Unavailable {
		t.Fatalf("the call ended with %v", err)
	}
	p.stop(t)
	s := r.find(t, "of culvert", func(s span) bool { return s.attribute("culvert.call_id") == "failed" })
	if s.Status().Code() != ptrace.StatusCodeError || s.attribute("error.type") != "UNAVAILABLE" || s.attribute("culvert.origin") != "culvert" || s.attribute("culvert.reason") == "" {
		t.Errorf("its span is %v, %v", s.Status().Code(), s.Attributes().AsRaw())
	}
}

// TestRefusedCallsHaveNoClientSpan: culvert asks no backend, so a map of services shows no call.
func TestRefusedCallsHaveNoClientSpan(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, nil)
	b := startBackend(t, r)
	p := startCulvert(t, b.address, fmt.Sprintf("otlp: {traces: %q, service: edge}\ntraces: {upstream_span: true}\n", r.http))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.address+"/no.such.Service/Method", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Request-Id", "refused")
	if answer, err := exchange(request); err == nil {
		t.Fatalf("the answer is %q", answer)
	}
	call(t, "grpc", p.address, nil)
	p.stop(t)
	refused := r.find(t, "of the refused call", func(s span) bool { return s.attribute("culvert.call_id") == "refused" })
	if refused.attribute("rpc.method") != "_OTHER" || refused.Name() != "grpc" || refused.attribute("culvert.origin") != "culvert" || refused.attribute("culvert.backend") == "" {
		t.Errorf("the span of a refused call is %q %v", refused.Name(), refused.Attributes().AsRaw())
	}
	r.find(t, "towards the backend", func(s span) bool { return s.Kind() == ptrace.SpanKindClient })
	for _, s := range r.spans {
		if s.ParentSpanID() == refused.SpanID() {
			t.Errorf("a refused call has the span %q %v", s.Name(), s.Attributes().AsRaw())
		}
	}
}

// TestReload changes which calls are sampled, and no receiver.
func TestReload(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, nil)
	b := startBackend(t, r)
	const config = "otlp: {traces: %q, service: edge}\ntraces: {ratio: %d}\n"
	p := startCulvert(t, b.address, fmt.Sprintf(config, r.http, 0))
	made := func(id string) map[string]any {
		call(t, "grpc-web", p.address, map[string]string{"x-request-id": id})
		if md := <-b.calls; (md["traceparent"] != nil) != (id == "after") {
			t.Errorf("%s: the backend got %v", id, md)
		}
		return p.loggedLike(t, "call", func(l map[string]any) bool { return l["call_id"] == id })
	}
	if line := made("before"); line["trace_id"] != nil {
		t.Errorf("before the reload, the log has %v", line)
	}
	change := func(text, msg string) map[string]any {
		replaceFile(t, p.file, text)
		return p.logged(t, msg)
	}
	change(fmt.Sprintf(config, r.http, 1), "configuration reloaded")
	if line := made("after"); line["trace_id"] == nil {
		t.Errorf("after the reload, the log has %v", line)
	}
	r.find(t, "of the call after the reload", func(s span) bool { return s.attribute("culvert.call_id") == "after" })
	if line := change(fmt.Sprintf(config, r.grpc, 1), "configuration not reloaded"); !strings.Contains(fmt.Sprint(line["cause"]), "otlp.traces") {
		t.Errorf("another receiver: the log has %v", line)
	}
}

// TestTokensChange: a token that the receivers want can have a new value while culvert runs.
func TestTokensChange(t *testing.T) {
	t.Parallel()
	type request struct{ path, token string }
	requests := make(chan request, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		requests <- request{r.URL.Path, r.Header.Get("Authorization")}
	}))
	defer receiver.Close()
	b := startBackend(t, startReceiver(t, nil))
	token := filepath.Join(t.TempDir(), "otlp.token")
	replaceFile(t, token, "first\n")
	p := startCulvert(t, b.address, fmt.Sprintf("otlp: {endpoint: %q, metrics_interval: 1s, headers: [{name: authorization, value: 'file:%s'}]}\n", receiver.URL, token))
	for _, want := range []string{"first", "second"} {
		call(t, "grpc-web", p.address, nil)
		<-b.calls
		last := map[string]string{} // tokens, by path
		for late := time.After(patience); last["/v1/traces"] != want || last["/v1/metrics"] != want || last["/v1/logs"] != want; {
			select {
			case r := <-requests:
				last[r.path] = r.token
			case <-late:
				t.Fatalf("the receivers got the tokens %v, want %q", last, want)
			}
		}
		if want == "first" {
			replaceFile(t, token, "second\n")
			p.logged(t, "configuration reloaded")
		}
	}
}

// TestRetriesAndWaitsAreEvents: of the span of a call that was sent again, and of one that waited
// for a place.
func TestRetriesAndWaitsAreEvents(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, nil)
	b := startBackend(t, r, grpc.MaxConcurrentStreams(1))
	p := startCulvert(t, b.address, fmt.Sprintf(`
backend: {max_connections: 1}
connect: {json: pass}
routes: [{name: all, backend: default, retry: {attempts: 2, backoff: 1ms}}]
otlp: {traces: %q}
`, r.http))
	call(t, "grpc", p.address, map[string]string{"x-request-id": "retried"})
	s := r.find(t, "of the retried call", func(s span) bool { return s.attribute("culvert.call_id") == "retried" })
	if got := s.events(); !slices.Contains(got, "culvert.retry") || slices.Contains(got, "culvert.wait") {
		t.Errorf("its events are %q", got)
	}
	ended := make(chan struct{}, 2)
	for _, id := range []string{"held", "waits"} {
		go func() {
			call(t, "grpc-web", p.address, map[string]string{"x-request-id": id})
			ended <- struct{}{}
		}()
		for id == "held" && (<-b.calls)["x-request-id"][0] != id { // the attempts of the call before come first
			continue
		}
	}
	for late := time.Now().Add(patience); p.metric(t, `culvert_backend_waiting_calls{backend="default"}`) != "1"; {
		if time.Now().After(late) {
			t.Fatal("no call waits")
		}
	}
	close(b.goOn)
	<-ended
	<-ended
	s = r.find(t, "of the call that waited", func(s span) bool { return s.attribute("culvert.call_id") == "waits" })
	if got := s.events(); !slices.Contains(got, "culvert.wait place") {
		t.Errorf("its events are %q", got)
	}
}
