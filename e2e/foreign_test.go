package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/spawn"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A site is culvert as https://grpc.site.test, over its own TLS or behind an nginx
// that ends it, and a web server that is everybody else: any other host of .test. Its
// users have cookies for all of site.test, of which one goes along with foreign
// sites' requests as well.
type site struct {
	*culvert
	backend *backend
	target  string // https://grpc.site.test:port
	pages   string // the web server's port, over TLS
	plain   string // the same in plaintext

	mu   sync.Mutex
	seen map[string]string // the cookies that came to the web server as /seen, by id
}

// Who ends TLS before culvert.
const (
	itself      = ""
	behindNginx = "trusted_proxies: [127.0.0.1]\n"
)

// startSite starts it all. allow are the names whose pages may call, and what else
// culvert's --allow-origin takes.
func startSite(t *testing.T, tls, config string, allow ...string) *site {
	t.Helper()
	dir := t.TempDir()
	localCertificate(t, dir, "localhost")
	s := &site{backend: startBackend(t, backendOptions{}), seen: map[string]string{}}
	s.pages = s.serve(t, func(server *http.Server, ln net.Listener) error {
		return server.ServeTLS(ln, dir+"/cert.pem", dir+"/key.pem")
	})
	s.plain = s.serve(t, (*http.Server).Serve)
	o := culvertOptions{config: "hosts: [grpc.site.test, \"grpc.site.test:" + s.pages + "\"]\nmetadata: {forward_cookies: true}\n" + tls + config}
	if tls == itself {
		o.args = append(o.args, "--tls-cert", dir+"/cert.pem", "--tls-key", dir+"/key.pem")
	}
	for _, a := range allow {
		if strings.HasSuffix(a, ".test") && !strings.Contains(a, "/") {
			a = s.page(a)
		}
		o.args = append(o.args, "--allow-origin", a)
	}
	s.culvert = startCulvert(t, s.backend.address, o)
	s.target = "https://grpc.site.test:" + port(s.address)
	if tls == itself {
		return s
	}
	front := freeAddress(t)
	conf := write(t, dir, "nginx.conf", fmt.Sprintf(nginxConfig, fmt.Sprintf(siteServer, front, s.address)))
	startPathProcess(t, "nginx", front, "-p", dir, "-c", conf)
	s.target = "https://grpc.site.test:" + port(front)
	return s
}

const siteServer = `
	server {
		listen %s ssl http2;
		ssl_certificate cert.pem;
		ssl_certificate_key key.pem;
		location / {
			proxy_pass http://%s;
			proxy_http_version 1.1;
			proxy_set_header Host $http_host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $connection_header;
			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_set_header X-Forwarded-Proto $scheme;
		}
	}
`

// serve serves the pages on a port of its own, and returns that.
func (s *site) serve(t *testing.T, run func(*http.Server, net.Listener) error) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s.web(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	var serving sync.WaitGroup
	serving.Go(func() { _ = run(server, ln) }) // until it is closed
	t.Cleanup(func() {
		_ = server.Close() // the browser is gone
		serving.Wait()
	})
	return port(ln.Addr().String())
}

func (s *site) web() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(`<!doctype html><meta charset=utf-8><link rel=icon href="data:,"><title>page</title><body></body>`)) // to a browser that may be gone
	})
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, _ *http.Request) {
		for _, c := range []http.Cookie{{Name: "session", SameSite: http.SameSiteNoneMode}, {Name: "strict", SameSite: http.SameSiteStrictMode}} {
			c.Value, c.Domain, c.Path, c.Secure, c.HttpOnly = "secret", "site.test", "/", true, true
			http.SetCookie(w, &c)
		}
	})
	// What comes along with what a page sends to another server of site.test.
	mux.HandleFunc("/seen", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen[r.URL.Query().Get("id")] = r.Header.Get("Cookie")
		w.WriteHeader(http.StatusNoContent)
	})
	// An open redirect, which makes the origin of what goes through it opaque.
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Origin": r.Header.Get("Origin"), "Credentials": "true", "Headers": r.Header.Get("Access-Control-Request-Headers"),
		} {
			w.Header().Set("Access-Control-Allow-"+name, value)
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	return mux
}

// page returns the URL of a page of the web server's, of any name.
func (s *site) page(name string) string { return "https://" + name + ":" + s.pages }

