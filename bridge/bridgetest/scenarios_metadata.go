package bridgetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

var metadataScenarios = []scenario{
	{"request metadata of many values", 0, requestMetadata},
	{"binary request metadata", 0, binaryRequestMetadata},
	{"joined and padded binary request metadata", rawHeaders, joinedBinaryMetadata},
	{"response metadata of many values", answerHeader, responseMetadata},
	{"binary response metadata", answerHeader, binaryResponseMetadata},
	{"metadata of a header that only a trailer follows", streamedReplies | answerHeader, headerThenTrailer},
	{"metadata of an answer without a header", answerTrailer, trailersOnlyMetadata},
	{"metadata of every printable byte", 0, printableMetadata},
	{"names in capitals", rawHeaders, namesInCapitals},
	{"values that aren't gRPC's", rawHeaders, oddRequestValues},
	{"odd values of the backend", 0, oddResponseValues},
	{"request headers that don't cross", 0, forbiddenRequestMetadata},
	{"hop-by-hop request headers", rawHeaders, hopByHopRequestMetadata},
	{"header that speaks for the connection in a message", rawHeaders, connectionListed},
	{"response headers that don't cross", answerHeader, forbiddenResponseMetadata},
	{"headers that culvert vouches for", 0, vouchedMetadata},
	{"request metadata near the limit", 0, metadataNearTheLimit},
	{"request metadata over the limit", rawHeaders, metadataOverTheLimit},
	{"response metadata over the limit", 0, responseMetadataOverTheLimit},
}

// wantValues compares the values of one key, and their order.
func (t *trial) wantValues(where string, md metadata.MD, key string, want ...string) {
	t.Helper()
	if got := md[key]; !slices.Equal(got, want) {
		t.Errorf("%s: %s is %q, want %q", where, key, got, want)
	}
}

// wantAnswer is wantValues for metadata of the answer, if the transport carries that.
func (t *trial) wantAnswer(where string, md metadata.MD, key string, want ...string) {
	t.Helper()
	if n := map[string]need{"header": answerHeader, "trailer": answerTrailer}[where]; t.transport.lacks(n) == "" {
		t.wantValues(where, md, key, want...)
	}
}

func requestMetadata(t *trial) {
	t.serve(echo)
	t.wantOK(t.unary(call{metadata: metadata.MD{
		"x-many":           {"1", "2", "1", ""},
		"x-comma":          {"a,b", "c, d"},
		"authorization":    {"Bearer t"},
		"x_under-dot.9":    {"v"},
		"x-user-agent-app": {"app/1"},
	}}, hello), hello)
	got := t.nextCall().metadata
	t.wantValues("request", got, "x-many", "1", "2", "1", "")
	t.wantValues("request", got, "x-comma", "a,b", "c, d") // never split: only -bin is
	t.wantValues("request", got, "authorization", "Bearer t")
	t.wantValues("request", got, "x_under-dot.9", "v")
	t.wantValues("request", got, "x-user-agent-app", "app/1")
}

// everyByte is a value that only a -bin key can have.
var everyByte = func() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}()

func binaryRequestMetadata(t *trial) {
	t.serve(echo)
	want := []string{"\x00\x01\x02", "\xff", everyByte, ""}
	t.wantOK(t.unary(call{metadata: metadata.MD{"x-b-bin": want}}, hello), hello)
	t.wantValues("request", t.nextCall().metadata, "x-b-bin", want...)
}

func joinedBinaryMetadata(t *trial) {
	t.serve(echo)
	for _, value := range []string{"AAEC,/w", "AAEC, /w==", "AAEC,/w==", " AAEC , /w "} {
		t.wantOK(t.unary(call{lines: [][2]string{{"x-b-bin", value}}}, hello), hello)
		t.wantValues("sent "+value, t.nextCall().metadata, "x-b-bin", "\x00\x01\x02", "\xff")
	}
}

// answering sends md as header and as trailer around its messages.
func answering(header, trailer metadata.MD) handler {
	return func(c *backendCall) error {
		if err := c.ss.SetHeader(header); err != nil {
			return err
		}
		c.ss.SetTrailer(trailer)
		return echo(c)
	}
}

