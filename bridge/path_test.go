package bridge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/path"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// elsewhere has rules that keep every other call of these tests from a backend.
func elsewhere(cfg Config) Config {
	cfg.Backend, cfg.AllowMethods, cfg.DenyMethods = nowhere, []string{"other.v1.Service/*"}, []string{"culvert.v1.*/*"}
	cfg.Routes = []Route{{Name: "all", Match: report.Match{Metadata: []report.Condition{{Name: "x-route", Value: "a"}}}, Backend: DefaultBackend}, {Name: "sse", Match: report.Match{Transports: []string{"connect"}}, Backend: DefaultBackend}}
	return cfg
}

// pathEchoes send the messages to Echo, each once the one before has come back where the protocol
// lets them, and return those that came back and the code that the client is told.
var pathEchoes = map[string]func(t *testing.T, address string, messages []string) (back []string, end string){
	"grpc": func(t *testing.T, address string, messages []string) ([]string, string) {
		return echoStream(t, dial(t, address), messages)
	},
	"h2ts+grpc": func(t *testing.T, address string, messages []string) ([]string, string) {
		return echoStream(t, dialTunnel(t, address, nil), messages)
	},
	"grpc-web": func(t *testing.T, address string, messages []string) ([]string, string) {
		body := echoPost(t, address, "application/grpc-web", messages)
		return splitFrames(t, body, 0x80, "grpc-status: ", "\r\n")
	},
	"connect": func(t *testing.T, address string, messages []string) ([]string, string) {
		quoted := make([]string, len(messages))
		for i, m := range messages {
			quoted[i] = `"` + base64.StdEncoding.EncodeToString([]byte(m[2:])) + `"`
		}
		body := echoPost(t, address, "application/connect+json", quoted)
		back, end := splitFrames(t, body, 2, `"code":"`, `"`)
		for i, m := range back {
			value, err := base64.StdEncoding.DecodeString(strings.Trim(m, `"`))
			if err != nil {
				t.Errorf("message %d is %q", i, m)
			}
			back[i] = bytesValue(string(value))
		}
		return back, map[string]string{"": "0", "resource_exhausted": "8"}[end]
	},
	"grpc-websockets": func(t *testing.T, address string, messages []string) (back []string, end string) {
		ctx := within(t, patience)
		ws, res, err := websocket.Dial(ctx, "ws://"+address+path.Echo, &websocket.DialOptions{Subprotocols: []string{"grpc-websockets"}})
		if res != nil && res.Body != nil {
			_ = res.Body.Close() // it has none
		}
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow() //nolint:errcheck // culvert has closed it
		write := func(m string) {
			if err := ws.Write(ctx, websocket.MessageBinary, []byte(m)); err != nil {
				t.Error(err)
			}
		}
		write("content-type: application/grpc-web+proto\r\n")
		for _, m := range messages {
			write("\x00" + string(framed(0, []byte(m))))
		}
		write("\x01")
		var body []byte
		for {
			_, m, err := ws.Read(ctx)
			if err != nil {
				break
			}
			body = append(body, m...)
		}
		if len(body) < 5 || body[0] != 0x80 {
			t.Fatalf("the answer doesn't begin with a header: %q", body)
		}
		header := 5 + int(body[3])<<8 + int(body[4])
		return splitFrames(t, string(body[header:]), 0x80, "grpc-status: ", "\r\n")
	},
}

// bytesValue is a google.protobuf.BytesValue.
func bytesValue(value string) string { return "\x0a" + string(rune(len(value))) + value }

func echoStream(t *testing.T, cc *grpc.ClientConn, messages []string) (back []string, end string) {
	t.Helper()
	stream := open(within(t, patience), t, cc, path.Echo)
	var m []byte
	for _, out := range messages {
		_ = stream.SendMsg([]byte(out)) // RecvMsg has why it failed
		if err := stream.RecvMsg(&m); err != nil {
			return back, fmt.Sprint(int(status.Code(err)))
		}
		back = append(back, string(m))
	}
	_ = stream.CloseSend() // as above
	if err := stream.RecvMsg(&m); !errors.Is(err, io.EOF) {
		return back, fmt.Sprint(int(status.Code(err)))
	}
	return back, "0"
}