// An attempt is what a page tries, and what came of it: node/foreign.js does it.
type attempt struct {
	ID          string            `json:"id"`
	URL         string            `json:"url"`
	How         string            `json:"how"`
	Method      string            `json:"method,omitempty"`
	Type        string            `json:"type,omitempty"`
	Mode        string            `json:"mode,omitempty"`
	Credentials string            `json:"credentials,omitempty"`
	Subprotocol string            `json:"subprotocol,omitempty"`
	Keepalive   bool              `json:"keepalive,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Body        []byte            `json:"body"`

	what string
}

type visit struct {
	Page     string    `json:"page"`
	Opaque   bool      `json:"opaque"` // from a frame of the page, whose origin is null
	Attempts []attempt `json:"attempts"`
}

type outcome struct {
	ID     string `json:"id"`
	Opened bool   `json:"opened"` // a WebSocket
	Read   bool   `json:"read"`   // the page read the call's answer
	Told   string `json:"told"`
	Said   string `json:"said"` // culvert's words that the page read
}

// make fills in what all attempts have in common.
func (s *site) make(t *testing.T, what string, a attempt) attempt {
	a.ID = newID(t)
	a.what = what
	if a.URL == "" {
		a.URL = s.target + wire.Unary
	}
	if a.How == "socket" {
		a.URL = strings.Replace(a.URL, "https://", "wss://", 1)
	}
	if a.Mode == "" && a.How != "beacon" && a.How != "form" { // simple requests can't name themselves
		a.Headers = map[string]string{probe.IDKey: a.ID}
	}
	a.Body = wire.Frame(wire.Request(0, 0))
	return a
}

// calls are the ways in which a page that may call does.
func (s *site) calls(t *testing.T) []attempt {
	return []attempt{
		s.make(t, "gRPC-Web by fetch", attempt{How: "fetch", Type: "application/grpc-web+proto"}),
		s.make(t, "gRPC-Web by XMLHttpRequest", attempt{How: "xhr", Type: "application/grpc-web+proto"}),
		s.make(t, "gRPC-Web that outlives the page", attempt{How: "fetch", Type: "application/grpc-web+proto", Keepalive: true}),
		s.make(t, "a WebSocket", attempt{How: "socket", Subprotocol: "grpc-websockets"}),
	}
}

// attacks are the ways in which one that may not could try to.
func (s *site) attacks(t *testing.T) []attempt {
	return append(s.calls(t),
		s.make(t, "gRPC-Web without cookies", attempt{How: "fetch", Type: "application/grpc-web+proto", Credentials: "omit"}),
		s.make(t, "gRPC-Web in text", attempt{How: "fetch", Type: "application/grpc-web-text"}),
		s.make(t, "native gRPC", attempt{How: "fetch", Type: "application/grpc+proto"}),
		s.make(t, "Connect, streaming", attempt{How: "fetch", Type: "application/connect+proto"}),
		s.make(t, "Connect, unary", attempt{How: "fetch", Type: "application/json"}),
		s.make(t, "Connect, by GET", attempt{How: "fetch", Method: http.MethodGet, Mode: "no-cors", URL: s.target + wire.Unary + "?connect=v1&encoding=json&message=%7B%7D"}),
		s.make(t, "a tunnel", attempt{How: "socket", Subprotocol: "h2ts", URL: s.target + "/"}),
		s.make(t, "a WebSocket of no protocol", attempt{How: "socket"}),
		s.make(t, "no preflight, no type", attempt{How: "fetch", Mode: "no-cors"}),
		s.make(t, "no preflight, a type that a browser drops", attempt{How: "fetch", Mode: "no-cors", Type: "application/grpc-web+proto"}),
		s.make(t, "no preflight, text", attempt{How: "fetch", Mode: "no-cors", Type: "text/plain"}),
		s.make(t, "no preflight, a type behind text", attempt{How: "fetch", Mode: "no-cors", Type: "text/plain; application/grpc-web+proto"}),
		s.make(t, "no preflight, a type behind a comma", attempt{How: "fetch", Mode: "no-cors", Type: "text/plain, application/grpc-web+proto"}),
		s.make(t, "a beacon", attempt{How: "beacon", Type: "application/grpc-web+proto"}),
		s.make(t, "a beacon of text", attempt{How: "beacon", Type: "text/plain"}),
		s.make(t, "a form", attempt{How: "form", Type: "application/x-www-form-urlencoded"}),
		s.make(t, "a form of text", attempt{How: "form", Type: "text/plain"}),
		s.make(t, "a form of parts", attempt{How: "form", Type: "multipart/form-data"}),
		s.make(t, "a frame", attempt{How: "frame"}),
		s.make(t, "an image", attempt{How: "image"}),
		s.make(t, "a script", attempt{How: "script"}),
		s.make(t, "through an open redirect", attempt{
			How: "fetch", Type: "application/grpc-web+proto", URL: s.page("app.site.test") + "/redirect?to=" + url.QueryEscape(s.target+wire.Unary),
		}),
		s.make(t, "through an open redirect, no preflight", attempt{
			How: "fetch", Mode: "no-cors", URL: s.page("app.site.test") + "/redirect?to=" + url.QueryEscape(s.target+wire.Unary),
		}),
	)
}

// baits ask the web server, under culvert's name, whether cookies come along.
func (s *site) baits(t *testing.T) []attempt {
	baits := []attempt{
		s.make(t, "", attempt{How: "fetch", Mode: "no-cors", URL: s.page("grpc.site.test") + "/seen"}),
		s.make(t, "", attempt{How: "socket", URL: s.page("grpc.site.test") + "/seen"}),
	}
	for i := range baits {
		baits[i].URL += "?id=" + url.QueryEscape(baits[i].ID)
	}
	return baits
}

// play makes the visits, in one browser, and returns what came of each attempt.
func (s *site) play(t *testing.T, visits ...visit) map[string]outcome {
	t.Helper()
	plan, err := json.Marshal(map[string]any{"login": s.page("app.site.test") + "/login", "visits": visits})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "foreign.js")
	cmd.Dir = "node"
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(plan), &stdout, &stderr
	if err := spawn.Start(cmd); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1) // for who has given up
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-time.After(5 * time.Minute):
		_ = cmd.Process.Kill() // it may end just now
		err = fmt.Errorf("it has not ended: %w", <-ended)
	}
	if err != nil {
		t.Fatalf("node foreign.js: %v\n%s\n%s", err, &stderr, &stdout)
	}
	outcomes := map[string]outcome{}
	for lines := bufio.NewScanner(&stdout); lines.Scan(); {
		var o outcome
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			t.Fatalf("%v in %q", err, lines.Text())
		}
		outcomes[o.ID] = o
	}
	return outcomes
}

// wantOnly fails when another call than those reached the backend.
func (s *site) wantOnly(t *testing.T, ids ...string) {
	t.Helper()
	slices.Sort(ids)
	if got := slices.Sorted(maps.Keys(s.backend.records(t))); !slices.Equal(got, ids) {
		t.Errorf("the backend saw the calls %q, want %q", got, ids)
	}
}

// wantRefused holds every attempt of a visit to nothing: no call, no answer, no
// WebSocket.
func wantRefused(t *testing.T, v visit, outcomes map[string]outcome) {
	t.Helper()
	for _, a := range v.Attempts {
		o, ok := outcomes[a.ID]
		if !ok || o.Opened || o.Read || strings.HasPrefix(o.Told, "nothing") {
			t.Errorf("%s, opaque %v: %s: %+v", v.Page, v.Opaque, a.what, o)
		}
	}
}

// wantCalls holds every attempt of a visit to a call that the page could read the
// answer of, and that brought the cookies or none. It returns the calls' ids.
func (s *site) wantCalls(t *testing.T, v visit, outcomes map[string]outcome, cookies bool) (ids []string) {
	t.Helper()
	for _, a := range v.Attempts {
		ids = append(ids, a.ID)
		if o := outcomes[a.ID]; !o.Read {
			t.Errorf("%s, opaque %v: %s: the page read no answer: %+v", v.Page, v.Opaque, a.what, o)
		}
		r, ok := s.backend.saw(t, a.ID)
		got := strings.Join(r.Values("cookie"), "; ")
		if !ok || strings.Contains(got, "session=secret") != cookies {
			t.Errorf("%s, opaque %v: %s: at the backend %v, with the cookies %q, want some: %v", v.Page, v.Opaque, a.what, ok, got, cookies)
		}
	}
	return ids
}

// Pages that are real, of foreign origins, try to use the cookies of a user who has
// logged in: by WebSocket (cross-site WebSocket hijacking), by fetch and by all that
// needs no preflight. Nothing of it is a call; the pages that may call do.
func TestForeignPages(t *testing.T) {
	t.Parallel()
	s := startSite(t, itself, "", "app.site.test")
	foreign := []visit{
		{Page: s.page("foreign.test")},                // another site
		{Page: s.page("evil.site.test")},              // the same site: every cookie comes along
		{Page: s.page("app.site.test.foreign.test")},  // begins like the one that may
		{Page: s.page("xapp.site.test")},              // ends like it
		{Page: s.page("below.app.site.test")},         // below it
		{Page: "http://grpc.site.test:" + s.plain},    // culvert's own name, which anybody on the way can be
		{Page: "http://app.site.test:" + s.plain},     // the one that may, in plaintext
		{Page: s.page("foreign.test"), Opaque: true},  // sandboxed
		{Page: s.page("app.site.test"), Opaque: true}, // sandboxed by the one that may
	}
	var visits []visit
	for i := range foreign {
		foreign[i].Attempts = s.attacks(t)
		visits = append(visits, foreign[i])
	}
	baits := visit{Page: s.page("evil.site.test"), Attempts: s.baits(t)}
	listed := visit{Page: s.page("app.site.test"), Attempts: s.calls(t)}
	own := visit{Page: s.page("grpc.site.test"), Attempts: s.calls(t)}
	outcomes := s.play(t, append(visits, baits, listed, own)...)

	for _, v := range foreign {
		wantRefused(t, v, outcomes)
	}
	called := append(s.wantCalls(t, listed, outcomes, true), s.wantCalls(t, own, outcomes, true)...)
	s.wantOnly(t, called...)
	s.loggedLike(t, func(l map[string]any) bool {
		return l["msg"] == "refused" && l["key"] == "allow_origins" && l["detail"] == foreign[0].Page
	})
	// The attempts had what they need.
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range baits.Attempts {
		if !strings.Contains(s.seen[a.ID], "session=secret") || !strings.Contains(s.seen[a.ID], "strict=secret") {
			t.Errorf("a page of the same site sends no cookies by %s: %q", a.How, s.seen[a.ID])
		}
	}
}

// The origin of sandboxed pages calls where it is allowed by name, and never with
// cookies, whoever sandboxed the page.
func TestNullIsAllowedByName(t *testing.T) {
	t.Parallel()
	wildcard := startSite(t, behindNginx, "", "https://*.wild.test:*", `~https://[a-z]+\.site\.test(:[0-9]+)?`)
	refused := visit{Page: wildcard.page("app.site.test"), Opaque: true, Attempts: wildcard.attacks(t)}
	visits := []visit{refused}
	for _, name := range []string{"app.site.test", "a.wild.test"} {
		visits = append(visits, visit{Page: wildcard.page(name), Attempts: wildcard.withoutCookies(t)})
	}
	outcomes := wildcard.play(t, visits...)
	wantRefused(t, refused, outcomes)
	var called []string
	for _, v := range visits[1:] {
		called = append(called, wildcard.wantCalls(t, v, outcomes, false)...)
	}
	wildcard.wantOnly(t, called...)

	named := startSite(t, itself, "", "null")
	sandboxed := visit{Page: named.page("app.site.test"), Opaque: true, Attempts: named.withoutCookies(t)}
	greedy := visit{Page: named.page("app.site.test"), Opaque: true, Attempts: named.withCookies(t)}
	whole := visit{Page: named.page("app.site.test"), Attempts: named.attacks(t)}
	outcomes = named.play(t, sandboxed, greedy, whole)
	called = named.wantCalls(t, sandboxed, outcomes, false)
	for _, v := range []visit{greedy, whole} {
		wantRefused(t, v, outcomes)
	}
	named.wantOnly(t, called...)
}

