package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Header must be in each request that changes something. A page of another origin can
// send it only after a preflight, which culvert refuses (CSRF).
const Header = "Culvert-Admin"

const (
	maxBody     = 1 << 10 // bytes
	bodyTime    = 5 * time.Second
	maxRequests = 16 // at once; an operator needs few
)

// guard lets operators pass: programs on this host, and a person's browser where that
// person typed the address. A page could have the browser send requests, so guard
// refuses those that come from a page, and those for a name that a page could point
// here (DNS rebinding). a, which may be nil, has further names, and may want a token.
func guard(next http.Handler, a *Access) http.Handler {
	places := make(chan struct{}, maxRequests)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'") // a page has its own
		w.Header().Set("X-Frame-Options", "DENY")
		if r.ContentLength != 0 { // net/http also waits for a body that no handler reads
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // a test's ResponseWriter has none
		}
		if text := refusal(r, a); text != "" {
			answer(w, http.StatusForbidden, "culvert: "+text+"\n")
			return
		}
		if !a.admits(w, r) { // before it takes a place
			return
		}
		if text := unmarked(r); text != "" {
			answer(w, http.StatusForbidden, "culvert: "+text+"\n")
			return
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			answer(w, http.StatusServiceUnavailable, "culvert: too many requests at once: try again when another one has ended\n")
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		}
		next.ServeHTTP(w, r)
	})
}

// refusal returns why a request isn't an operator's, or "".
func refusal(r *http.Request, a *Access) string {
	switch {
	case !onLoopback(r.Host) && !a.names(hostname(r.Host)):
		return "the admin address answers only if Host is localhost, a loopback address or a name in admin.hosts"
	case !fromNoPage(r):
		return "the admin address answers to no other site's pages"
	default:
		return ""
	}
}

// unmarked returns why a request may not change something, or "".
func unmarked(r *http.Request) string {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Header.Get(Header) != "" {
		return ""
	}
	return "a request that changes something needs the header " + Header + ": add -H '" + Header + ": 1' to curl"
}

// hostname returns a Host without its port, and without the brackets of an IPv6 address.
func hostname(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return strings.Trim(name, "[]")
}

// onLoopback reports whether a Host names this host, so that no name server can point
// it elsewhere.
func onLoopback(host string) bool {
	name := hostname(host)
	addr, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && addr.IsLoopback()
}

// fromNoPage reports whether a request is of no page, or of this address's own.
func fromNoPage(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "" && site != "none" && site != "same-origin" {
		return false
	}
	origin, sent := r.Header["Origin"]
	if !sent {
		return true
	}
	// Without TLS here, a proxy on this host may have it.
	return len(origin) == 1 && (origin[0] == "https://"+r.Host || r.TLS == nil && origin[0] == "http://"+r.Host)
}
