package bridge

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestWebServerGetsTheRequest as the client sent it, with what culvert vouches for.
func TestWebServerGetsTheRequest(t *testing.T) {
	type got struct {
		line, host, body, header string
	}
	seen := make(chan *http.Request, 1)
	bodies := make(chan string, 1)
	to := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // shown below
		seen <- r
		bodies <- string(body)
		w.WriteHeader(http.StatusNoContent)
	})
	s := newServer(t, Config{Backend: nowhere, FallbackURL: to, VouchedHeaders: []string{"x-user"}})
	address := serve(t, s)
	trusting := serve(t, newServer(t, Config{Backend: nowhere, FallbackURL: to, VouchedHeaders: []string{"x-user"}, TrustedProxies: prefixes(t, "127.0.0.0/8")}))
	for _, c := range []struct {
		name, request string
		trusted       bool
		line, host    string
		body          string
		want          map[string]string // "": absent
	}{
		{
			"a page", "GET /a%2Fb;c/../d?q=1;2&x=%zz HTTP/1.1\r\nhost: App.Example:8080\r\ncookie: session=1\r\nauthorization: Bearer x\r\norigin: https://a.example\r\nuser-agent: browser\r\n\r\n",
			false, "GET /a%2Fb;c/../d?q=1;2&x=%zz", "App.Example:8080", "",
			map[string]string{"Cookie": "session=1", "Authorization": "Bearer x", "Origin": "https://a.example", "User-Agent": "browser", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "App.Example:8080", "X-Real-Ip": "127.0.0.1", "Via": "1.1 culvert", "Accept-Encoding": ""},
		},
		{
			"a liar", "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 10.0.0.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: admin\r\nx-forwarded-port: 1\r\nforwarded: for=10.0.0.1\r\nx-real-ip: 10.0.0.1\r\nvia: 1.0 liar\r\n" +
				"x_forwarded_for: 10.0.0.1\r\nx_real.ip: 10.0.0.1\r\nx-user: root\r\nx_user: root\r\nx-forwarded-client-cert: root\r\nx-ssl-client-cert: root\r\nculvert-identity: root\r\nx-request-id: mine\r\n\r\n",
			false, "GET /", "a", "",
			map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "a", "X-Forwarded-Port": "", "Forwarded": "", "X-Real-Ip": "127.0.0.1", "Via": "1.1 culvert", "X_forwarded_for": "", "X_real.ip": "", "X-User": "", "X_user": "", "X-Forwarded-Client-Cert": "", "X-Ssl-Client-Cert": "", "Culvert-Identity": "", "X-Request-Id": "mine"},
		},
		{
			"a trusted proxy", "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 198.51.100.7\r\nx-forwarded-proto: https\r\nx-forwarded-host: app.example\r\nx-real-ip: 10.0.0.1\r\nx-user: alice\r\nx_user: root\r\nx-forwarded-port: 443\r\nx-forwarded-client-cert: root\r\n\r\n",
			true, "GET /", "a", "",
			map[string]string{"X-Forwarded-For": "198.51.100.7, 127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example", "X-Real-Ip": "198.51.100.7", "X-User": "alice", "X_user": "", "X-Forwarded-Port": "443", "X-Forwarded-Client-Cert": ""},
		},
		{
			"a liar to web programs", "GET / HTTP/1.1\r\nhost: a\r\nproxy: http://evil.example\r\nx-rewrite-url: /admin\r\nx-original-url: /admin\r\nx_rewrite_url: /admin\r\nx.rewrite.url: /admin\r\nx-script-name: /admin\r\nx-host: evil.example\r\nx-http-host-override: evil.example\r\n" +
				"x-scheme: https\r\nfront-end-https: on\r\nx-sendfile-type: X-Accel-Redirect\r\nx-accel-mapping: /=/\r\nx-middleware-subrequest: middleware\r\nremote-user: root\r\nx-remote-user: root\r\nx_remote_user: root\r\nclient-ip: 10.0.0.1\r\nx-http-method-override: DELETE\r\nx-hostname: mine\r\n\r\n",
			false, "GET /", "a", "",
			map[string]string{"Proxy": "", "X-Rewrite-Url": "", "X-Original-Url": "", "X_rewrite_url": "", "X.rewrite.url": "", "X-Script-Name": "", "X-Host": "", "X-Http-Host-Override": "", "X-Scheme": "", "Front-End-Https": "", "X-Sendfile-Type": "", "X-Accel-Mapping": "", "X-Middleware-Subrequest": "", "Remote-User": "", "X-Remote-User": "", "X_remote_user": "", "Client-Ip": "", "X-Http-Method-Override": "DELETE", "X-Hostname": "mine"},
		},
		{
			"a trusted proxy of web programs", "GET / HTTP/1.1\r\nhost: a\r\nproxy: http://evil.example\r\nx-rewrite-url: /page\r\nx_rewrite_url: /admin\r\nremote-user: alice\r\nx-accel-mapping: /=/\r\n\r\n",
			true, "GET /", "a", "",
			map[string]string{"Proxy": "", "X-Rewrite-Url": "/page", "X_rewrite_url": "", "Remote-User": "alice", "X-Accel-Mapping": ""},
		},
		{
			"fields of one connection", "GET / HTTP/1.1\r\nhost: a\r\nconnection: x-forwarded-for, X-Real-IP, x-request-id, via, x-hop, upgrade, http2-settings, te\r\nte: trailers\r\nx-hop: 1\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nproxy-authorization: x\r\nkeep-alive: 3\r\n\r\n",
			false, "GET /", "a", "",
			map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "127.0.0.1", "Via": "1.1 culvert", "X-Hop": "", "Upgrade": "", "Connection": "", "Http2-Settings": "", "Proxy-Authorization": "", "Keep-Alive": "", "Te": "trailers"},
		},
		{
			"chunks with trailers", "POST /up HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-forwarded-for\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-forwarded-for: 10.0.0.1\r\n\r\n",
			false, "POST /up", "a", "abcde",
			map[string]string{"X-Forwarded-For": "127.0.0.1", "Trailer": ""},
		},
		{"a length", "PUT /up HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", false, "PUT /up", "a", "abc", map[string]string{"Content-Length": "3"}},
		{"an expectation", "PUT /up HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc", false, "PUT /up", "a", "abc", nil},
		{"HTTP/1.0", "GET /x HTTP/1.0\r\n\r\n", false, "GET /x", strings.TrimPrefix(to, "http://"), "", map[string]string{"X-Forwarded-For": "127.0.0.1"}},
		{"two slashes", "GET //evil.example/x?y HTTP/1.1\r\nhost: a\r\n\r\n", false, "GET //evil.example/x?y", "a", "", nil},
	} {
		at := address
		if c.trusted {
			at = trusting
		}
		head, rest, _ := strings.Cut(c.request, "\r\n\r\n")
		if !strings.Contains(head, "connection:") {
			head += "\r\nconnection: close"
		} else {
			head = strings.Replace(head, "connection: ", "connection: close, ", 1)
		}
		answers := exchange(t, at, head+"\r\n\r\n"+rest)
		answers = slices.DeleteFunc(answers, func(r *http.Response) bool { return r.StatusCode == http.StatusContinue })
		if len(answers) != 1 || answers[0].StatusCode != http.StatusNoContent {
			t.Errorf("%s: answered %v", c.name, answers)
			continue
		}
		r, body := await(t, c.name, seen), await(t, c.name, bodies)
		if g, want := (got{r.Method + " " + r.RequestURI, r.Host, body, ""}), (got{c.line, c.host, c.body, ""}); g != want {
			t.Errorf("%s: the web server got %q, want %q", c.name, g, want)
		}
		for name, want := range c.want {
			if have := strings.Join(r.Header[name], " | "); have != want {
				t.Errorf("%s: the web server got %s: %q, want %q", c.name, name, have, want)
			}
		}
		if id := r.Header.Get("X-Request-Id"); !saneID(id) || answers[0].Header.Get("X-Request-Id") != id {
			t.Errorf("%s: the id is %q for the web server and %q for the client", c.name, id, answers[0].Header.Get("X-Request-Id"))
		}
	}
}
