package bridgetest

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// policyScenarios are about the operator's settings, and about the additions and
// refusals of culvert before a call begins.
var policyScenarios = []scenario{
	{"the call's id", 0, callID},
	{"an id that isn't sane", 0, insaneCallID},
	{"path prefix", 0, pathPrefix},
	{"content types", rawHeaders | contentType, contentTypes},
	{"bodies compressed as a whole", rawFrames, compressedBodies},
	{"over a limit", 0, overLimit("limits.calls", func(c *bridge.Config) { c.Limits.Calls = 1 })},
	{"over a limit of the address", 0, overLimit("limits.address.calls", func(c *bridge.Config) { c.Limits.Address.Calls = 1 })},
	{"over a limit of the identity", 0, overLimit("limits.identity.calls", func(c *bridge.Config) {
		c.Authenticator, c.Limits.Identity.Calls = passport{time.Hour}, 1
	})},
	{"over a limit of the method", 0, overLimit("limits.methods[].calls", func(c *bridge.Config) {
		c.MethodLimits = []bridge.MethodQuota{{Pattern: "culvert.test.*/*", Calls: 1}}
	})},
	{"limits that are tried out", 0, triedLimits},
	{"limit on idle time", 0, timeLimit(report.ReasonIdleTimeout, func(c *bridge.Config) { c.Limits.IdleTimeout = 150 * time.Millisecond })},
	{"limit on age", 0, timeLimit(report.ReasonMaxAge, func(c *bridge.Config) { c.Limits.MaxAge = 150 * time.Millisecond })},
	{"an identity that expires", 0, identityExpires},
	{"an identity that has expired", 0, identityHasExpired},
	{"limit on a slow consumer", streamedReplies, slowConsumerLimit},
	{"limit on a slow sender", halfMessages, slowSenderLimit},
	{"transports of a listener", 0, listenerTransports},
	{"nothing is smuggled behind an early answer", rawFrames, nothingSmuggled},
}

// callID: one id in the log, in the answer, at the backend and in culvert's
// own statuses.
func callID(t *trial) {
	t.serve(echo)
	r := t.unary(call{metadata: metadata.Pairs("x-request-id", "request-0042")}, hello)
	t.wantOK(r, hello)
	t.wantValues("request", t.nextCall().metadata, "x-request-id", "request-0042")
	if got := append(r.header["x-request-id"], r.trailer["x-request-id"]...); !slices.Contains(got, "request-0042") {
		t.Errorf("x-request-id of the answer is %q, want request-0042", got)
	}
	t.allEnded(t.observer)
	calls, _, _ := t.observer.ended()
	if len(calls) != 1 || calls[0].ID != "request-0042" {
		t.Errorf("culvert told of the calls %+v, want request-0042", calls)
	}
	if t.transport.label == "grpc-websockets" || t.transport.lacks(anyMethod) != "" {
		return // a refusal doesn't wait for the message that has the id
	}
	r = t.unary(call{method: "/grpc.channelz.v1.Channelz/GetServers", metadata: metadata.Pairs("x-request-id", "request-0043")}, hello)
	t.wantCulvert(r, codes.Unimplemented, report.ReasonNoRoute)
	if got := r.info().GetMetadata()["call_id"]; got != "request-0043" {
		t.Errorf("call_id of the status is %q, want request-0043", got)
	}
}

func insaneCallID(t *trial) {
	t.serve(echo)
	for _, id := range []string{strings.Repeat("x", 5000), "a b\"c", "<script>"} {
		r := t.unary(call{metadata: metadata.Pairs("x-request-id", id)}, hello)
		t.wantOK(r, hello)
		if got := t.nextCall().metadata["x-request-id"]; len(got) != 1 || got[0] == id || got[0] == "" {
			t.Errorf("x-request-id %.40q reached the backend as %.40q", id, got)
		}
	}
}

func pathPrefix(t *trial) {
	t.serve(echo, func(c *bridge.Config) { c.PathPrefix = "/grpc/v1" })
	t.wantOK(t.unary(call{method: "/grpc/v1" + defaultMethod}, hello), hello)
	if got := t.nextCall().method; got != defaultMethod {
		t.Errorf("the backend was asked for %s, want %s", got, defaultMethod)
	}
	t.notThere("/other" + defaultMethod)
	t.notThere("/grpc/v1/grpc/v1" + defaultMethod)
	t.notThere("/grpc/v1")
}

