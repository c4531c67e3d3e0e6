package bridge

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// replying answers each call with these messages after reading all of the request, and
// the metadata.
func replying(err error, header, trailer metadata.MD, replies ...string) func(grpc.ServerStream) error {
	return func(ss grpc.ServerStream) error {
		var m []byte
		for ss.RecvMsg(&m) == nil {
		}
		ss.SetTrailer(trailer)
		if err := ss.SetHeader(header); err != nil {
			return err
		}
		for _, r := range replies {
			if err := ss.SendMsg([]byte(r)); err != nil {
				return err
			}
		}
		return err
	}
}

// postUnary makes a unary call of the Connect protocol. The fields are names and values
// in turn.
func postUnary(t testing.TB, address, body string, fields ...string) (*http.Response, string) {
	t.Helper()
	r := newRequest(t, http.MethodPost, "http://"+address+testMethod, body)
	r.Header.Set("Content-Type", "application/proto")
	r.Header.Set("Accept-Encoding", "identity")
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	return send(t, http.DefaultClient, r)
}

func TestUnaryConnect(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	backend := startBackend(t, replying(nil, metadata.Pairs("x-h", "1", "cache-control", "max-age=9"), metadata.Pairs("x-t", "2", "x-t-bin", "\xff"), "reply"))
	address := serve(t, newServer(t, Config{Backend: Backend{Target: backend}}))
	res, body := postUnary(t, address, "hello")
	h := res.Header
	if res.StatusCode != 200 || body != "reply" || h.Get("Content-Type") != "application/proto" || res.ContentLength != 5 {
		t.Errorf("answered %d %q %v", res.StatusCode, body, h)
	}
	if h.Get("X-H") != "1" || h.Get("Trailer-X-T") != "2" || h.Get("Trailer-X-T-Bin") != "/w" || h.Get("X-Request-Id") == "" {
		t.Errorf("the metadata is %v", h)
	}
	if got := h.Values("Cache-Control"); len(got) != 1 || got[0] != "no-store, no-transform" {
		t.Errorf("a POST may be cached: %q", got)
	}
}

// TestUnaryConnectNeedsOneReply: otherwise the client and the log get the reason.
func TestUnaryConnectNeedsOneReply(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for says, replies := range map[string][]string{"without a message": nil, "more than one": {"a", "b"}, "more than one ": {"a", strings.Repeat("b", 200<<10), "c"}} {
		obs := newObserver()
		address := serve(t, newServer(t, Config{Observer: obs, Backend: Backend{Target: startBackend(t, replying(nil, nil, nil, replies...))}}))
		res, body := postUnary(t, address, "hello")
		if res.StatusCode != 501 || !strings.Contains(body, `{"code":"unimplemented","message":"`) || !strings.Contains(body, strings.TrimSpace(says)) {
			t.Errorf("%d replies: answered %d %q", len(replies), res.StatusCode, body)
		}
		if end := await(t, "the end", obs.ended); end.Code != codes.Unimplemented || end.Reason != report.ReasonBadCardinality || end.Origin != report.OriginCulvert {
			t.Errorf("%d replies: ended %v %s by %s", len(replies), end.Code, end.Reason, end.Origin)
		}
	}
}

// TestUnaryConnectErrorAfterAReply has no message, and keeps all metadata.
func TestUnaryConnectErrorAfterAReply(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	backend := startBackend(t, replying(status.Error(codes.NotFound, "no such thing"), metadata.Pairs("x-h", "1"), metadata.Pairs("x-t", "2"), "reply"))
	address := serve(t, newServer(t, Config{Backend: Backend{Target: backend}, AllowOrigins: []string{pageOfTest}}))
	res, body := postUnary(t, address, "hello", "Origin", pageOfTest)
	if res.StatusCode != 404 || body != `{"code":"not_found","message":"no such thing"}` || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("answered %d %q", res.StatusCode, body)
	}
	exposed := strings.ToLower(res.Header.Get("Access-Control-Expose-Headers"))
	if res.Header.Get("X-H") != "1" || res.Header.Get("Trailer-X-T") != "2" || !strings.Contains(exposed, "trailer-x-t") || !strings.Contains(exposed, "x-h") {
		t.Errorf("the header is %v", res.Header)
	}
}

