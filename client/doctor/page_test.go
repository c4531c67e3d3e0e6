package doctor

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/client/internal/network"
)

func TestPolicies(t *testing.T) {
	const https, wss = "https://edge.example.com/culvert.v1.Path/Echo", "wss://edge.example.com/culvert.v1.Path/Echo"
	for _, c := range []struct {
		page, policy, url string
		want              bool
	}{
		{"https://app.example.com", "connect-src *", https, true},
		{"https://app.example.com", "connect-src *", wss, true},
		{"https://app.example.com", "connect-src 'none'", https, false},
		{"https://app.example.com", "connect-src", https, false},
		{"https://app.example.com", "connect-src 'self'", https, false},
		{"https://edge.example.com", "connect-src 'self'", https, true},
		{"https://edge.example.com", "connect-src 'self'", wss, true},
		{"https://edge.example.com:8443", "connect-src 'self'", https, false},
		{"https://app.example.com", "default-src 'self'; connect-src https://edge.example.com", https, true},
		{"https://app.example.com", "connect-src https://edge.example.com", wss, false},
		{"https://app.example.com", "connect-src https://edge.example.com wss://edge.example.com", wss, true},
		{"https://app.example.com", "connect-src edge.example.com", https, true},
		{"https://app.example.com", "connect-src edge.example.com", wss, false},
		{"https://app.example.com", "connect-src http://edge.example.com", https, true},
		{"https://app.example.com", "connect-src http://edge.example.com:80", https, true},
		{"https://app.example.com", "connect-src https://edge.example.com:8443", https, false},
		{"https://app.example.com", "connect-src https://edge.example.com:*", https, true},
		{"https://app.example.com", "connect-src *.example.com", https, true},
		{"https://app.example.com", "connect-src *.edge.example.com", https, false},
		{"https://app.example.com", "connect-src https:", https, true},
		{"https://app.example.com", "connect-src https:", wss, false},
		{"https://app.example.com", "connect-src wss:", wss, true},
		{"https://app.example.com", "connect-src https://edge.example.com/culvert.v1.Path/", https, true},
		{"https://app.example.com", "connect-src https://edge.example.com/other", https, false},
		{"https://app.example.com", "connect-src HTTPS://EDGE.example.com/culvert.v1.Path/Echo", https, true},
		{"https://app.example.com", "connect-src https://edge.example.com/culvert.v1.path/echo", https, false},
		{"https://app.example.com", "connect-src https://edge.example.com/culvert.v1.path/", https, false},
		{"https://edge.example.com", "connect-src 'SELF'", https, true},
		{"https://app.example.com", "connect-src HTTPS:", https, true},
		{"https://app.example.com", "CONNECT-SRC HTTPS://EDGE.example.com", https, true},
		{"https://app.example.com", "default-src 'self'", https, false},
		{"http://localhost:5173", "connect-src 'self' http://edge.example.com", https, true},
	} {
		page, err := network.ParseTarget(c.page)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := parsePolicy("", c.policy).allows(page, u); got != c.want {
			t.Errorf("on %s, %q allows %s: %v, want %v", c.page, c.policy, c.url, got, c.want)
		}
	}
}

func TestPoliciesOfAPage(t *testing.T) {
	const meta = `<meta http-equiv=Content-Security-Policy content="connect-src a">`
	headers := http.Header{"Content-Security-Policy": {"default-src 'self', script-src 'none'", "connect-src a"}, "Content-Security-Policy-Report-Only": {"connect-src b"}}
	for name, c := range map[string]struct {
		header http.Header
		body   string
		want   string // "?": it can't be told
	}{
		"headers":                 {headers, "", "default-src 'self'|connect-src a"},
		"a comment":               {nil, "<html><head><!-- " + meta + " -->", ""},
		"any case, an entity":     {nil, "<META content='connect-src d &quot;' HTTP-EQUIV=content-security-policy>", `connect-src d "`},
		"another name":            {nil, `<meta name="x" content="connect-src e">`, ""},
		"a source with quotes":    {nil, `<head><meta http-equiv="Content-Security-Policy" content="default-src 'self'"></head>`, "default-src 'self'"},
		"none":                    {nil, `<meta http-equiv='Content-Security-Policy' content="connect-src 'none'">`, "connect-src 'none'"},
		"a script's text":         {nil, "<head><script>a = '" + meta + "'</script></head>", ""},
		"in the body":             {nil, "<head></head><body>" + meta, ""},
		"behind a text":           {nil, "<html>text" + meta, ""},
		"two":                     {nil, meta + meta, "connect-src a|connect-src a"},
		"a long head":             {nil, "<style>" + strings.Repeat(" ", maxHTML) + "</style>" + meta, "?"},
		"a short head of a long":  {nil, meta + "<body>" + strings.Repeat("x", maxHTML), "connect-src a"},
		"a tree that is too deep": {nil, strings.Repeat("<div>", 1000), "?"},
	} {
		policies, err := policiesOf(c.header, []byte(c.body)[:min(len(c.body), maxHTML)])
		var texts []string
		for _, p := range policies {
			texts = append(texts, p.text())
		}
		got := strings.Join(texts, "|")
		if err != nil {
			got = "?"
		}
		if got != c.want {
			t.Errorf("%s: got %q (%v), want %q", name, got, err, c.want)
		}
	}
}