func echoPost(t *testing.T, address, contentType string, messages []string) string {
	t.Helper()
	var body bytes.Buffer
	for _, m := range messages {
		body.Write(framed(0, []byte(m)))
	}
	r := newRequest(t, http.MethodPost, "http://"+address+path.Echo, body.String())
	r.Header.Set("Content-Type", contentType)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	_, answer := send(t, client, r)
	return answer
}

// splitFrames returns the messages in a body, and what stands between begin and stop in the frame
// with the end.
func splitFrames(t *testing.T, body string, endFlag byte, begin, stop string) (messages []string, end string) {
	t.Helper()
	for len(body) >= 5 {
		n := int(body[3])<<8 | int(body[4])
		payload := body[5:min(5+n, len(body))]
		if body[0] == endFlag {
			_, end, _ = strings.Cut(payload, begin)
			end, _, _ = strings.Cut(end, stop)
			return messages, end
		}
		messages, body = append(messages, payload), body[5+len(payload):]
	}
	t.Errorf("the body has no end: %q", body)
	return messages, ""
}

// TestPathOverEveryTransport: neither routes nor rules for methods nor the state of a backend
// keep Echo from a client. Eight messages come back, and the ninth ends the call.
func TestPathOverEveryTransport(t *testing.T) {
	for name, echo := range pathEchoes {
		t.Run(name, func(t *testing.T) {
			obs := newObserver()
			address := serve(t, newServer(t, elsewhere(Config{Observer: obs, PathPrefix: ""})))
			messages := make([]string, 9)
			for i := range messages {
				messages[i] = bytesValue("message " + fmt.Sprint(i))
			}
			for n, want := range map[int]string{2: "0", 8: "0", 9: "8"} {
				back, end := echo(t, address, messages[:n])
				if !slices.Equal(back, messages[:min(n, 8)]) || end != want {
					t.Errorf("of %d messages came back %q, and the code %q, want %s", n, back, end, want)
				}
				info := await(t, "the end", obs.ended)
				if !info.Own || info.Route != "" || info.Backend != "" || info.Method != path.Echo || info.Transport != name {
					t.Errorf("the Observer sees %+v", info)
				}
				if origin, reason := report.OriginUpstream, report.Reason(""); n < 9 && (info.Origin != origin || info.Reason != reason) {
					t.Errorf("%d messages: ended by %s (%s)", n, info.Origin, info.Reason)
				}
				if n == 9 && (info.Origin != report.OriginCulvert || info.Reason != report.ReasonLimitExceeded) {
					t.Errorf("nine messages: ended by %s (%s), want culvert", info.Origin, info.Reason)
				}
			}
		})
	}
}

// TestPathBehindAPrefix has the prefix in its path, and no other one.
func TestPathBehindAPrefix(t *testing.T) {
	cfg := Config{Backend: nowhere, PathPrefix: "/grpc"}
	cc := dial(t, serve(t, newServer(t, cfg)))
	if err := invoke(t, cc, "/grpc"+path.Echo, "m"); err != nil {
		t.Error(err)
	}
	if err := invoke(t, cc, path.Echo, "m"); status.Code(err) != codes.Unimplemented {
		t.Errorf("without the prefix: %v", err)
	}
}

// invoke sends one message to a method, and returns the end.
func invoke(t *testing.T, cc *grpc.ClientConn, method, message string) error {
	t.Helper()
	var got []byte
	err := cc.Invoke(within(t, patience), method, []byte(message), &got)
	if err == nil && method != path.Report && string(got) != message {
		t.Errorf("%d bytes came back as %d", len(message), len(got))
	}
	return err
}