// TestUnaryConnectPacks a reply that the backend has packed, for a client that can read
// it, and only there.
func TestUnaryConnectPacks(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	want := strings.Repeat("reply ", 1000)
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		if err := grpc.SetSendCompressor(ss.Context(), "gzip"); err != nil {
			return err
		}
		return replying(nil, nil, nil, want)(ss)
	})
	address := serve(t, newServer(t, Config{Backend: Backend{Target: backend}, AllowOrigins: []string{pageOfTest}}))
	if res, body := postUnary(t, address, "hello"); body != want || res.Header.Get("Content-Encoding") != "" {
		t.Errorf("identity: answered %d bytes, %v", len(body), res.Header)
	}
	res, body := postUnary(t, address, "hello", "Accept-Encoding", "br, gzip", "Origin", pageOfTest)
	if res.Header.Get("Content-Encoding") != "gzip" || len(body) >= len(want) || !strings.Contains(res.Header.Get("Access-Control-Expose-Headers"), "Content-Encoding") {
		t.Errorf("gzip: answered %d bytes, %v", len(body), res.Header)
	}
}

// TestConnectJSON passes if connect.json is pass, as application/grpc+json.
func TestConnectJSON(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	types := make(chan string, 2)
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		types <- md.Get("content-type")[0]
		return echo(ss)
	}, grpc.ForceServerCodecV2(parts.BytesCodec{}))
	address := serve(t, newServer(t, Config{Backend: Backend{Target: backend}, PassConnectJSON: true}))
	res, body := postUnary(t, address, "{}", "Content-Type", "application/json; charset=utf-8")
	if res.StatusCode != 200 || body != "{}" || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("answered %d %q %v", res.StatusCode, body, res.Header)
	}
	if got := await(t, "the call", types); got != "application/grpc+json" {
		t.Errorf("the backend got %q", got)
	}
	res, body = postUnary(t, address, "\x00\x00\x00\x00\x02{}", "Content-Type", "application/grpc-web+json")
	if !strings.HasPrefix(body, "\x00\x00\x00\x00\x02{}\x80") || res.Header.Get("Content-Type") != "application/grpc-web+json" {
		t.Errorf("gRPC-Web is answered %q %v", body, res.Header)
	}
	if got := await(t, "the call", types); got != "application/grpc+json" {
		t.Errorf("of gRPC-Web the backend got %q", got)
	}
	res, body = postUnary(t, address, "\x00\x00\x00\x00\x02{}", "Content-Type", "application/connect+json")
	if body != "\x00\x00\x00\x00\x02{}\x02\x00\x00\x00\x02{}" || res.Header.Get("Content-Type") != "application/connect+json" {
		t.Errorf("a stream was answered with %q %v", body, res.Header)
	}
}

func TestConnectWrongVersion(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	address := serve(t, newServer(t, Config{Backend: nowhere}))
	if res, body := postUnary(t, address, "", "Connect-Protocol-Version", "2"); res.StatusCode != 400 || !strings.Contains(body, `"invalid_argument"`) || !strings.Contains(body, "connect-protocol-version") {
		t.Errorf("answered %d %q", res.StatusCode, body)
	}
}

