package bridge

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

const (
	pageOfTest = "https://app.example.com"
	webFields  = "content-type: application/grpc-web+proto\r\ncontent-length: 0\r\n"
	fieldsJSON = "content-type: application/json\r\ncontent-length: 2\r\n"
	upgradeTo  = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: "
)

// refusedOverTheWire are requests that no call comes of, without their origin.
var refusedOverTheWire = []struct {
	name, line, fields, body string
	code                     int
	says                     string // the parts that it has, with " … " between them
	quiet                    bool   // nobody's mistake unless a page sent it
}{
	{"a Connect stream of another codec", "POST /a.B/C", "content-type: application/connect+xml\r\ncontent-length: 0\r\n", "", 415, "application/connect+proto", false},
	{"a Connect GET with a body", "GET /a.B/C?connect=v1&encoding=json&message=%7B%7D", "content-length: 1\r\n", "x", 415, "no body", false},
	{"a prefix", "POST /api/a.B/C", webFields, "", 404, " /a.B/C … path_prefix", false},
	{"two slashes", "POST //a.B/C", webFields, "", 404, " /a.B/C … path_prefix", false},
	{"a slash at the end", "POST /a.B/C/", webFields, "", 404, " /a.B/C … path_prefix", false},
	{"a prefix, of a service without a package", "POST /api/v1/B/C", webFields, "", 404, " /B/C … path_prefix", false},
	{"a prefix and Connect", "POST /api/a.B/C", fieldsJSON, "{}", 404, " /a.B/C … path_prefix", false},
	{"two slashes of a WebSocket", "GET //a.B/C", upgradeTo + "grpc-websockets\r\n", "", 404, " /a.B/C … path_prefix", false},
	{"no method at all", "POST /x", webFields, "", 404, "/package.Service/Method\n", true},
	{"an escaped method", "POST /a.B/%43", webFields, "", 404, "/package.Service/Method\n", true},
	{"another content type", "POST /a.B/C", "content-type: text/plain\r\ncontent-length: 0\r\n", "", 415, "application/grpc", true},
	{"no POST", "PUT /a.B/C", "content-length: 0\r\n", "", 405, "POST", true},
	{"a GET", "GET /a.B/C", "", "", 426, "WebSocket", true},
	{"a file", "GET /static/js/app.js", "", "", 404, "/package.Service/Method\n", true},
	{"an unknown subprotocol", "GET /a.B/C", upgradeTo + "soap\r\n", "", 400, "subprotocol", true},
	{"a whole URL", "POST http://localhost/a.B/C", webFields, "", 400, "URL", true},
	{"native gRPC", "POST /a.B/C", "content-type: application/grpc\r\ncontent-length: 0\r\n", "", 505, "HTTP/2", false},
}

// says reports whether text has the parts of want, which are separated by
// " … ", in any order: the prose between them can change.
func says(text, want string) bool {
	lacks := func(part string) bool { return !strings.Contains(text, part) }
	return !slices.ContainsFunc(strings.Split(want, " … "), lacks)
}

// TestPagesReadTheirRefusals: a page that may call reads what is wrong, and not
// "blocked by CORS policy". The preflight on its way is granted, too.
func TestPagesReadTheirRefusals(t *testing.T) {
	address := serve(t, newServer(t, Config{Backend: nowhere, AllowOrigins: []string{pageOfTest, "https://*.example.net"}}))
	for _, c := range refusedOverTheWire {
		for origin, readable := range map[string]bool{pageOfTest: true, "https://a.example.net": true, "https://evil.example": false, "": false} {
			fields := "host: localhost\r\n" + c.fields
			if origin != "" {
				fields += "origin: " + origin + "\r\n"
			}
			answers := exchange(t, address, c.line+" HTTP/1.1\r\n"+fields+"\r\n"+c.body)
			if len(answers) != 1 {
				t.Errorf("%s of %q: %d answers", c.name, origin, len(answers))
				continue
			}
			h := answers[0].Header
			if got := h.Get("Access-Control-Allow-Origin"); readable != (got == origin && origin != "") || !readable && got != "" {
				t.Errorf("%s of %q: %d lets %q read it", c.name, origin, answers[0].StatusCode, got)
			}
			if !strings.Contains(h.Get("Vary"), "Origin") {
				t.Errorf("%s of %q varies by %q", c.name, origin, h.Get("Vary"))
			}
			if !readable && origin != "" {
				continue // it may be the origin that is refused
			}
			body, _ := io.ReadAll(answers[0].Body) // it was read whole before
			if answers[0].StatusCode != c.code || !says(string(body), c.says) {
				t.Errorf("%s of %q: answered %d %q, want %d with %q", c.name, origin, answers[0].StatusCode, body, c.code, c.says)
			}
			method, target, _ := strings.Cut(c.line, " ")
			if !readable || method != http.MethodPost || target[0] != '/' {
				continue
			}
			preflight := exchange(t, address, "OPTIONS "+target+" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\norigin: "+origin+
				"\r\naccess-control-request-method: POST\r\naccess-control-request-headers: connect-protocol-version,content-type,x-grpc-web\r\n\r\n")
			if len(preflight) != 1 || preflight[0].StatusCode != http.StatusNoContent || preflight[0].Header.Get("Access-Control-Allow-Headers") == "" {
				t.Errorf("%s of %q: the preflight is answered %v", c.name, origin, preflight)
			}
		}
	}
}

