package gate

import (
	"cmp"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/pathservice"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// Origins decide which pages may call, and which hosts this server answers to. The
// zero value allows this server's own pages at addresses that nobody can forge.
type Origins struct {
	any      bool // "*"
	null     bool // "null"
	patterns []originPattern
	hosts    []place // with the port "" if none is given
}

// NewOrigins parses the entries: "https://app.example.com", "https://*.example.com",
// "http://localhost:*", "~" and a regular expression, "null", "*". The hosts are this
// server's own names, with or without a port.
func NewOrigins(allow, hosts []string) (Origins, error) {
	p := Origins{}
	for _, h := range hosts {
		p.hosts = append(p.hosts, placeOf(h, ""))
	}
	for _, text := range allow {
		if err := p.allow(text); err != nil {
			return Origins{}, err
		}
	}
	return p, nil
}

func (p *Origins) allow(text string) error {
	switch text {
	case "*":
		p.any = true
	case "null":
		p.null = true
	default:
		pattern, err := parseOriginPattern(text)
		if err != nil {
			return err
		}
		p.patterns = append(p.patterns, pattern)
	}
	return nil
}

// An Asker has the facts of a request about its page.
type Asker struct {
	Origins []string // the Origin fields
	Site    string   // Sec-Fetch-Site
	Cookies bool     // it has cookies, and they would reach the backend or the Authenticator
	Host    string   // the request's Host
	Secure  bool     // it came over TLS, to culvert or to a trusted proxy
	Get     bool     // it is a GET outside a tunnel, and no upgrade
	Served  bool     // a certificate of this server has the Host; only read of a GET in plaintext
}

// An Access says whether a page may call.
type Access struct {
	Origin  string // as the browser sent it; empty: not a browser
	Allowed bool
	Any     bool // only the wildcard allowed it: everybody may read the answer

	// Credentials reports whether cookies count: the origin is this server's own, is
	// listed literally, or there is none. An origin that only a pattern matches isn't
	// one that the operator has named.
	Credentials bool

	Denial *report.Fault // why it isn't allowed. Without a hint, the operator has to list the origin
}

var (
	unlistedOrigin = denial(report.KeyOrigins, "pages of this origin may not call this server ("+report.Named(report.KeyOrigins)+")", "")
	severalOrigins = denial(report.KeyOrigins, "the request must have exactly one Origin header, and a value in it", "a client or a proxy on the way sets Origin wrongly")
	unnamedOrigin  = denial(report.KeyOrigins, "a page sent this request without the browser's Origin header", "a proxy on the way removes Origin: configure it to pass Origin on")
	foreignOwn     = denial(report.KeyOrigins, "the Origin header contradicts the browser's Sec-Fetch-Site header: send the browser's own Origin", "a proxy on the way rewrites Origin: configure it to pass Origin on unchanged")
	unknownHost    = denial(report.KeyHosts, "this server "+pathservice.UnknownHost+": call by an IP address or over TLS, or add the name to "+report.Named(report.KeyHosts)+" if it is this server's", "add the name to "+report.Named(report.KeyHosts)+" if it is this server's")
	cookiesAlone   = denial(report.KeyCookies, "a request with cookies must have an Origin header", "the client sends cookies without Origin: send Origin as well, or no cookies")
)

func denial(key, text, hint string) *report.Fault {
	return &report.Fault{Reason: report.ReasonOriginDenied, Key: key, Text: text, Hint: hint}
}

// Judge decides whether the page of a request may call. It is the only function that
// decides, for upgrades, calls and preflights alike.
func (p *Origins) Judge(a Asker) Access {
	switch {
	case len(a.Origins) == 0:
		return p.judgeAbsent(a)
	case len(a.Origins) > 1 || a.Origins[0] == "":
		return Access{Origin: strings.Join(a.Origins, ", "), Denial: severalOrigins}
	}
	v := Access{Origin: a.Origins[0]}
	u, ok := parseOrigin(v.Origin)
	listed := ok && p.lists(u)
	switch {
	case v.Origin == "null":
		v.Allowed = p.null // and never with cookies: every sandboxed page sends it
	case listed || ok && p.isOwn(u, a):
		// Between http and https of one name, browsers report cross-site.
		if (u.Scheme == "https" || !listed) && deniedByBrowser(u, a) {
			v.Denial = foreignOwn
			return v
		}
		v.Allowed, v.Credentials = true, true
	case ok && p.matches(u):
		v.Allowed = true
	case p.any:
		v.Allowed, v.Any = true, true
	}
	if !v.Allowed {
		v.Denial = unlistedOrigin
	}
	return v
}

// judgeAbsent decides if the request names no page. Browsers name the page in each
// POST and each WebSocket, so a request without comes from a program, with three
// exceptions: Sec-Fetch-Site shows a page, cookies show that the request uses a
// browser's trust, or it is a GET. https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header
//
// Over plaintext, a browser sends neither header with a GET of a page's own origin, and
// the page may have the name of anybody who points it here (DNS rebinding). So if this
// server knows its names, Host must be one of them. Over TLS the name needs a
// certificate.
func (p *Origins) judgeAbsent(a Asker) Access {
	switch {
	case a.Site == "same-origin":
	case a.Site == "cross-site" || a.Site == "same-site":
		return Access{Denial: unnamedOrigin}
	case a.Cookies:
		return Access{Denial: cookiesAlone}
	case a.Get && !a.Secure && len(p.hosts) > 0 && !a.Served && !p.isOwnName(a.Host):
		return Access{Denial: unknownHost}
	}
	return Access{Allowed: true, Credentials: true}
}

// isOwnName reports whether nobody else can point a Host here: it is a configured name,
// on any port, an IP address or localhost. Behind a proxy, Host may lack the port.
func (p *Origins) isOwnName(host string) bool {
	called := placeOf(host, "").host
	return unforgeable(called) || called != "" && slices.ContainsFunc(p.hosts, func(own place) bool { return own.host == called })
}

// parseOrigin parses an origin as browsers write it, in any case: scheme, host and
// port, in ASCII, and nothing else. RFC 6454 §6.2.
func parseOrigin(text string) (*url.URL, bool) {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, false
	}
	lower := strings.ToLower(text)
	u, err := url.Parse(lower)
	if err != nil || u.Scheme+"://"+u.Host != lower {
		return nil, false
	}
	_, _, ok := ParseAuthority(u.Host)
	return u, ok
}

