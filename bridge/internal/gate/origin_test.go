package gate

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

func policy(t testing.TB, allow, hosts []string) *Origins {
	t.Helper()
	p, err := NewOrigins(allow, hosts)
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

// from is a request of a page of the origin, to the host, in plaintext.
func from(origin, host string) Asker { return Asker{Origins: []string{origin}, Host: host} }

func TestOrigins(t *testing.T) {
	allow := []string{
		"https://app.example.com", "https://*.wild.example", "https://*.ports.example:*", "http://localhost:*", "https://port.example:8443",
		"http://[::1]:3000", "vscode-webview://*", "https://Upper.Example.COM", "https://default.example:443", "http://default.example:80",
	}
	p := policy(t, allow, nil)
	for origin, want := range map[string]bool{
		"https://app.example.com":                          true,
		"https://APP.Example.com":                          true,
		"HTTPS://app.example.com":                          true,
		"http://app.example.com":                           false, // another scheme
		"https://app.example.com:8443":                     false, // another port
		"https://app.example.com.":                         false, // another name to the browser
		"https://app.example.com.evil":                     false,
		"https://evil-app.example.com":                     false,
		"https://evilapp.example.com":                      false,
		"https://sub.app.example.com":                      false,
		"https://example.com":                              false,
		"https://app.example.com/":                         false,
		"https://app.example.com/path":                     false,
		"https://app.example.com@evil":                     false,
		"https://evil@app.example.com":                     false,
		"https://evil:1@app.example.com":                   false,
		"app.example.com":                                  false,
		"//app.example.com":                                false,
		"null":                                             false,
		" ":                                                false,
		"https://":                                         false,
		"https://app.example.com\x00":                      false,
		"https://app.example.com evil":                     false,
		"https://app.example.com, https://app.example.com": false,
		"https://app%2eexample.com":                        false,

		"https://a.wild.example":          true,
		"https://a.b.wild.example":        true,
		"https://A.Wild.Example":          true,
		"https://wild.example":            false, // the name itself is another one
		"https://.wild.example":           false,
		"https://evilwild.example":        false,
		"https://a.wild.example.evil":     false,
		"https://a.wild.example:8443":     false,
		"http://a.wild.example":           false,
		"https://evil/.wild.example":      false,
		"https://evil?.wild.example":      false,
		"https://evil#.wild.example":      false,
		"https://evil\\.wild.example":     false,
		"https://evil:80.wild.example":    false,
		"https://a.ports.example":         true,
		"https://a.ports.example:1":       true,
		"https://a.ports.example:99999":   false,
		"https://a.ports.example:x":       false,
		"https://ports.example:1":         false,
		"https://port.example:8443":       true,
		"https://port.example":            false,
		"https://port.example:443":        false,
		"http://localhost":                true,
		"http://localhost:3000":           true,
		"https://localhost:3000":          false,
		"http://localhost.evil:3000":      false,
		"http://evil.localhost:3000":      false,
		"http://127.0.0.1:3000":           false,
		"http://[::1]:3000":               true,
		"http://[::1]:3001":               false,
		"http://[::1]":                    false,
		"http://[0:0:0:0:0:0:0:1]:3000":   false, // no browser writes it so
		"vscode-webview://1abc2def":       true,
		"vscode-webview://":               false,
		"vscode-webview-evil://1abc2def":  false,
		"https://vscode-webview":          false,
		"https://upper.example.com":       true,
		"https://default.example":         true,
		"http://default.example":          true,
		"https://default.example:80":      false,
		"chrome-extension://aaaabbbbcccc": false,
		"file://":                         false,
	} {
		v := p.Judge(from(origin, "app.example.com"))
		if v.Allowed != want || v.Any || v.Origin != origin {
			t.Errorf("%q: got %+v, want allowed %v", origin, v, want)
		}
	}
}

// TestOriginThatIsAbsent: a program has none. A page has one, so what else the
// browser says counts where it doesn't arrive; and cookies are a browser's.
func TestOriginThatIsAbsent(t *testing.T) {
	for _, c := range []struct {
		site    string
		cookies bool
		want    *report.Fault
	}{
		{"", false, nil},
		{"none", false, nil}, // a person's doing
		{"same-origin", false, nil},
		{"same-site", false, unnamedOrigin},
		{"cross-site", false, unnamedOrigin},
		{"", true, cookiesAlone},
		{"none", true, cookiesAlone},
		{"Same-Origin", true, cookiesAlone}, // no browser writes it so
		{"same-origin", true, nil},
		{"same-site", true, unnamedOrigin},
		{"cross-site", true, unnamedOrigin},
	} {
		v := policy(t, []string{"*"}, nil).Judge(Asker{Host: "evil.example", Site: c.site, Cookies: c.cookies})
		if v.Denial != c.want || v.Allowed != (c.want == nil) || v.Credentials != v.Allowed || v.Origin != "" {
			t.Errorf("Sec-Fetch-Site %q, cookies %v: got %+v, want the denial %+v", c.site, c.cookies, v, c.want)
		}
	}
}

// TestTwoOrigins are none: what stands before culvert may have judged the
// other one.
func TestTwoOrigins(t *testing.T) {
	p := policy(t, []string{"*", "https://app.example.com"}, nil)
	for _, origins := range [][]string{
		{"https://app.example.com", "https://app.example.com"},
		{"https://app.example.com", "https://evil.example"},
		{"", "https://app.example.com"},
		{"https://app.example.com", ""},
		{""},
	} {
		if v := p.Judge(Asker{Origins: origins, Host: "h"}); v.Allowed || v.Credentials || v.Denial != severalOrigins {
			t.Errorf("%q: got %+v, want it refused", origins, v)
		}
	}
}

func TestAnyOriginCountsWithoutCookies(t *testing.T) {
	p := policy(t, []string{"*", "https://app.example.com"}, nil)
	for origin, any := range map[string]bool{
		"https://app.example.com": false, // it is listed as well
		"https://evil.example":    true,
		"file://":                 true,
		"::":                      true,
	} {
		if v := p.Judge(from(origin, "h")); !v.Allowed || v.Any != any || v.Credentials == any {
			t.Errorf("%q: got %+v, want it allowed, by the wildcard alone and without cookies: %v", origin, v, any)
		}
	}
}

// TestNullOriginByNameAlone: sandboxed pages of anybody say it, so no rule
// means them that doesn't name them, and they never bring cookies.
func TestNullOriginByNameAlone(t *testing.T) {
	for _, c := range []struct {
		allow []string
		want  bool
	}{
		{nil, false},
		{[]string{"*"}, false},
		{[]string{"https://*.example.com", "~https://[a-z]+\\.example\\.com"}, false},
		{[]string{"null"}, true},
		{[]string{"*", "null"}, true},
	} {
		p := policy(t, c.allow, []string{"null"})
		if v := p.Judge(from("null", "null")); v.Allowed != c.want || v.Any || v.Credentials {
			t.Errorf("%q: got %+v, want it allowed %v, without cookies", c.allow, v, c.want)
		}
		for _, origin := range []string{"NULL", "Null", "null:80", "https://null"} {
			if v := p.Judge(from(origin, "h")); v.Allowed && !v.Any && origin != "https://null" {
				t.Errorf("%q: %q is taken for null: %+v", c.allow, origin, v)
			}
		}
	}
}

// TestCookiesWantAnExactOrigin: what a pattern lets in, nobody has named.
func TestCookiesWantAnExactOrigin(t *testing.T) {
	p := policy(t, []string{
		"https://app.example.com", "https://*.example.com", "http://localhost:*", "vscode-webview://*", `~https://pr-[0-9]+\.example\.net`,
		"chrome-extension://abcdefghijklmnopabcdefghijklmnop",
	}, []string{"grpc.example.com"})
	for origin, want := range map[string]bool{
		"https://app.example.com":                             true, // a pattern matches it as well
		"https://APP.example.com":                             true,
		"https://grpc.example.com":                            true, // own
		"http://127.0.0.1:8080":                               true, // own
		"chrome-extension://abcdefghijklmnopabcdefghijklmnop": true,
		"https://other.example.com":                           false,
		"http://localhost:3000":                               false,
		"vscode-webview://1abc":                               false,
		"https://pr-7.example.net":                            false,
	} {
		if v := p.Judge(from(origin, "127.0.0.1:8080")); !v.Allowed || v.Credentials != want {
			t.Errorf("%q: got %+v, want it allowed, with cookies: %v", origin, v, want)
		}
	}
}

func TestOriginExpressions(t *testing.T) {
	p := policy(t, []string{
		`~https://pr-[0-9]+\.preview\.example\.com`,
		`~^https://(alpha|beta)\.example\.org(:[0-9]+)?$`,
		`~https://one\.example\.net|https://two\.example\.net|http://three\.example\.net`,
		`~https://[A-Z]\.Upper\.example`,
		`~chrome-extension://[a-p]{32}`,
		`~https://(?m)line\.example$`,
	}, nil)
	for origin, want := range map[string]bool{
		"https://pr-12.preview.example.com":                    true,
		"https://PR-12.preview.example.com":                    true,
		"https://pr-.preview.example.com":                      false,
		"https://pr-12.previewXexample.com":                    false,
		"https://pr-12.preview.example.com.evil":               false,
		"https://pr-12.preview.example.com:8443":               false,
		"https://evil.pr-12.preview.example.com":               false,
		"http://pr-12.preview.example.com":                     false,
		"https://alpha.example.org":                            true,
		"https://beta.example.org:8443":                        true,
		"https://alphabeta.example.org":                        false,
		"https://alpha.example.org.evil.example":               false,
		"https://one.example.net":                              true,
		"https://two.example.net":                              true,
		"https://two.example.net.evil":                         false,
		"https://evil.one.example.net":                         false,
		"http://three.example.net":                             false, // each expression is of one scheme
		"https://x.upper.example":                              true,
		"chrome-extension://abcdefghijklmnopabcdefghijklmnop":  true,
		"chrome-extension://abcdefghijklmnopabcdefghijklmnopa": false,
		"https://line.example":                                 true,
		"https://line.example\nhttps://evil":                   false,
		"https://pr-1.preview.example.com\n":                   false,
		"https://evil/pr-1.preview.example.com":                false,
		"https://evil#.preview.example.com":                    false,
		"https://evil@pr-1.preview.example.com":                false,
		"https://pr-1.preview.example.com/":                    false,
		"https://pr-\u0661.preview.example.com":                false,
	} {
		if v := p.Judge(from(origin, "h")); v.Allowed != want || v.Credentials || v.Any {
			t.Errorf("%q: got %+v, want allowed %v, without cookies", origin, v, want)
		}
	}
}

// TestOriginExpressionTakesNoTime that its author didn't think of.
func TestOriginExpressionTakesNoTime(t *testing.T) {
	p := policy(t, []string{`~https://(a+)+(a|aa)*(a*)*\.example\.com`}, nil)
	done := make(chan Access, 1)
	go func() { done <- p.Judge(from("https://"+strings.Repeat("a", 32<<10)+".example.net", "h")) }()
	select {
	case v := <-done:
		if v.Allowed {
			t.Errorf("got %+v, want it refused", v)
		}
	case <-time.After(2 * time.Minute): // tried out one by one, the ways would take years
		t.Fatal("no verdict within two minutes")
	}
}

// TestPagesOfThisServer: a page calls home when home is a configured name, or
// an address that no name server can point elsewhere.
func TestPagesOfThisServer(t *testing.T) {
	hosts := []string{"grpc.example.com", "Other.Example.com:8443", "default.example.com:443", "2001:db8::7"}
	for _, c := range []struct {
		origin, host string
		want         bool
	}{
		{"https://grpc.example.com", "grpc.example.com", true},
		{"https://grpc.example.com", "anything", true},
		{"https://GRPC.example.com:8080", "grpc.example.com:8080", true},
		{"http://grpc.example.com", "grpc.example.com", true},
		{"ftp://grpc.example.com", "grpc.example.com", false},
		{"https://other.example.com:8443", "other.example.com:8443", true},
		{"https://other.example.com", "other.example.com", false},
		{"https://evilgrpc.example.com", "evilgrpc.example.com", false},
		// A name without a port is that of the default port and of the port that was called.
		{"https://grpc.example.com:8443", "grpc.example.com", false},
		{"https://grpc.example.com:8443", "grpc.example.com:443", false},
		{"https://grpc.example.com:8443", "anything", false},
		{"https://grpc.example.com:8443", "grpc.example.com:8443", true},
		{"https://grpc.example.com:8443", "grpc.example.com.:8443", true},
		{"http://grpc.example.com:443", "grpc.example.com:443", true},
		{"http://grpc.example.com:443", "grpc.example.com", false},
		{"https://[2001:db8::7]", "anything", true},
		{"https://[2001:db8::7]:8443", "anything", false},
		{"https://grpc.example.com.", "grpc.example.com.", false}, // another name to the browser
		{"https://default.example.com", "default.example.com", true},
		{"https://default.example.com:8443", "default.example.com:8443", false},
		{"http://default.example.com", "default.example.com", false},
		{"http://localhost:8080", "localhost:8080", true},
		{"http://LOCALHOST:8080", "localhost:8080", true},
		{"http://demo.localhost:8080", "demo.localhost:8080", true},
		{"http://localhost:3000", "localhost:8080", false}, // another server of this machine
		{"http://127.0.0.1:8080", "127.0.0.1:8080", true},
		{"http://[::1]:8080", "[::1]:8080", true},
		{"http://127.0.0.1:8080", "localhost:8080", false},
		{"https://203.0.113.7", "203.0.113.7", true},
		// DNS rebinding: the page's own name points here, so Origin and Host agree.
		{"http://evil.example:8080", "evil.example:8080", false},
		{"http://127.0.0.1.evil.example:8080", "127.0.0.1.evil.example:8080", false},
		{"http://localhost.evil.example", "localhost.evil.example", false},
		{"http://evillocalhost", "evillocalhost", false},
		{"http://user@localhost:8080", "localhost:8080", false},
	} {
		if v := policy(t, nil, hosts).Judge(from(c.origin, c.host)); v.Allowed != c.want {
			t.Errorf("a page of %q that calls %q: allowed %v, want %v", c.origin, c.host, v.Allowed, c.want)
		}
	}
}

func TestHostsOfALoopbackListener(t *testing.T) {
	p := policy(t, []string{"*"}, []string{"grpc.example.com", "other.example.com:8443"})
	for host, want := range map[string]bool{
		"127.0.0.1":              true,
		"127.0.0.1:8080":         true,
		"10.1.2.3:8080":          true,
		"[::1]:8080":             true,
		"[::1]":                  true,
		"localhost":              true,
		"LocalHost:8080":         true,
		"a.localhost:8080":       true,
		"grpc.example.com":       true,
		"GRPC.example.com:8080":  true,
		"other.example.com:8443": true,
		"other.example.com:8444": false,
		"other.example.com":      false,
		"evil.example":           false,
		"evil.example:8080":      false,
		"127.0.0.1.evil.example": false,
		"localhost.evil.example": false,
		"evillocalhost":          false,
		"":                       false,
		":8080":                  false,
		"127.0.0.1:8080:8080":    false,
		"2130706433":             false,
	} {
		if got := p.AllowsHost(host); got != want {
			t.Errorf("%q: allowed %v, want %v", host, got, want)
		}
	}
}

// TestPagesOfThisServerOverTLS: a page that came in plaintext may be anybody's
// on its way.
func TestPagesOfThisServerOverTLS(t *testing.T) {
	p := policy(t, nil, []string{"grpc.example.com"})
	for _, c := range []struct {
		origin, host string
		secure, want bool
	}{
		{"https://grpc.example.com", "grpc.example.com", true, true},
		{"https://grpc.example.com", "grpc.example.com", false, true}, // what ends TLS isn't trusted
		{"http://grpc.example.com", "grpc.example.com", true, false},
		{"http://grpc.example.com", "grpc.example.com", false, true},
		{"https://203.0.113.7", "203.0.113.7", true, true},
		{"http://203.0.113.7", "203.0.113.7", true, false},
		{"http://localhost:8080", "localhost:8080", true, false},
	} {
		if v := p.Judge(Asker{Origins: []string{c.origin}, Host: c.host, Secure: c.secure}); v.Allowed != c.want {
			t.Errorf("a page of %q that calls %q, over TLS %v: allowed %v, want %v", c.origin, c.host, c.secure, v.Allowed, c.want)
		}
	}
	named := policy(t, []string{"http://grpc.example.com"}, nil)
	if v := named.Judge(Asker{Origins: []string{"http://grpc.example.com"}, Host: "grpc.example.com", Secure: true}); !v.Allowed {
		t.Error("an origin in plaintext is refused though it is listed")
	}
}

// TestOwnOriginThatTheBrowserDenies: a proxy that writes Host into Origin
// would let every page in; the browser's other word stands against it.
func TestOwnOriginThatTheBrowserDenies(t *testing.T) {
	hosts := []string{"grpc.example.com", "other.example.net"}
	for _, c := range []struct {
		origin, host, site string
		want               bool
	}{
		{"https://grpc.example.com", "grpc.example.com", "same-origin", true},
		{"https://grpc.example.com", "grpc.example.com", "", true}, // a browser of before 2023, or plaintext
		{"https://grpc.example.com", "grpc.example.com", "cross-site", false},
		{"https://grpc.example.com", "grpc.example.com", "same-site", false},
		{"https://grpc.example.com", "GRPC.example.com", "cross-site", false},
		{"https://grpc.example.com", "other.example.net", "cross-site", true}, // one own name calls the other
		{"http://localhost:8080", "localhost:8080", "cross-site", false},
		{"http://localhost:8080", "localhost:8080", "same-origin", true},
		// The same host in another spelling.
		{"https://grpc.example.com", "grpc.example.com:443", "cross-site", false},
		{"https://grpc.example.com", "grpc.example.com.", "cross-site", false},
		{"https://grpc.example.com", "grpc.example.com.:443", "cross-site", false},
		{"https://grpc.example.com", "GRPC.example.com:0443", "cross-site", false},
		{"https://grpc.example.com", "grpc.example.com:", "cross-site", false},
		{"https://grpc.example.com", "grpc.example.com:8080", "cross-site", false}, // the port behind the proxy
		{"https://grpc.example.com", "grpc.example.com:443", "same-site", false},
		{"https://grpc.example.com", "grpc.example.com:443", "same-origin", true},
		{"https://grpc.example.com", "grpc.example.com:443", "", true},
		{"https://grpc.example.com", "grpc.example.com:8443", "same-site", true}, // a page of another port
		{"http://[::1]:8080", "[0:0::1]:8080", "cross-site", false},
		{"http://[::1]:8080", "[0:0::1]:8080", "same-origin", true},
		{"http://localhost", "localhost:80", "cross-site", false},
		{"http://localhost", "localhost:80", "same-origin", true},
		// Listed, and still the host that is called.
		{"https://listed.example.com", "listed.example.com", "cross-site", false},
		{"https://listed.example.com", "listed.example.com.:443", "cross-site", false},
		{"https://listed.example.com", "listed.example.com", "same-origin", true},
		{"https://listed.example.com", "grpc.example.com", "cross-site", true},
		{"http://listed.example.com", "listed.example.com", "cross-site", true}, // another scheme is another site
	} {
		p := policy(t, []string{"https://listed.example.com", "http://listed.example.com"}, hosts)
		if v := p.Judge(Asker{Origins: []string{c.origin}, Host: c.host, Site: c.site}); v.Allowed != c.want || !c.want && v.Denial != foreignOwn {
			t.Errorf("a page of %q that calls %q, %s: got %+v, want allowed %v", c.origin, c.host, c.site, v, c.want)
		}
	}
}

func TestOriginPatternsThatMeanNothing(t *testing.T) {
	for _, text := range []string{
		"", "app.example.com", "https://", "://app.example.com", "https://app.example.com/", "https://app.example.com/path",
		"https://app.example.com?a", "https://app.example.com#a", "https://user@app.example.com", "https://a b",
		"https://*", "http://*", "https://*:8443", "https://*.", "https://*example.com", "https://app.*.com", "https://app.*", "https://*.*.com",
		"NULL", "~", "~^", "~app\\.example\\.com", "~.*", "~.+://app\\.example\\.com", "~https?://app\\.example\\.com",
		"~(https|http)://app\\.example\\.com", "~https://.*", "~^https://.+$", "~https://[^/]+", "~http://[a-z.]+(:[0-9]+)?", "~https://a)|(?:.*", "~https://(",
		"~https://[", "~https://a{2000}", "~https://www\\..*\\.com|https://app\\.example\\.com",
	} {
		if _, err := NewOrigins([]string{text}, nil); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%q: got the error %v, want one that says what is wanted", text, err)
		}
	}
}