// notThere expects that a path is no method: 404, or UNIMPLEMENTED for a client
// that needs a status.
func (t *trial) notThere(method string) {
	t.Helper()
	r := t.attempt(t.client, call{method: method})
	if r.status != nil && r.status.Code() == codes.Unimplemented {
		return
	}
	if he, ok := errors.AsType[*httpError](r.err); !ok || he.code != http.StatusNotFound {
		t.Errorf("%s: status %v, %v, want HTTP status 404 or UNIMPLEMENTED", method, r.status, r.err)
	}
}

// contentTypes: the answer's type is the request's family without parameters,
// and the messages' codec goes through.
func contentTypes(t *trial) {
	t.serve(echo)
	if t.transport.dialect().isConnect() {
		want := t.transport.dialect().contentType()
		for _, asked := range []string{want, want + "; charset=utf-8", strings.ToUpper(want)} {
			r := t.unary(call{contentType: asked}, hello)
			t.wantOK(r, hello)
			t.wantValues("header", r.header, "content-type", want)
		}
		return
	}
	base, _, _ := strings.Cut(t.transport.dialect().contentType(), "+")
	for asked, want := range map[string]string{
		base: base, base + "+proto": base + "+proto", base + "+thrift": base + "+thrift", base + "+proto; charset=utf-8": base + "+proto",
		base + `+"json"`: base, base + "+<b>": base, base + "+a b": base, base + "+a/b": base, base + "+\xe9": base, // no tokens
	} {
		if want == base && t.transport.dialect() == dialectWeb {
			want = base + "+proto" // what no suffix means
		}
		r := t.unary(call{contentType: asked}, hello)
		t.wantOK(r, hello)
		got := r.header["content-type"]
		if t.transport.label == "grpc-websockets" {
			continue // its header frame always has the one type
		}
		if t.transport.dialect() == dialectGRPC && slices.Equal(got, []string{"application/grpc"}) {
			continue // as good for a native client
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("asked with %q: content-type %q, want %q", asked, got, want)
		}
	}
}

// compressedBodies: HTTP's content-encoding is legal for gRPC-Web.
func compressedBodies(t *trial) {
	if t.transport.dialect() == dialectGRPC || t.transport.label == "grpc-websockets" {
		t.Log("concerns gRPC-Web over HTTP alone")
		return
	}
	t.serve(untilCancelled, smallMessages)
	send := func(coding string, body []byte) result {
		t.Helper()
		s := t.open(call{lines: [][2]string{{"content-encoding", coding}}})
		w := s.stream.(wireSender)
		if h, ok := s.stream.(*http1Stream); ok && h.client.whole && t.transport.dialect() == dialectText {
			h.encoded = true // the text is inside
		}
		_ = w.sendWire(body) // refused already, maybe
		_ = s.stream.closeSend()
		return s.end()
	}
	text := func(b []byte) []byte {
		if t.transport.dialect() == dialectText {
			return []byte(base64.StdEncoding.EncodeToString(b))
		}
		return b
	}
	t.backend.handleNext(echo)
	t.wantOK(send("gzip", parts.Gzipped(text(frame(0, hello)))), hello)
	for _, coding := range []string{"GZIP", "x-gzip", "X-Gzip", "identity, gzip"} {
		t.wantOK(send(coding, parts.Gzipped(text(frame(0, hello)))), hello)
	}
	for _, coding := range []string{"identity", "Identity"} {
		t.wantOK(send(coding, text(frame(0, hello))), hello)
	}
	t.allEnded(t.observer)
	t.backend.handleNext(untilCancelled)
	t.wantTooLarge(send("gzip", parts.Gzipped(text(frame(0, make([]byte, 100*small))))), report.ReasonRequestTooLarge)
	t.wantCulvert(send("gzip", []byte("no gzip")), codes.InvalidArgument, report.ReasonBadRequest)
	whole := parts.Gzipped(text(frame(0, hello)))
	t.wantCulvert(send("gzip", whole[:len(whole)-3]), codes.InvalidArgument, report.ReasonBadRequest)
	t.wantCulvert(send("br", whole), codes.Unimplemented, report.ReasonUnsupportedEncoding)
	for _, c := range t.backend.seen() {
		t.awaitEvent("the backend's call ends", c.ended)
		if c.halfClosed.Load() && c.ctx().Err() == nil {
			t.Error("the backend saw a broken request end well")
		}
	}
}