// TestConnectGet: only of listed methods, and culvert says nothing about caches but on
// what the answer depends.
func TestConnectGet(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		if err := ss.SetHeader(metadata.Pairs("cache-control", "max-age=9")); err != nil {
			return err
		}
		return echo(ss)
	})
	address := serve(t, newServer(t, Config{Backend: Backend{Target: backend}, ConnectGet: []string{"test.Service/*"}}))
	long := strings.Repeat("long ", 1000)
	for _, c := range []struct {
		method, query string
		code          int
		says          string
	}{
		{testMethod, "connect=v1&encoding=proto&message=hello", 200, "hello"},
		{testMethod, "message=aGVsbG8&base64=1&encoding=proto&connect=v1", 200, "hello"},
		{testMethod, "connect=v1&encoding=proto&message=", 200, ""},
		{testMethod, "connect=v1&encoding=proto&compression=gzip&base64=1&message=" + base64.URLEncoding.EncodeToString(parts.Gzipped([]byte(long))), 200, long},
		{testMethod, "connect=v1&encoding=proto&compression=br&message=x", 501, "unimplemented"},
		{testMethod, "connect=v1&encoding=proto&compression=gzip&message=x", 400, "gzip"},
		{testMethod, "connect=v1&encoding=proto&base64=1&message=!", 400, "base64"},
		{testMethod, "connect=v1&encoding=proto", 400, "message"},
		{testMethod, "connect=v1&message=x", 400, "encoding=proto"},
		{testMethod, "connect=v2&encoding=proto&message=hello", 400, "connect=v1"},
		{testMethod, "encoding=proto&message=hello&connect=v10", 400, "connect=v1"},
		{testMethod, "connect=V1&encoding=proto&message=hello", 400, "connect=v1"},
		{testMethod, "connect=&message=hello", 400, "connect=v1"},
		{testMethod, "connect=v1&encoding=xml&message=x", 415, "encoding=json"},
		{testMethod, "connect=v1&encoding=PROTO&message=x", 415, "encoding=json"},
		{testMethod, "connect=v1&encoding=proto&compression=GZIP&base64=1&message=" + base64.URLEncoding.EncodeToString(parts.Gzipped([]byte(long))), 200, long},
		{testMethod, "connect=v1&encoding=proto&compression=x-gzip&base64=1&message=" + base64.URLEncoding.EncodeToString(parts.Gzipped([]byte(long))), 200, long},
		{testMethod, "connect=v1&encoding=proto&compression=Identity&message=hello", 200, "hello"},
		{testMethod, "connect=v1&encoding=json&message={}", 415, "backend.descriptors"},
		{"/test.Other/Method", "connect=v1&encoding=proto&message=x", 405, "connect.get"},
	} {
		res, body := send(t, http.DefaultClient, newRequest(t, http.MethodGet, "http://"+address+c.method+"?"+c.query, ""))
		if res.StatusCode != c.code || !strings.Contains(body, c.says) || c.code == 200 && body != c.says {
			t.Errorf("%s: answered %d %.300q, want %d %.100q", c.query, res.StatusCode, body, c.code, c.says)
		}
		vary := strings.Join(res.Header.Values("Vary"), ", ")
		if c.code == 200 && (!strings.Contains(vary, "Accept-Encoding") || !strings.Contains(vary, "Origin, Sec-Fetch-Site") || res.Header.Get("X-Accel-Buffering") != "") {
			t.Errorf("%s: the header is %v", c.query, res.Header)
		}
		if got := res.Header.Values("Cache-Control"); c.code == 200 && (len(got) != 1 || got[0] != "max-age=9") || c.code == 400 && got != nil {
			t.Errorf("%s: the cache is told %q", c.query, got)
		}
		if allow := res.Header.Get("Allow"); (c.code == 405) != (allow == "POST") {
			t.Errorf("%s: Allow is %q", c.query, allow)
		}
		if kind := res.Header.Get("Content-Type"); c.code == 405 && kind != "text/plain; charset=utf-8" || (c.code == 400 || c.code == 415) && kind != "application/json" {
			t.Errorf("%s: answered %d with the content type %q", c.query, c.code, kind)
		}
	}
	r := newRequest(t, http.MethodGet, "http://"+address+testMethod+"?connect=v1&encoding=proto&message=x", "a body")
	if res, body := send(t, http.DefaultClient, r); res.StatusCode != 415 || !strings.Contains(body, "no body") {
		t.Errorf("with a body: answered %d %q", res.StatusCode, body)
	}
}