// TestSizesOfPath: the doctor raises them while the server runs.
func TestSizesOfPath(t *testing.T) {
	cfg := elsewhere(Config{})
	s := newServer(t, cfg)
	cc := dial(t, serve(t, s))
	wantPath := func(when, method string, size int, code codes.Code, reason report.Reason, says string) {
		t.Helper()
		err := invoke(t, cc, method, strings.Repeat("m", size))
		st := status.Convert(err)
		if st.Code() != code || !strings.Contains(st.Message(), says) {
			t.Errorf("%s: %s with %d bytes: %v, want %v with %q", when, method, size, err, code, says)
			return
		}
		if code != codes.OK && errorInfo(t, st).GetReason() != string(reason) {
			t.Errorf("%s: %s with %d bytes: %v, want %s", when, method, size, errorInfo(t, st), reason)
		}
	}
	wantPath("off", path.Echo, 64, codes.OK, "", "")
	wantPath("off", path.Echo, 65, codes.ResourceExhausted, report.ReasonRequestTooLarge, "65 bytes is over the limit of 64 (doctor) (send smaller messages, or set doctor")
	wantPath("off", path.Report, 0, codes.Unimplemented, report.ReasonNoRoute, "no method culvert.v1.Path/Report here (set doctor)")
	wantPath("off", "/culvert.v1.Path/Other", 0, codes.Unimplemented, report.ReasonNoRoute, "no method culvert.v1.Path/Other here (call culvert.v1.Path/Echo)")
	cfg.Doctor = true
	if err := s.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	wantPath("on", path.Echo, 64<<10, codes.OK, "", "")
	wantPath("on", path.Echo, 64<<10+1, codes.ResourceExhausted, report.ReasonRequestTooLarge, "over the limit of 65536 (doctor)")
	wantPath("on", path.Report, 0, codes.OK, "", "")
	wantPath("on", "/culvert.v1.Path/Other", 0, codes.Unimplemented, report.ReasonNoRoute, "")
	cfg.Limits.MessageBytes = 1000
	if err := s.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	wantPath("with a lower general limit", path.Echo, 1001, codes.ResourceExhausted, report.ReasonRequestTooLarge, report.KeyMessageBytes)
}

