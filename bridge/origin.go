package bridge

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// An originPolicy decides which pages may call, and as which host this server
// may be addressed.
type originPolicy struct {
	any         bool // "*"
	null        bool // "null"
	patterns    []originPattern
	expressions []originExpression
	hosts       []string // lower case, with or without a port
}

func newOriginPolicy(allow, hosts []string) (originPolicy, error) {
	p := originPolicy{}
	for _, h := range hosts {
		p.hosts = append(p.hosts, strings.ToLower(h))
	}
	for _, text := range allow {
		if err := p.allow(text); err != nil {
			return originPolicy{}, err
		}
	}
	return p, nil
}

// allow adds one entry.
func (p *originPolicy) allow(text string) error {
	switch {
	case text == "*":
		p.any = true
	case text == "null":
		p.null = true
	case strings.HasPrefix(text, "~"):
		e, err := parseOriginExpression(text[1:])
		if err != nil {
			return err
		}
		p.expressions = append(p.expressions, e)
	default:
		pattern, err := parseOriginPattern(text)
		if err != nil {
			return err
		}
		p.patterns = append(p.patterns, pattern)
	}
	return nil
}

// An asker is what a request says of the page that it comes from.
type asker struct {
	origins []string // the Origin fields
	site    string   // Sec-Fetch-Site
	cookies bool     // it brings cookies, and they would reach the backend
	host    string   // the Host it is addressed to
	secure  bool     // it came over TLS, to here or to a trusted proxy
}

// A verdict on an origin.
type originVerdict struct {
	origin  string // as the browser sent it; empty: not a browser
	allowed bool
	any     bool // only the wildcard allowed it: the answer is for everybody

	// credentials says that cookies count: the origin is this server's own,
	// is listed as it is, or there is none. What a pattern lets in, the
	// operator hasn't named.
	credentials bool

	denial *originDenial // why it isn't allowed
}

// An originDenial is why a page may not call.
type originDenial struct {
	key  string // that decides
	text string // for the client
	hint string // for the operator
}

var (
	unlistedOrigin = &originDenial{"allow_origins", "pages of this origin may not call this server (allow_origins)", ""}
	severalOrigins = &originDenial{"allow_origins", "the request has no one origin: want one Origin field, and not an empty one", "a client or a proxy on the way has written Origin wrongly"}
	unnamedOrigin  = &originDenial{"allow_origins", "a page sent this and doesn't say of which origin: want the browser's Origin field", "a proxy on the way removes Origin: let it pass"}
	foreignOwn     = &originDenial{"allow_origins", "the browser says that the page is of another origin than its Origin field: want the browser's own Origin", "a proxy on the way rewrites Origin: let it pass as it is"}
	cookiesAlone   = &originDenial{"metadata.forward_cookies", "a request with cookies has to say which page sent it: want Origin, or no Cookie", "the client sends cookies and no Origin: let it send one of them"}
)

// judge decides on the page that a request comes from: the one function that
// does, for upgrades, calls and preflights alike.
func (p *originPolicy) judge(a asker) originVerdict {
	switch {
	case len(a.origins) == 0:
		return judgeAbsent(a)
	case len(a.origins) > 1 || a.origins[0] == "":
		return originVerdict{origin: strings.Join(a.origins, ", "), denial: severalOrigins}
	}
	v := originVerdict{origin: a.origins[0]}
	u, ok := parseOrigin(v.origin)
	switch {
	case v.origin == "null":
		v.allowed = p.null // and never with cookies: every sandboxed page says it
	case ok && p.lists(u):
		v.allowed, v.credentials = true, true
	case ok && p.isOwn(u, a):
		if u.Host == strings.ToLower(a.host) && a.site != "" && a.site != "same-origin" {
			v.denial = foreignOwn
			return v
		}
		v.allowed, v.credentials = true, true
	case ok && p.matches(u):
		v.allowed = true
	case p.any:
		v.allowed, v.any = true, true
	}
	if !v.allowed {
		v.denial = unlistedOrigin
	}
	return v
}

// judgeAbsent decides where no page is named. Browsers name it in each POST
// and each WebSocket, so what comes without is a program; unless the browser's
// other word says that it is a page, or cookies say that a browser's trust is
// being used. https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header
func judgeAbsent(a asker) originVerdict {
	switch {
	case a.site == "same-origin":
	case a.site == "cross-site" || a.site == "same-site":
		return originVerdict{denial: unnamedOrigin}
	case a.cookies:
		return originVerdict{denial: cookiesAlone}
	}
	return originVerdict{allowed: true, credentials: true}
}

// parseOrigin reads an origin as browsers write it, in any case: scheme, host
// and port, in ASCII, and nothing else. RFC 6454 §6.2.
func parseOrigin(text string) (*url.URL, bool) {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] >= 0x7f {
			return nil, false
		}
	}
	lower := strings.ToLower(text)
	u, err := url.Parse(lower)
	if err != nil || u.Scheme+"://"+u.Host != lower {
		return nil, false
	}
	_, _, ok := parseAuthority(u.Host)
	return u, ok
}

// isOwn holds for a page of this server: of one of its configured names, or of
// the address that it was called at, where no name server can forge that. A
// page that came in plaintext, which anybody on its way may have written, is
// none of a server that is called over TLS.
func (p *originPolicy) isOwn(u *url.URL, a asker) bool {
	if u.Scheme != "https" && (u.Scheme != "http" || a.secure) {
		return false
	}
	return slices.Contains(p.hosts, u.Host) || slices.Contains(p.hosts, u.Hostname()) ||
		u.Host == strings.ToLower(a.host) && unforgeable(u.Hostname())
}

// lists holds for an origin that an entry names as it is.
func (p *originPolicy) lists(u *url.URL) bool {
	return slices.ContainsFunc(p.patterns, func(o originPattern) bool { return o.exact() && o.matches(u) })
}

// matches holds for an origin that an entry describes.
func (p *originPolicy) matches(u *url.URL) bool {
	return slices.ContainsFunc(p.patterns, func(o originPattern) bool { return o.matches(u) }) ||
		slices.ContainsFunc(p.expressions, func(e originExpression) bool { return e.matches(u) })
}

// allowsHost holds for a Host that a page elsewhere can't make a browser send
// to a loopback listener by pointing a name of its own at it.
func (p *originPolicy) allowsHost(host string) bool {
	host = strings.ToLower(host)
	name, port, _ := parseAuthority(host) // it is one, or there is none
	return unforgeable(name) || slices.ContainsFunc(p.hosts, func(h string) bool {
		return h == host || h == name || port != "" && h == name+":"+port
	})
}

func unforgeable(name string) bool {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil
}