// TestPagesThatMayNotCallCantByGet: an image or a link has no Origin, and Sec-Fetch-Site
// tells.
func TestPagesThatMayNotCallCantByGet(t *testing.T) {
	reached := make(chan struct{}, 10)
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		reached <- struct{}{}
		return echo(ss)
	})
	s := newServer(t, Config{Backend: Backend{Target: backend}, ConnectGet: []string{"*/*"}, AllowOrigins: []string{pageOfTest}, ForwardCookies: true})
	for _, c := range []struct {
		fields http.Header
		code   int
	}{
		{http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		{http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
		{http.Header{"Origin": {"https://evil.example"}}, 403},
		{http.Header{"Cookie": {"a=b"}, "Sec-Fetch-Site": {"none"}}, 403},
		{http.Header{"Origin": {pageOfTest}, "Sec-Fetch-Site": {"cross-site"}}, 200},
		{http.Header{"Sec-Fetch-Site": {"same-origin"}, "Cookie": {"a=b"}}, 200},
		{http.Header{}, 200},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, testMethod+"?connect=v1&encoding=proto&message=x", nil)
		r.Header = c.fields
		w := answerTo(s, r)
		if w.Code != c.code || len(reached) != map[int]int{200: 1, 403: 0}[c.code] {
			t.Errorf("%v: answered %d %q, %d calls reached the backend", c.fields, w.Code, w.Body, len(reached))
		}
		for len(reached) > 0 {
			<-reached
		}
	}
}

// TestPreflightsForConnect: the headers of Connect are granted. Beside a fallback, those
// for a GET are culvert's if the query is a call's.
func TestPreflightsForConnect(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere, AllowOrigins: []string{pageOfTest}, Fallback: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })})
	for target, code := range map[string]int{
		"/Greeter/Hello?connect=v1&encoding=proto&message=x": 204, "/Greeter/Hello": 418, "/?connect=v1": 418,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, target, nil)
		r.Header = http.Header{"Origin": {pageOfTest}, "Access-Control-Request-Method": {"GET"}, "Access-Control-Request-Headers": {"connect-timeout-ms"}}
		w := answerTo(s, r)
		if w.Code != code || code == 204 && w.Header().Get("Access-Control-Allow-Headers") != "connect-timeout-ms" {
			t.Errorf("%s: answered %d %v, want %d", target, w.Code, w.Header(), code)
		}
	}
}

// TestReplyThatWaitsIsHeld: the one message of a unary answer counts with the call until
// the backend ends it.
func TestReplyThatWaitsIsHeld(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	sent, end := make(chan struct{}), make(chan struct{})
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		if err := ss.SendMsg(bytes.Repeat([]byte("x"), 20<<10)); err != nil {
			return err
		}
		close(sent)
		<-end
		return nil
	})
	s := newServer(t, Config{Backend: Backend{Target: backend}})
	address := serve(t, s)
	answered := make(chan int, 1)
	go func() {
		_, body := postUnary(t, address, "hello")
		answered <- len(body)
	}()
	await(t, "the reply", sent)
	poll(t, func() string {
		if calls := s.Snapshot().Calls; len(calls) != 1 || s.account.Used() < 20<<10 {
			return "the reply isn't counted"
		}
		return ""
	})
	close(end)
	if got := await(t, "the answer", answered); got != 20<<10 {
		t.Errorf("the answer has %d bytes", got)
	}
}

// TestRefusedUnaryConnectIsAnsweredAtOnce, before its body has ended.
func TestRefusedUnaryConnectIsAnsweredAtOnce(t *testing.T) {
	address := serve(t, newServer(t, Config{Backend: nowhere}))
	answers := exchange(t, address, "POST "+testMethod+" HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/proto\r\nconnect-timeout-ms: soon\r\ncontent-length: 5\r\n\r\nhe")
	if len(answers) != 1 || answers[0].StatusCode != 400 {
		t.Errorf("answered %v, want 400", answers)
	}
}