// TestTimeOfPath: a call ends at the bound, also of a client that says nothing, and a client's own
// deadline stays its own.
func TestTimeOfPath(t *testing.T) {
	s := newServer(t, elsewhere(Config{}))
	rules := &s.policy.Load().path
	if rules.route.timeout.limit != 15*time.Second || newPathRules(&Config{Doctor: true}).route.timeout.limit != 15*time.Minute {
		t.Error("the bounds are others")
	}
	rules.route.timeout = &routeTimeout{50 * time.Millisecond, rules.route.timeout.cause}
	for name, echo := range map[string]*grpc.ClientConn{"native": dial(t, serve(t, s)), "in a tunnel": dialTunnel(t, serve(t, s), nil)} {
		err := open(within(t, patience), t, echo, path.Echo).RecvMsg(new([]byte))
		st := status.Convert(err)
		if st.Code() != codes.DeadlineExceeded || !strings.Contains(st.Message(), "a call of culvert.v1.Path takes at most 15s (doctor)") || errorInfo(t, st).GetReason() != string(report.ReasonDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPathAsksTheAuthenticator as other calls do, and the page's origin counts.
func TestPathAsksTheAuthenticator(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	address := serve(t, newServer(t, elsewhere(Config{Authenticator: authenticator(byToken), Doctor: true, AllowOrigins: []string{pageOfTest}})))
	cc := dial(t, address)
	if err := invoke(t, cc, path.Echo, "m"); status.Code(err) != codes.Unauthenticated || errorInfo(t, status.Convert(err)).GetReason() != string(report.ReasonUnauthenticated) {
		t.Errorf("without a token: %v", err)
	}
	var got []byte
	if err := cc.Invoke(metadata.AppendToOutgoingContext(within(t, patience), "authorization", "Bearer token-alice"), path.Echo, []byte("m"), &got); err != nil || string(got) != "m" {
		t.Errorf("with a token: %q, %v", got, err)
	}
	for origin, want := range map[string]int{pageOfTest: http.StatusOK, "https://evil.example": http.StatusForbidden} {
		r := newRequest(t, http.MethodPost, "http://"+address+path.Report, "{}")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Origin", origin)
		r.Header.Set("Authorization", "Bearer token-alice")
		res, body := send(t, http.DefaultClient, r)
		if res.StatusCode != want || want == http.StatusOK && res.Header.Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("a page of %s: %d %s %v", origin, res.StatusCode, body, res.Header)
		}
		if reason := res.Header.Get("Culvert-Reason"); want == http.StatusForbidden && reason != string(report.ReasonOriginDenied) {
			t.Errorf("the refusal's reason is %q", reason)
		}
		r = newRequest(t, http.MethodOptions, "http://"+address+path.Report, "")
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "content-type")
		if res, _ := send(t, http.DefaultClient, r); (res.StatusCode == http.StatusNoContent) != (want == http.StatusOK) {
			t.Errorf("the preflight of %s: %d", origin, res.StatusCode)
		}
	}
}

// TestReportOfAPage: by JSON, with the listener's certificate, and with nothing that the client
// says about itself.
func TestReportOfAPage(t *testing.T) {
	authority := parts.NewAuthority(t)
	pair := authority.Server(t)
	for name, of := range map[string]func(*tls.Config){
		"the only certificate": func(c *tls.Config) { c.Certificates = []tls.Certificate{pair} },
		"one that the handshake notes": func(c *tls.Config) {
			c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				hello.Conn.(interface{ ShowsCertificate(c *tls.Certificate) }).ShowsCertificate(&pair) //nolint:forcetypeassert // edge's has it
				return &pair, nil
			}
		},
	} {
		config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
		of(config)
		address := serveListener(t, newServer(t, elsewhere(Config{Doctor: true, Version: "1.2.3"})), listen(t, "127.0.0.1:0"), Listener{TLS: config})
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool}, DisableKeepAlives: true}
		r := newRequest(t, http.MethodPost, "https://"+address+path.Report, "{}")
		r.Header = http.Header{"Content-Type": {"application/json"}, "X-Mine": {"secret"}, "Via": {"1.1 inside"}, "Culvert-Path-Report-Bin": {base64.StdEncoding.EncodeToString([]byte("forged"))}, "Culvert-Path-Peer": {"forged"}}
		res, body := send(t, &http.Client{Transport: transport}, r)
		if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/json" || strings.Contains(body, "secret") || strings.Contains(body, "inside") || strings.Contains(body, "forged") {
			t.Fatalf("%s: answered %d %s", name, res.StatusCode, body)
		}
		var got struct {
			Version, Transport, HTTP string
			TLS                      struct {
				Version, ALPN string
				SHA256        []string `json:"certificate_sha256"`
			}
			Headers []string
			Proxies map[string]int
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(pair.Certificate[0])
		if !slices.Equal(got.TLS.SHA256, []string{hex.EncodeToString(sum[:])}) || got.TLS.Version != "TLS 1.3" || got.TLS.ALPN != "" {
			t.Errorf("%s: TLS is %+v", name, got.TLS)
		}
		if got.Version != "1.2.3" || got.Transport != "connect" || got.HTTP != "HTTP/1.1" || got.Proxies["via"] != 1 || !slices.Contains(got.Headers, "x-mine") {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// TestReportInATunnel has the facts of the WebSocket, which a box on the way has seen.
func TestReportInATunnel(t *testing.T) {
	address := serve(t, newServer(t, elsewhere(Config{Doctor: true})))
	var got []byte
	if err := dialTunnel(t, address, http.Header{"Via": {"1.1 box"}}).Invoke(within(t, patience), path.Report, []byte(nil), &got); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"h2ts+grpc", "HTTP/1.1", "via"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("the report lacks %q: %q", want, got)
		}
	}
	if strings.Contains(string(got), "certificate_sha256") {
		t.Errorf("a plaintext listener has a certificate: %q", got)
	}
}