// A reading of origins that is not net/url's: the reference for FuzzOrigin.
type readOrigin struct{ scheme, name, port string }

var originForm = regexp.MustCompile(`^([a-z][a-z0-9+.-]*)://([^\x00-\x20\x7f-\x{10ffff}/?#@\\:\[\]]+|\[[0-9a-f:.]+\])(?::([0-9]*))?$`)

// read returns ok false for what no browser sends.
func read(text string) (o readOrigin, ok bool) {
	for i := range len(text) {
		if text[i] >= 0x7f {
			return o, false
		}
	}
	m := originForm.FindStringSubmatch(strings.ToLower(text))
	if m == nil {
		return o, false
	}
	return readOrigin{m[1], m[2], m[3]}, true
}

var defaults = map[string]string{"http": "80", "https": "443"}

var hostForm = regexp.MustCompile(`^(\[[0-9a-f:.]+\]|[^:\[\]]*?)\.?(?::0*([0-9]*))?$`)

// readHost reads a host as one that is called by a URL of the scheme.
func readHost(text, scheme string) (o readOrigin) {
	m := hostForm.FindStringSubmatch(strings.ToLower(text))
	if m == nil {
		return o
	}
	o = readOrigin{name: m[1], port: m[2]}
	if o.port == "" {
		o.port = defaults[scheme]
	}
	return o
}

