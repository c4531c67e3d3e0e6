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
// here (DNS rebinding).
func guard(next http.Handler) http.Handler {
	places := make(chan struct{}, maxRequests)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text := refusal(r); text != "" {
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
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // a test's ResponseWriter has none
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		}
		next.ServeHTTP(w, r)
	})
}

// refusal returns why a request isn't an operator's, or "".
func refusal(r *http.Request) string {
	switch {
	case !onLoopback(r.Host):
		return "the admin address answers only if Host is localhost or a loopback address"
	case !fromNoPage(r):
		return "the admin address answers to no other site's pages"
	case r.Method == http.MethodGet, r.Method == http.MethodHead, r.Header.Get(Header) != "":
		return ""
	default:
		return "a request that changes something needs the header " + Header + ": add -H '" + Header + ": 1' to curl"
	}
}

// onLoopback reports whether a Host names this host, so that no name server can point
// it elsewhere.
func onLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	addr, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return strings.EqualFold(name, "localhost") || err == nil && addr.IsLoopback()
}

// fromNoPage reports whether a request is of no page, or of this address's own.
func fromNoPage(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "" && site != "none" && site != "same-origin" {
		return false
	}
	origin, sent := r.Header["Origin"]
	return !sent || len(origin) == 1 && origin[0] == "http://"+r.Host
}