// overLimit: a call is refused in its own protocol, with the limit's key and the
// retry delay, and the call before it gives its place back.
func overLimit(key string, configure func(*bridge.Config)) func(*trial) {
	return func(t *trial) {
		next := make(chan struct{})
		t.serve(t.lastReply(next), configure)
		first, _ := t.begin(t.client, call{})
		r := t.unary(call{}, hello)
		t.wantCulvert(r, codes.ResourceExhausted, report.ReasonLimitExceeded)
		if got := r.info().GetMetadata()["limit"]; got != key || !strings.Contains(r.status.Message(), "("+key+")") {
			t.Errorf("status %q with the limit %q, want %s in both", r.status.Message(), got, key)
		}
		if got := r.retry(); got <= 0 || got > time.Minute {
			t.Errorf("the client is to try again after %v", got)
		}
		if refused := t.observer.refusals(); len(refused) != 1 || refused[0].Key != key || refused[0].Detail != defaultMethod || refused[0].ReportOnly {
			t.Errorf("culvert told of the refusals %+v, want one for %s", refused, key)
		}
		close(next)
		t.wantOK(first.end(), hello)
		t.allEnded(t.observer)
		again, _ := t.begin(t.client, call{})
		t.wantOK(again.end(), hello)
	}
}

// triedLimits: culvert reports what is over a limit, and lets it pass.
func triedLimits(t *trial) {
	next := make(chan struct{})
	t.serve(t.lastReply(next), func(c *bridge.Config) { c.Limits.Calls, c.TryLimits = 1, true })
	first, _ := t.begin(t.client, call{})
	second, _ := t.begin(t.client, call{})
	close(next)
	t.wantOK(first.end(), hello)
	t.wantOK(second.end(), hello)
	if refused := t.observer.refusals(); len(refused) != 1 || refused[0].Key != "limits.calls" || !refused[0].ReportOnly {
		t.Errorf("culvert told of the refusals %+v, want one for limits.calls that is only a report", refused)
	}
}

// timeLimit: a call that takes too long ends with the reason, at both ends.
// A passport identifies every caller, for a time.
type passport struct{ holds time.Duration }

// Authenticate implements bridge.Authenticator.
func (p passport) Authenticate(context.Context, *bridge.AuthRequest) (*bridge.Identity, error) {
	return &bridge.Identity{Name: "alice", Expires: time.Now().Add(p.holds)}, nil
}

func identityExpires(t *trial) {
	t.serve(trickle(nil), func(c *bridge.Config) { c.Authenticator = passport{time.Second} })
	r := t.unary(call{}, hello)
	t.wantCulvert(r, codes.Unauthenticated, report.ReasonTokenExpired)
	t.wantCancelled(t.nextCall(), goneIsSeen, false)
}

func identityHasExpired(t *trial) {
	t.serve(trickle(nil), func(c *bridge.Config) { c.Authenticator = passport{-time.Second} })
	t.wantCulvert(t.unary(call{}, hello), codes.Unauthenticated, report.ReasonUnauthenticated)
	if n := len(t.backend.seen()); n != 0 {
		t.Errorf("%d calls reached the backend", n)
	}
}

func timeLimit(reason report.Reason, configure func(*bridge.Config)) func(*trial) {
	return func(t *trial) {
		t.serve(trickle(nil), configure)
		r := t.unary(call{}, hello)
		t.wantCulvert(r, codes.Unavailable, reason)
		t.wantSent(r, "maybe")
		t.wantCancelled(t.nextCall(), goneIsSeen, false)
	}
}

// slowSenderLimit: half a message, and then nothing.
func slowSenderLimit(t *trial) {
	t.serve(echo, func(c *bridge.Config) { c.Limits.SlowSenderTimeout = 200 * time.Millisecond })
	s := t.open(call{})
	s.sendHalf()
	t.wantCulvert(s.end(), codes.DeadlineExceeded, report.ReasonSlowSender)
	t.allEnded(t.observer)
	t.nextServed()
}