// withoutCookies are calls that bring none, or whose cookies culvert takes away:
// a WebSocket always brings them.
func (s *site) withoutCookies(t *testing.T) []attempt {
	return []attempt{
		s.make(t, "gRPC-Web without cookies", attempt{How: "fetch", Type: "application/grpc-web+proto", Credentials: "omit"}),
		s.make(t, "a WebSocket", attempt{How: "socket", Subprotocol: "grpc-websockets"}),
	}
}

// withCookies are calls that a browser doesn't send before culvert says that
// cookies may come along.
func (s *site) withCookies(t *testing.T) []attempt {
	return []attempt{
		s.make(t, "gRPC-Web with cookies", attempt{How: "fetch", Type: "application/grpc-web+proto"}),
		s.make(t, "XMLHttpRequest with cookies", attempt{How: "xhr", Type: "application/grpc-web+proto"}),
	}
}

// While origins are only tried out, what would be refused is told and goes on,
// without the user's cookies.
func TestOriginsAreTriedOut(t *testing.T) {
	t.Parallel()
	s := startSite(t, behindNginx, "enforce_origins: false\n", "app.site.test")
	s.loggedLike(t, func(l map[string]any) bool { return strings.Contains(fmt.Sprint(l), "enforce_origins: ") })
	foreign := visit{Page: s.page("evil.site.test"), Attempts: s.withoutCookies(t)}
	sandboxed := visit{Page: s.page("foreign.test"), Opaque: true, Attempts: s.withoutCookies(t)}
	greedy := visit{Page: s.page("evil.site.test"), Attempts: s.withCookies(t)}
	listed := visit{Page: s.page("app.site.test"), Attempts: s.calls(t)}
	outcomes := s.play(t, foreign, sandboxed, greedy, listed)
	called := slices.Concat(
		s.wantCalls(t, foreign, outcomes, false), s.wantCalls(t, sandboxed, outcomes, false), s.wantCalls(t, listed, outcomes, true),
	)
	wantRefused(t, greedy, outcomes)
	s.wantOnly(t, called...)
	for _, origin := range []string{foreign.Page, "null"} {
		s.loggedLike(t, func(l map[string]any) bool {
			return mentions(l, "would refused") && l["key"] == "allow_origins" && l["detail"] == origin
		})
	}
}