// TestPathIsDrained like other calls.
func TestPathIsDrained(t *testing.T) {
	s := newServer(t, elsewhere(Config{Doctor: true}))
	stream := open(within(t, patience), t, dial(t, serve(t, s)), path.Echo)
	if err := stream.SendMsg([]byte("m")); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(new([]byte)); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end() // no patience: the calls end at once
	shut := make(chan error, 1)
	go func() { shut <- s.Shutdown(ended) }()
	if err := stream.RecvMsg(new([]byte)); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), errDraining.Text) {
		t.Errorf("the call ended with %v", err)
	}
	if err := await(t, "Shutdown", shut); err != nil {
		t.Error(err)
	}
}

// TestPathIsNoBackend that a snapshot or an operator sees.
func TestPathIsNoBackend(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	if err := invoke(t, dial(t, serve(t, s)), path.Echo, "m"); err != nil {
		t.Fatal(err)
	}
	if up := s.Upstreams(); len(up) != 1 || up[0].Name != DefaultBackend {
		t.Errorf("the backends are %+v", up)
	}
}

func TestPathIsExplained(t *testing.T) {
	cfg := elsewhere(Config{})
	for method, denied := range map[string]string{path.Echo: "", path.Report: report.KeyDoctor} {
		to, err := url.Parse("https://any.example" + method)
		if err != nil {
			t.Fatal(err)
		}
		a, err := ExplainRoute(&cfg, RouteRequest{URL: to, Transport: "connect"})
		if err != nil || !a.Own || a.Route != -1 || a.Path != method || a.Method != method || a.Denied != denied || a.Backend != "" || len(a.Candidates) > 0 {
			t.Errorf("%s: %+v, %v", method, a, err)
		}
	}
}

// TestPageOfTheDoctor: with the doctor, its page comes before routes and the web server in
// fallback, to a GET alone. Without it nothing has its path.
func TestPageOfTheDoctor(t *testing.T) {
	const page, prefix = path.Page, "/grpc"
	ask := func(t *testing.T, address, method, path, contentType string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }() // only read
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(body)
	}
	web := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "web "+r.URL.Path) })
	for name, cfg := range map[string]Config{
		"alone": {Backend: nowhere}, "routes": elsewhere(Config{}), "fallback": {Backend: nowhere, Fallback: web}, "prefix": {Backend: nowhere, PathPrefix: prefix},
		"message route": {Backend: nowhere, Routes: []Route{{Name: "m", Message: &MessageRoute{Path: page, Method: "a.B/C", Framing: FramingSSE}, Backend: DefaultBackend}}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, on := range []bool{true, false} {
				cfg.Doctor, cfg.AllowMethods = on, []string{"other.v1.Service/*"} // no call waits for a backend
				address := serve(t, newServer(t, cfg))
				for _, file := range []struct{ path, kind, has string }{
					{"", "text/html; charset=utf-8", "<title>culvert doctor</title>"},
					{"/page.js", "text/javascript; charset=utf-8", "web/page"},
					{"/page.css", "text/css; charset=utf-8", "color-scheme"},
				} {
					res, body := ask(t, address, http.MethodGet, cfg.PathPrefix+page+file.path, "")
					h := res.Header
					served := res.StatusCode == http.StatusOK && h.Get("Content-Type") == file.kind && strings.Contains(body, file.has) && strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'")
					if served != on {
						t.Errorf("doctor %v: %s: %d %v, %.80q", on, file.path, res.StatusCode, h, body)
					}
				}
				for _, other := range []struct{ method, path, kind string }{{http.MethodGet, page + "/other", ""}, {http.MethodGet, page + "s", ""}, {http.MethodPost, page, "application/grpc-web"}} {
					if _, body := ask(t, address, other.method, cfg.PathPrefix+other.path, other.kind); strings.Contains(body, "culvert doctor") {
						t.Errorf("doctor %v: %s %s got the page", on, other.method, other.path)
					}
				}
			}
		})
	}
}