// slowConsumerLimit: a client that reads nothing can't learn the reason; the log
// has it.
func slowConsumerLimit(t *trial) {
	t.serve(flood, func(c *bridge.Config) { c.Limits.SlowConsumerTimeout = 200 * time.Millisecond })
	s := t.ask(t.slow(), call{})
	s.recv()
	t.wantCancelled(t.nextCall(), goneIsSeen, false)
	s.neverOK("a slow consumer")
	t.allEnded(t.observer)
	calls, _, _ := t.observer.ended()
	if len(calls) != 1 || calls[0].Reason != report.ReasonSlowConsumer {
		t.Errorf("culvert told of %+v, want %s", calls, report.ReasonSlowConsumer)
	}
}

// listenerTransports: a client whose protocol a listener doesn't accept gets the
// refusal in its own dialect, inside a tunnel too.
func listenerTransports(t *trial) {
	t.serve(echo)
	allowed := strings.Split(t.transport.label, "+") // and what it comes in
	t.startClient(t.listenAlso(bridge.Listener{Transports: allowed}))
	t.wantOK(t.unary(call{}, hello), hello)

	refused := allowed[len(allowed)-1]
	others := slices.DeleteFunc(bridge.Transports(), func(name string) bool { return name == refused })
	t.startClient(t.listenAlso(bridge.Listener{Transports: others}))
	r := t.unary(call{}, hello)
	t.wantCulvert(r, codes.Unimplemented, report.ReasonNoRoute)
	if !strings.Contains(r.status.Message(), "listen[].transports") {
		t.Errorf("status %q doesn't name listen[].transports", r.status.Message())
	}
}

// nothingSmuggled: after an early answer, the rest of a body is never served as the
// next request.
func nothingSmuggled(t *trial) {
	if !t.concerns("http1") {
		return
	}
	t.serve(echo)
	inner := fmt.Sprintf("POST /culvert.test.Scenario/Smuggled HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web+proto\r\ncontent-length: %d\r\n\r\n", 5)
	inner += "\x00\x00\x00\x00\x00"
	bad := string(frame(0x02, nil)) // answered at once
	if t.transport.dialect() == dialectText {
		bad = "!!!!"
	}
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: %s\r\n", defaultMethod, t.address, t.transport.dialect().contentType())
	for name, request := range map[string]string{
		"a length beyond the answer":   head + fmt.Sprintf("content-length: %d\r\n\r\n", len(bad)+len(inner)) + bad + inner,
		"chunks beyond the answer":     head + fmt.Sprintf("transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", len(bad), bad, len(inner), inner),
		"a length beside chunks":       head + fmt.Sprintf("content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(bad), bad) + inner,
		"a refused method":             strings.Replace(head, defaultMethod, "/grpc.channelz.v1.Channelz/GetServers", 1) + fmt.Sprintf("transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(inner), inner) + inner,
		"a path that is no method":     strings.Replace(head, defaultMethod, "/nothing", 1) + fmt.Sprintf("content-length: %d\r\n\r\n", len(inner)) + inner,
		"an upgrade that is refused":   strings.Replace(head, "POST", "GET", 1) + "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: other\r\n\r\n" + inner,
		"an upgrade that was stripped": strings.Replace(head, "POST", "GET", 1) + "sec-websocket-version: 13\r\nsec-websocket-protocol: grpc-websockets\r\n\r\n" + inner,
	} {
		conn, err := t.d.dial(t.ctx, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience)) // never on a new connection
		br := bufio.NewReader(conn)
		answers := 0
		for {
			resp, err := http.ReadResponse(br, nil)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: the connection stays open", name)
			}
			if err != nil {
				break // the connection's end
			}
			answers++
			_, _ = io.Copy(io.Discard, resp.Body) // the next ReadResponse tells
			_ = resp.Body.Close()
		}
		_ = conn.Close() // of no more use
		if answers != 1 {
			t.Errorf("%s: %d answers, want 1 and the connection's end", name, answers)
		}
	}
	t.nextServed()
	for _, c := range t.backend.seen() {
		if c.method != defaultMethod {
			t.Errorf("%s reached the backend", c.method)
		}
	}
}