// TestRefusalsInTheClientsForm: a Connect client shows the message of its own
// form of errors, a gRPC-Web client that of grpc-message, which a page may read.
func TestRefusalsInTheClientsForm(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere, AllowOrigins: []string{pageOfTest}})
	connect := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api"+testMethod, strings.NewReader("{}"))
	connect.Header = http.Header{"Origin": {pageOfTest}, "Content-Type": {"application/json"}, "Connect-Protocol-Version": {"1"}}
	w := answerTo(s, connect)
	if got := w.Body.String(); w.Code != 404 || w.Header().Get("Content-Type") != "application/json" ||
		!strings.HasPrefix(got, `{"code":"unimplemented","message":"culvert: `) || !says(got, " "+testMethod+" … path_prefix") {
		t.Errorf("Connect: answered %d %v %q", w.Code, w.Header(), got)
	}
	r := webCall(t, "Origin", pageOfTest)
	r.URL.Path = "/api" + testMethod
	w = answerTo(s, r)
	if w.Code != 404 || w.Header().Get("Grpc-Status") != "12" || !strings.HasPrefix(w.Header().Get("Grpc-Message"), "culvert: ") || !says(w.Header().Get("Grpc-Message"), " "+testMethod+" … path_prefix") {
		t.Errorf("gRPC-Web: answered %d %v %q", w.Code, w.Header(), w.Body)
	}
	for _, name := range []string{"grpc-status", "grpc-message"} {
		if !strings.Contains(strings.ToLower(w.Header().Get("Access-Control-Expose-Headers")), name) {
			t.Errorf("a page may not read %s: %v", name, w.Header())
		}
	}
}

// TestConnectClientsGetTheCodeOfTheRefusal, as gRPC-Web clients do.
func TestConnectClientsGetTheCodeOfTheRefusal(t *testing.T) {
	for httpStatus, want := range map[int]string{
		http.StatusBadRequest:           "internal",
		http.StatusForbidden:            "permission_denied",
		http.StatusNotFound:             "unimplemented",
		http.StatusUnsupportedMediaType: "unimplemented",
		http.StatusMisdirectedRequest:   "unknown",
		http.StatusTooManyRequests:      "unavailable",
		http.StatusServiceUnavailable:   "unavailable",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, strings.NewReader("{}"))
		r.Header = http.Header{"Content-Type": {"application/json"}, "Connect-Protocol-Version": {"1"}}
		s := newServer(t, Config{Backend: nowhere})
		w := httptest.NewRecorder()
		(&arrival{caller: caller{s: s, policy: s.policy.Load(), on: s.edge.Of(r)}}).answer(w, r, mistake(httpStatus, "a text"))
		if want := `{"code":"` + want + `","message":"culvert: a text"}` + "\n"; w.Code != httpStatus || w.Body.String() != want {
			t.Errorf("refused with %d: answered %d %q, want %q", httpStatus, w.Code, w.Body, want)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, strings.NewReader("{}"))
	r.Header = http.Header{"Content-Type": {"application/json"}, "Connect-Protocol-Version": {"1"}}
	r.Host = "rebound.example.com"
	w := answerTo(newServer(t, Config{Backend: nowhere, LoopbackOnly: true}), r)
	if w.Code != http.StatusForbidden || !strings.HasPrefix(w.Body.String(), `{"code":"permission_denied",`) {
		t.Errorf("a host that isn't this server's: answered %d %q, want permission_denied", w.Code, w.Body)
	}
}

// TestMistakesAreLogged: a warning for what a client got wrong, with the path and
// without the query; and a line at debug for what anybody may ask for.
func TestMistakesAreLogged(t *testing.T) {
	for _, c := range refusedOverTheWire {
		for _, origin := range []string{"", pageOfTest} {
			func() {
				var out bytes.Buffer
				s := newServer(t, Config{
					Backend: nowhere, AllowOrigins: []string{pageOfTest},
					Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
				})
				method, target, _ := strings.Cut(c.line, " ")
				for range 100 {
					r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(c.body))
					r.Host, r.RequestURI = "localhost", target
					for line := range strings.SplitSeq(strings.TrimSuffix(c.fields, "\r\n"), "\r\n") {
						name, value, _ := strings.Cut(line, ": ")
						r.Header.Set(name, value)
					}
					r.Header.Del("Content-Length")
					if origin != "" {
						r.Header.Set("Origin", origin)
					}
					answerTo(s, r)
				}
				level := "level=WARN"
				if c.quiet && origin == "" {
					level = "level=DEBUG"
				}
				path, _, _ := strings.Cut(target, "?")
				lines := strings.Count(out.String(), "msg=refused")
				if lines == 0 || lines > 10 && level == "level=WARN" || !strings.Contains(out.String(), level+" msg=refused") ||
					strings.Contains(out.String(), "encoding=json") || !strings.Contains(out.String(), path) {
					t.Errorf("%s of %q: the log has %d lines, want few at %s:\n%.400s", c.name, origin, lines, level, out.String())
				}
			}()
		}
	}
}