// below reports whether a name ends in the labels of domain and has more of its
// own.
func below(name, domain string) bool {
	labels, of := strings.Split(name, "."), strings.Split(domain, ".")
	return len(labels) > len(of) && slices.Equal(labels[len(labels)-len(of):], of)
}

// FuzzOrigin holds each kind of rule to the hosts that it is about: whatever
// an Origin looks like, it lets in no page of a name that somebody else could
// have registered, and cookies only for what is named.
func FuzzOrigin(f *testing.F) {
	for _, seed := range []string{
		"https://a.example.com", "https://evilexample.com", "https://a.example.com.evil", "https://evil/.example.com",
		"https://evil#.example.com", "https://evil@a.example.com", "https://[::1].example.com", "https://.example.com",
		"HTTPS://A.EXAMPLE.COM", "https://a.example.com:443", "null", "https://a.example.com/", "https:a.example.com",
		"https://\u212a.example.com", "https://a%2f.example.com", "https:///a.example.com", "https://a.example.com?", "https://a.example.com#",
		"https://pr-1.example.org", "https://pr-1.exampleXorg", "https://pr-1.example.org.evil", "https://pr-1.example.org\n", "https://app.example.net",
		"https://].example.com", "https://\u017fapp.example.net", "http://localhost:1", "http://localhost:1.evil.example",
	} {
		f.Add(seed, "localhost:8080", "", false)
	}
	f.Add("http://localhost:8080", "localhost:8080", "cross-site", false)
	f.Add("http://localhost:8080", "localhost:8080", "same-origin", true)
	f.Add("https://grpc.example.net", "grpc.example.net.:443", "cross-site", true)
	f.Add("https://app.example.net", "app.example.net:443", "cross-site", true)
	f.Add("http://evil.example", "evil.example", "", false)
	f.Add("https://grpc.example.net", "grpc.example.net", "same-site", true)
	p := policy(f, []string{"https://app.example.net", "https://*.example.com", "http://localhost:*", `~https://pr-[0-9]+\.example\.org`}, []string{"grpc.example.net"})
	f.Fuzz(func(t *testing.T, origin, host, site string, secure bool) {
		v := p.Judge(Asker{Origins: []string{origin}, Host: host, Site: site, Secure: secure})
		if v.Origin != origin || v.Any || v.Allowed == (v.Denial != nil) || v.Credentials && !v.Allowed {
			t.Fatalf("%q became %+v", origin, v)
		}
		if !v.Allowed {
			return
		}
		o, ok := read(origin)
		if !ok {
			t.Fatalf("%q is allowed, and is more or less than scheme, host and port", origin)
		}
		at := o.name
		if o.port != "" || strings.HasSuffix(strings.ToLower(origin), ":") {
			at += ":" + o.port
		}
		called := readHost(host, o.scheme)
		page := readHost(at, o.scheme)
		own := (o.scheme == "https" || o.scheme == "http" && !secure) &&
			(o.name == "grpc.example.net" && (page.port == defaults[o.scheme] || page.port == called.port) ||
				page == called && unforgeable(strings.Trim(o.name, "[]")))
		denied := page.name == called.name && site == "cross-site" || page == called && site != "" && site != "same-origin"
		switch {
		case denied && (own || o.scheme == "https") && (o.scheme != "http" || o.name != "localhost"):
			if own || o == (readOrigin{"https", "app.example.net", ""}) {
				t.Errorf("%q is allowed to call %q though the browser says %q", origin, host, site)
			}
		case o == readOrigin{"https", "app.example.net", ""}:
		case own:
		case v.Credentials:
			t.Errorf("%q may bring cookies to %q", origin, host)
		case o.scheme == "https" && o.port == "" && below(o.name, "example.com"):
		case o.scheme == "https" && o.port == "" && below(o.name, "example.org") && strings.HasPrefix(o.name, "pr-"):
		case o.scheme == "http" && o.name == "localhost":
		default:
			t.Errorf("%q is allowed to call %q", origin, host)
		}
	})
}