func responseMetadata(t *trial) {
	t.serve(answering(
		metadata.MD{"x-many": {"1", "2", "1"}, "x-comma": {"a,b", "c, d"}},
		metadata.MD{"x-last": {"3", "4", "3"}, "x-many": {"trailing"}},
	))
	r := t.unary(call{}, hello)
	t.wantOK(r, hello)
	t.wantValues("header", r.header, "x-many", "1", "2", "1")
	t.wantValues("header", r.header, "x-comma", "a,b", "c, d")
	t.wantAnswer("trailer", r.trailer, "x-last", "3", "4", "3")
	t.wantAnswer("trailer", r.trailer, "x-many", "trailing")
	t.wantValues("header", r.header, "x-last")
}

func binaryResponseMetadata(t *trial) {
	want := []string{"\x00\x01\x02", "\xff", everyByte}
	t.serve(answering(metadata.MD{"x-h-bin": want}, metadata.MD{"x-t-bin": want}))
	r := t.unary(call{}, hello)
	t.wantOK(r, hello)
	t.wantValues("header", r.header, "x-h-bin", want...)
	t.wantAnswer("trailer", r.trailer, "x-t-bin", want...)
}

func headerThenTrailer(t *trial) {
	t.serve(func(c *backendCall) error {
		if err := c.ss.SendHeader(metadata.Pairs("x-h", "1")); err != nil {
			return err
		}
		c.ss.SetTrailer(metadata.Pairs("x-t", "2"))
		return errTeapot
	})
	r := t.unary(call{}, hello)
	t.wantUpstream(r, codes.FailedPrecondition, "a teapot")
	t.wantValues("header", r.header, "x-h", "1")
	t.wantAnswer("trailer", r.trailer, "x-t", "2")
}

func trailersOnlyMetadata(t *trial) {
	t.serve(asked(func(c *backendCall, _ [][]byte) error {
		c.ss.SetTrailer(metadata.Pairs("x-t", "1", "x-t", "2", "x-t-bin", "\xff"))
		return errTeapot
	}))
	r := t.unary(call{}, hello)
	t.wantUpstream(r, codes.FailedPrecondition, "a teapot")
	t.wantValues("trailer", r.trailer, "x-t", "1", "2")
	t.wantValues("trailer", r.trailer, "x-t-bin", "\xff")
}

func printableMetadata(t *trial) {
	var b strings.Builder
	for c := byte(0x21); c <= 0x7e; c++ {
		b.WriteByte(c)
	}
	want := b.String() + " " + b.String()
	t.serve(answering(metadata.Pairs("x-h", want), metadata.Pairs("x-t", want)))
	r := t.unary(call{metadata: metadata.Pairs("x-r", want)}, hello)
	t.wantOK(r, hello)
	t.wantValues("request", t.nextCall().metadata, "x-r", want)
	t.wantAnswer("header", r.header, "x-h", want)
	t.wantAnswer("trailer", r.trailer, "x-t", want)
}

func namesInCapitals(t *trial) {
	t.serve(echo)
	t.wantOK(t.unary(call{lines: [][2]string{{"X-Capital", "Kept"}, {"X-B-Bin", "AAEC"}}}, hello), hello)
	got := t.nextCall().metadata
	t.wantValues("request", got, "x-capital", "Kept")
	t.wantValues("request", got, "x-b-bin", "\x00\x01\x02")
}

// oddRequestValues are legal in HTTP and not in gRPC: the call goes on without
// them. A name that gRPC doesn't know goes the same way.
func oddRequestValues(t *trial) {
	t.serve(echo)
	lines := [][2]string{{"x-utf8", "caf\xc3\xa9"}, {"x-tab", "a\tb"}}
	if t.transport.label != "grpc-websockets" { // whose block has names that are gRPC's or none
		lines = append(lines, [2]string{"x-odd!", "1"})
	}
	t.wantOK(t.unary(call{metadata: metadata.Pairs("x-good", "1"), lines: lines}, hello), hello)
	got := t.nextCall().metadata
	t.wantValues("request", got, "x-good", "1")
	t.wantValues("request", got, "x-utf8")
	t.wantValues("request", got, "x-tab")
	t.wantValues("request", got, "x-odd!")
}

// oddResponseValues come from a backend that isn't grpc-go. None may end the
// call or break the lines of a header block.
func oddResponseValues(t *trial) {
	t.serveFake(answerWith([]string{"x-utf8", "caf\xc3\xa9", "x-tab", "a\tb", "x-good", "1"}, frame(0, hello),
		"grpc-status", "0", "x-utf8", "caf\xc3\xa9", "x-tab", "a\tb", "x-good", "2"))
	r := t.unary(call{}, hello)
	t.wantOK(r, hello)
	t.wantAnswer("header", r.header, "x-good", "1")
	t.wantAnswer("trailer", r.trailer, "x-good", "2")
}