// A place is a host and a port in one spelling: lower case, without brackets, a zone
// or a final dot.
type place struct{ host, port string }

// placeOf parses a Host. usual is the port if it has none.
func placeOf(authority, usual string) place {
	host, port, ok := ParseAuthority(strings.ToLower(authority))
	if !ok { // perhaps IPv6 without brackets: otherwise no page's host is equal to it
		host, port = authority, ""
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.WithZone("").String()
	}
	return place{host, cmp.Or(strings.TrimLeft(port, "0"), usual)}
}

// pageOf returns the place of an origin. It keeps a final dot: to the browser, that
// is another origin.
func pageOf(u *url.URL) place {
	return place{u.Hostname(), cmp.Or(u.Port(), rules.UsualPort(u.Scheme))}
}

// isOwn reports whether a page is this server's own: its host is one of the
// configured names, or the address that was called, if no name server can forge that.
// A configured name without a port stands for the scheme's usual port and for the
// port that was called. A page loaded over HTTP isn't an own page of a server that is
// called over TLS, since anybody on its way may have written it.
func (p *Origins) isOwn(u *url.URL, a Asker) bool {
	if u.Scheme != "https" && (u.Scheme != "http" || a.Secure) {
		return false
	}
	usual := rules.UsualPort(u.Scheme)
	page, called := pageOf(u), placeOf(a.Host, usual)
	if page == called && unforgeable(page.host) {
		return true
	}
	return slices.ContainsFunc(p.hosts, func(own place) bool {
		return own.host == page.host && (own.port == page.port || own.port == "" && (page.port == usual || page.port == called.port))
	})
}

// deniedByBrowser reports whether the browser's Sec-Fetch-Site shows that Origin was
// rewritten on the way: Origin names the host that is called, and the browser
// contradicts it. Ports count for same-site only: behind a proxy, Host may have
// another port than the browser called.
// https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header
func deniedByBrowser(u *url.URL, a Asker) bool {
	if a.Site == "" || a.Site == "same-origin" {
		return false
	}
	page, called := pageOf(u), placeOf(a.Host, rules.UsualPort(u.Scheme))
	return page == called || page.host == called.host && a.Site == "cross-site"
}

// lists reports whether an entry names the origin literally.
func (p *Origins) lists(u *url.URL) bool {
	return slices.ContainsFunc(p.patterns, func(o originPattern) bool { return o.exact() && o.matches(u) })
}

// matches reports whether an entry's pattern matches the origin.
func (p *Origins) matches(u *url.URL) bool {
	return slices.ContainsFunc(p.patterns, func(o originPattern) bool { return o.matches(u) })
}

// AllowsHost reports whether a loopback listener may answer a request for this Host:
// a page elsewhere can make a browser call it by a name of its own that points here.
func (p *Origins) AllowsHost(host string) bool {
	called := placeOf(host, "")
	return unforgeable(called.host) || called.host != "" && slices.ContainsFunc(p.hosts, func(own place) bool {
		return own.host == called.host && (own.port == "" || own.port == called.port)
	})
}

// Unforgeable reports whether a Host names an IP address or localhost: a page
// can't point such a host at another server (DNS rebinding).
func Unforgeable(host string) bool { return unforgeable(placeOf(host, "").host) }

// unforgeable gets the host only, in lower case.
func unforgeable(name string) bool {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil
}