func TestUnforgeable(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:9901": true, "[::1]:9901": true, "10.0.0.1": true, "localhost:9901": true, "LOCALHOST.": true, "a.localhost": true,
		"": false, "evil.example:9901": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "localhost:1:1": false, "a b": false,
	} {
		if got := Unforgeable(host); got != want {
			t.Errorf("%q: got %v, want %v", host, got, want)
		}
	}
}

// TestGetsOverPlaintextNeedAKnownHost: a page's own browser sends neither Origin nor
// Sec-Fetch-Site with them, so the page may have any name that points here.
func TestGetsOverPlaintextNeedAKnownHost(t *testing.T) {
	hosts := []string{"grpc.example.com", "Other.example.com:8443"}
	for _, c := range []struct {
		asker Asker
		hosts []string
		want  *report.Fault
	}{
		{Asker{Get: true, Host: "evil.example"}, hosts, unknownHost},
		{Asker{Get: true, Host: "evil.example:8080"}, hosts, unknownHost},
		{Asker{Get: true, Host: "grpc.example.com.evil.example"}, hosts, unknownHost},
		{Asker{Get: true, Host: "localhost.evil.example"}, hosts, unknownHost},
		{Asker{Get: true, Host: "2130706433"}, hosts, unknownHost},
		{Asker{Get: true, Host: ""}, hosts, unknownHost},
		{Asker{Get: true, Host: "evil.example", Site: "none"}, hosts, unknownHost},
		{Asker{Get: true, Host: "evil.example", Site: "Same-Origin"}, hosts, unknownHost},
		{Asker{Get: true, Host: "evil.example", Site: "cross-site"}, hosts, unnamedOrigin},
		{Asker{Get: true, Host: "evil.example", Cookies: true}, hosts, cookiesAlone},
		{Asker{Get: true, Host: "evil.example", Site: "same-origin"}, hosts, nil},
		{Asker{Get: true, Host: "evil.example", Secure: true}, hosts, nil},
		{Asker{Get: true, Host: "evil.example", Served: true}, hosts, nil},
		{Asker{Get: true, Host: "evil.example"}, nil, nil},
		{Asker{Host: "evil.example"}, hosts, nil},
		{Asker{Get: true, Host: "GRPC.example.com."}, hosts, nil},
		{Asker{Get: true, Host: "grpc.example.com:1"}, hosts, nil},
		{Asker{Get: true, Host: "other.example.com"}, hosts, nil}, // a proxy has dropped the port
		{Asker{Get: true, Host: "other.example.com:8080"}, hosts, nil},
		{Asker{Get: true, Host: "127.0.0.1:8080"}, hosts, nil},
		{Asker{Get: true, Host: "[2001:db8::1]:8080"}, hosts, nil},
		{Asker{Get: true, Host: "localhost:8080"}, hosts, nil},
	} {
		for _, allow := range [][]string{nil, {"*"}, {"https://app.example.com"}} {
			if v := policy(t, allow, c.hosts).Judge(c.asker); v.Denial != c.want || v.Allowed != (c.want == nil) || v.Credentials != v.Allowed {
				t.Errorf("%+v with the hosts %q: got %+v, want the denial %+v", c.asker, c.hosts, v, c.want)
			}
		}
	}
	p := policy(t, nil, hosts)
	if v := p.Judge(Asker{Get: true, Host: "evil.example", Origins: []string{"http://evil.example"}}); v.Denial != unlistedOrigin {
		t.Errorf("with an Origin: got %+v, want it judged", v)
	}
}