func FuzzPolicies(f *testing.F) {
	f.Add("default-src 'self'; connect-src https://a:1/b *.c", "https://a/b")
	f.Fuzz(func(t *testing.T, policy, to string) {
		u, err := url.Parse(to)
		if err != nil {
			return
		}
		p := parsePolicy("", policy)
		if p.sources == nil && p.allows(network.Target{Host: "a", Port: "443"}, u) {
			t.Errorf("%q allows %q without a source", policy, to)
		}
	})
}

// page serves a page of the application, in plaintext.
func (w *world) page(address string, h http.HandlerFunc) {
	w.pageOn(w.Listen(w.t, address), h)
}

func (w *world) pageOn(ln net.Listener, h http.HandlerFunc) {
	server := &http.Server{Handler: h}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) }) // it always returns an error
	w.t.Cleanup(func() {
		_ = server.Close()
		_ = ln.Close() // it may be closed
		serving.Wait()
	})
}

func TestPageOfAnOrigin(t *testing.T) {
	for name, c := range map[string]struct {
		origin, policy string
		allowed        bool
		want           []string
	}{
		"all is well":         {"http://app.example.com", "connect-src https: wss:", true, []string{"way-grpc"}},
		"no policy":           {"http://app.example.com", "", true, []string{"way-grpc"}},
		"a policy":            {"http://app.example.com", "connect-src 'self'", true, []string{"way-grpc", "csp-blocks"}},
		"an origin":           {"http://app.example.com", "", false, []string{"way-grpc", "origin-denied"}},
		"a login":             {"http://app.example.com", "to a login", true, []string{"way-grpc", "page-unreachable"}},
		"no page":             {"http://nowhere.example.com", "", true, []string{"way-grpc", "page-unreachable"}},
		"the edge's own page": {"https://edge.example.com", "", false, []string{"way-grpc", "page-unreachable"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.doctor = true
				w.change = func(cfg *bridge.Config) {
					if c.allowed {
						cfg.AllowOrigins = []string{"*"}
					}
				}
				w.startEdge()
				w.page("app.example.com:80", func(rw http.ResponseWriter, r *http.Request) {
					if c.policy == "to a login" {
						http.Redirect(rw, r, "http://login.example.com/", http.StatusFound)
						return
					}
					if r.URL.Path == "/" {
						http.Redirect(rw, r, "/home", http.StatusFound)
						return
					}
					if c.policy != "" {
						rw.Header().Set("Content-Security-Policy", c.policy)
					}
					_, _ = rw.Write([]byte("<html>")) // the doctor may be gone
				})
				w.page("login.example.com:80", func(rw http.ResponseWriter, _ *http.Request) {
					rw.Header().Set("Content-Security-Policy", "default-src 'none'")
				})
				o := w.direct()
				o.Origin = c.origin
				wantVerdicts(w.t, w.run(o), Yes, c.want...)
			})
		})
	}
}

// TestClientCertificateStays: servers of pages that aren't the edge get no certificate of the client.
func TestClientCertificateStays(t *testing.T) {
	for name, want := range map[string]int{"app.example.com": 0, "edge.example.com": 1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				got := -1
				w.pageOn(tls.NewListener(w.Listen(w.t, name+":443"), &tls.Config{Certificates: []tls.Certificate{w.authority.Server(w.t, name)}, ClientAuth: tls.RequestClientCert}),
					func(_ http.ResponseWriter, r *http.Request) { got = len(r.TLS.PeerCertificates) })
				o := w.direct()
				o.Origin, o.TLS.Certificates = "https://"+name, []tls.Certificate{w.authority.Client(w.t)}
				x, err := newExamination("https://edge.example.com", o)
				if err != nil {
					w.t.Fatal(err)
				}
				if f := x.fetchPage(w.t.Context()); f.Result != works || got != want {
					w.t.Errorf("%+v, with %d certificates of the client, want %d", f, got, want)
				}
			})
		})
	}
}

// TestPreflight: what the answer allows must be what a call has.
func TestPreflight(t *testing.T) {
	const origin, fields = "https://app.example.com", "Content-Type, X-Grpc-Web, X-User"
	for name, c := range map[string]struct {
		origins  []string
		fields   string
		want     Result
		evidence string
	}{
		"all is allowed":   {[]string{origin}, fields, works, "may call"},
		"any header":       {[]string{"*"}, "*", works, "may call"},
		"no header":        {[]string{origin}, "", refused, "answered 200: it doesn't allow the header content-type"},
		"one is missing":   {[]string{"*"}, "Content-Type, X-Grpc-Web", refused, "doesn't allow the header x-user"},
		"nothing":          {nil, fields, stripped, "has no access-control-allow-origin"},
		"another origin":   {[]string{"https://a"}, fields, refused, "allows the origin https://a only"},
		"an origin, twice": {[]string{origin, origin}, fields, refused, "has access-control-allow-origin twice"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.page("edge.example.com:80", func(rw http.ResponseWriter, _ *http.Request) {
					rw.Header()["Access-Control-Allow-Origin"] = c.origins
					rw.Header().Set("Access-Control-Allow-Headers", c.fields)
				})
				o := w.direct()
				o.Origin = origin
				x, err := newExamination("http://edge.example.com", o)
				if err != nil {
					w.t.Fatal(err)
				}
				x.header = http.Header{"X-User": {"a"}} // plaintext withholds those of the options
				if got := x.preflight(w.t.Context()); got.Result != c.want || !strings.Contains(got.Evidence, c.evidence) {
					w.t.Errorf("%+v, want %s, %q", got, c.want, c.evidence)
				}
			})
		})
	}
}