// notForBackends are names that a client may send and no backend may see
// (protocols.md §1.1), but for those that HTTP/2 itself refuses.
var notForBackends = []string{
	"proxy-authorization", "proxy-authenticate", "http2-settings",
	"accept-language", "referer", "sec-fetch-mode", "sec-anything",
	"access-control-request-method", "x-grpc-web",
	"grpc-tags-bin", "grpc-trace-bin", "grpc-previous-rpc-attempts", "grpc-unheard-of",
	"connect-protocol-version", "connect-timeout-ms",
	"lb-token", "cookie", "culvert-identity",
	// Names that some backends mistake for names that only culvert may set.
	"x_forwarded_for", "x_forwarded-host", "x-forwarded_proto", "x_forwarded_client_cert", "client_cert", "x_real_ip", "x_auth_request_user", "culvert_identity",
	"x.forwarded.for", "x-forwarded.proto", "x.forwarded_client-cert", "client.cert", "x.real.ip", "culvert.identity",
	"x-culvert-identity", "x-culvert-", "x_culvert_identity", "x.culvert.identity", "x-culvert_identity",
}

func forbiddenRequestMetadata(t *trial) {
	t.serve(echo)
	md := metadata.Pairs("x-good", "1")
	for _, name := range notForBackends {
		if strings.HasPrefix(name, "grpc-") && t.transport.lacks(rawHeaders) != "" {
			continue // grpc-go keeps some of them back itself
		}
		if d := t.transport.dialect(); strings.HasPrefix(name, "connect-") && (d.isConnect() || d.isPlain()) {
			continue // the client sends its own, or the call would be one of Connect
		}
		md.Append(name, "from-client")
	}
	t.wantOK(t.unary(call{metadata: md}, hello), hello)
	got := t.nextCall().metadata
	t.wantValues("request", got, "x-good", "1")
	for _, name := range notForBackends {
		t.wantValues("request", got, name)
	}
	for name, values := range got {
		if slices.Contains(values, "from-client") {
			t.Errorf("request: %s is %q", name, values)
		}
	}
}

// hopByHopRequestMetadata has names that only a header block in a message and
// HTTP/1.1 can carry; elsewhere HTTP/2's own client leaves them out.
func hopByHopRequestMetadata(t *trial) {
	t.serve(echo)
	lines := [][2]string{{"keep-alive", "timeout=5"}, {"trailer", "x-none"}, {"accept-encoding", "br"}, {"grpc-accept-encoding", "br"}}
	if t.transport.browser {
		lines = append(lines, [2]string{"te", "trailers"})
	}
	if t.transport.label == "grpc-websockets" {
		lines = append(lines, [][2]string{
			{"connection", "upgrade"},
			{"upgrade", "h2c"},
			{"transfer-encoding", "chunked"},
			{"host", "evil.example"},
			{"content-length", "5"},
			{"origin", "https://evil.example"},
		}...)
	}
	t.wantOK(t.unary(call{lines: lines}, hello), hello)
	got := t.nextCall().metadata
	for _, name := range []string{"connection", "keep-alive", "te", "trailer", "upgrade", "transfer-encoding", "host", "content-length", "origin", "accept-encoding"} {
		t.wantValues("request", got, name)
	}
	// grpc-go announces the codings that it reads itself, and none of the client's.
	t.wantValues("request", got, "grpc-accept-encoding", "gzip")
}

// connectionListed: a name in Connection belongs to that connection.
func connectionListed(t *trial) {
	if !strings.Contains(t.transport.name, "http1") {
		t.Log("only HTTP/1.1 has a Connection header")
		return
	}
	t.serve(echo)
	t.wantOK(t.unary(call{lines: [][2]string{{"connection", "x-hop, keep-alive"}, {"x-hop", "1"}, {"x-good", "1"}}}, hello), hello)
	got := t.nextCall().metadata
	t.wantValues("request", got, "x-good", "1")
	t.wantValues("request", got, "x-hop")
}

// notForClients are names that a backend may send and no client may see.
var notForClients = []string{
	"connection", "keep-alive", "proxy-authenticate", "upgrade", "trailer", "transfer-encoding",
	"content-length", "content-encoding", "content-disposition", "date",
	"access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers",
	"alt-svc", "location", "refresh", "clear-site-data", "strict-transport-security",
	"culvert-identity", "set-cookie",
}

func forbiddenResponseMetadata(t *trial) {
	fields := []string{"x-good", "1"}
	for _, name := range notForClients {
		fields = append(fields, name, "from-backend")
	}
	answered := t.serveScripts()
	r := answered(answerWith(fields, frame(0, hello), append([]string{"grpc-status", "0"}, fields...)...))
	t.wantOK(r, hello)
	for where, md := range map[string]metadata.MD{"header": r.header, "trailer": r.trailer} {
		t.wantAnswer(where, md, "x-good", "1")
		for name, values := range md {
			if slices.Contains(values, "from-backend") {
				t.Errorf("%s: %s is %q", where, name, values)
			}
		}
	}
	// The same in an answer that is only trailers.
	r = answered(headOnly(append([]string{"grpc-status", "5"}, fields...)...))
	t.wantUpstream(r, codes.NotFound, "")
	t.wantAnswer("trailer", r.trailer, "x-good", "1")
	for name, values := range r.trailer {
		if slices.Contains(values, "from-backend") || name == "content-type" && t.transport.browser {
			t.Errorf("trailers only: %s is %q", name, values)
		}
	}
}

// vouchedMetadata: culvert, not the caller, says who called.
func vouchedMetadata(t *trial) {
	t.serve(echo)
	forged := metadata.Pairs(
		"x-forwarded-for", "6.6.6.6", "x-forwarded-proto", "gopher", "x-forwarded-host", "evil.example",
		"x-forwarded-user-agent", "forged", "x-forwarded-client-cert", "forged", "forwarded", "for=6.6.6.6",
		"x-real-ip", "6.6.6.6", "x-auth-request-user", "root", "via", "1.1 forged",
	)
	t.wantOK(t.unary(call{metadata: forged}, hello), hello)
	got := t.nextCall().metadata
	proto := "http"
	if t.transport.tls {
		proto = "https"
	}
	t.wantValues("request", got, "x-forwarded-for", "127.0.0.1")
	t.wantValues("request", got, "x-forwarded-proto", proto)
	host := t.address
	if c, ok := t.client.(*programClient); ok {
		host = c.ln.Addr().String()
	}
	t.wantValues("request", got, "x-forwarded-host", host)
	if via := got["via"]; len(via) != 1 || !strings.Contains(via[0], "culvert") {
		t.Errorf("via is %q, want culvert once", via)
	}
	if ua := got["x-forwarded-user-agent"]; len(ua) > 1 || slices.Contains(ua, "forged") {
		t.Errorf("x-forwarded-user-agent is %q", ua)
	}
	for _, name := range []string{"x-forwarded-client-cert", "forwarded", "x-real-ip", "x-auth-request-user"} {
		t.wantValues("request", got, name)
	}
}

func metadataNearTheLimit(t *trial) {
	t.serve(echo)
	md := metadata.MD{}
	for i := range 50 {
		md.Append(fmt.Sprintf("x-big-%d", i), strings.Repeat("v", 1000))
	}
	t.wantOK(t.unary(call{metadata: md}, hello), hello)
	got := t.nextCall().metadata
	for name, values := range md {
		t.wantValues("request", got, name, values...)
	}
}

// metadataOverTheLimit may be refused in HTTP's way before a request is read, or
// with the call's status.
func metadataOverTheLimit(t *trial) {
	t.serve(echo)
	md := metadata.MD{}
	for i := range 90 {
		md.Append(fmt.Sprintf("x-big-%d", i), strings.Repeat("v", 1000))
	}
	r := t.attempt(t.client, call{method: defaultMethod, metadata: md})
	if r.status != nil {
		t.wantCulvert(r, codes.ResourceExhausted, report.ReasonMetadataTooLarge)
	} else if he, ok := errors.AsType[*httpError](r.err); !ok || he.code != 431 {
		t.Errorf("ended with %v, want HTTP status 431 or %s", r.err, report.ReasonMetadataTooLarge)
	}
	t.wantOK(t.unary(call{}, hello), hello) // others are served as before
	if n := len(t.backend.seen()); n != 1 {
		t.Errorf("%d calls reached the backend, want the small one", n)
	}
}

func responseMetadataOverTheLimit(t *trial) {
	fields := []string{}
	for i := range 90 {
		fields = append(fields, fmt.Sprintf("x-big-%d", i), strings.Repeat("v", 1000))
	}
	t.serveFake(answerOf(nil, fields...))
	t.wantCulvert(t.unary(call{}, hello), codes.ResourceExhausted, report.ReasonMetadataTooLarge)
}
