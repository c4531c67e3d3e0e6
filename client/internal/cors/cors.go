// Package cors is what a browser adds to a call of a page from another origin, and what it would
// forbid: https://fetch.spec.whatwg.org/#http-cors-protocol.
package cors

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/client/internal/network"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// A Page calls an edge from its origin.
type Page struct {
	Origin      string         // as browsers write it
	At          network.Target // its server; zero for the origin "null"
	SameOrigin  bool           // as the edge
	Mixed       bool           // it was loaded over TLS, and calls in plaintext: https://w3c.github.io/webappsec-mixed-content/
	Credentials bool           // cookies go with the call
}

// New returns the page of an origin that --origin names.
func New(origin string, edge network.Target, credentials bool) (*Page, error) {
	p := &Page{Origin: origin, Credentials: credentials}
	if origin == "null" {
		return p, nil
	}
	at, err := network.ParseTarget(origin)
	if err != nil || !strings.HasPrefix(strings.ToLower(origin), "http") || strings.Count(origin, "/") != 2 {
		return nil, errors.New("--origin: write it as https://app.example.com")
	}
	p.Origin, p.At, edge.Prefix = at.String(), at, ""
	p.SameOrigin = strings.EqualFold(p.Origin, edge.String())
	p.Mixed = at.Secure && !edge.Secure && !edge.Loopback()
	return p, nil
}

// Mark adds what a browser adds to a request.
func (p *Page) Mark(h http.Header) {
	h.Set("Origin", p.Origin)
	h.Set("Sec-Fetch-Site", map[bool]string{true: "same-origin", false: "cross-site"}[p.SameOrigin])
	h.Set("Sec-Fetch-Mode", "cors")
	h.Set("Sec-Fetch-Dest", "empty")
}

// notAsked are the header fields that no preflight asks for: those that are safe with any value
// that a call has, and those that a page can't set.
// https://fetch.spec.whatwg.org/#cors-safelisted-request-header
var notAsked = []string{
	"accept", "accept-language", "content-language",
	"user-agent", "origin", "cookie", "content-length", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest",
}

const (
	requestMethod  = "Access-Control-Request-Method"
	requestHeaders = "Access-Control-Request-Headers"
)

// Preflight returns the request that a browser sends before another one; nil: it sends none.
func (p *Page) Preflight(ctx context.Context, r *http.Request) (*http.Request, error) {
	var names []string
	for name := range r.Header {
		if name = strings.ToLower(name); !slices.Contains(notAsked, name) {
			names = append(names, name)
		}
	}
	if p.SameOrigin || r.Method == http.MethodGet && len(names) == 0 {
		return nil, nil //nolint:nilnil // it says so
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodOptions, r.URL.String(), http.NoBody) //nolint:gosec // the user's URL
	if err != nil {
		return nil, fmt.Errorf("the preflight: %w", err)
	}
	p.Mark(q.Header)
	q.Header.Set(requestMethod, r.Method)
	if slices.Sort(names); len(names) > 0 {
		q.Header.Set(requestHeaders, strings.Join(names, ","))
	}
	return q, nil
}

// Refusal says why the answer to a preflight forbids the call; "": it doesn't.
func (p *Page) Refusal(preflight *http.Request, answer *http.Response) string {
	if answer.StatusCode/100 != 2 {
		return fmt.Sprintf("has HTTP status %s, not 2xx", terminal.Text(answer.Status))
	}
	if why := p.Unreadable(answer.Header); why != "" {
		return why
	}
	anything := func(all []string) bool { return !p.Credentials && slices.Contains(all, "*") }
	method, methods := preflight.Header.Get(requestMethod), listed(answer.Header, "Access-Control-Allow-Methods")
	if !slices.Contains([]string{"GET", "HEAD", "POST"}, method) && !slices.Contains(methods, method) && !anything(methods) {
		return "doesn't allow " + method
	}
	headers := listed(answer.Header, "Access-Control-Allow-Headers")
	for _, name := range listed(preflight.Header, requestHeaders) {
		allowed := slices.ContainsFunc(headers, func(h string) bool { return strings.EqualFold(h, name) })
		if !allowed && (name == "authorization" || !anything(headers)) {
			return fmt.Sprintf("doesn't allow the header %s (access-control-allow-headers)", name)
		}
	}
	return ""
}

// Unreadable says why the page may not read an answer; "": it may.
func (p *Page) Unreadable(h http.Header) string {
	allowed := h.Values("Access-Control-Allow-Origin")
	switch {
	case len(allowed) == 0:
		return fmt.Sprintf("has no access-control-allow-origin: allow the origin (culvert: --allow-origin %s)", p.Origin)
	case len(allowed) > 1:
		return "has access-control-allow-origin twice: something on the way adds one"
	case allowed[0] == "*" && p.Credentials:
		return "allows any origin (*), which doesn't count for a call with cookies"
	case allowed[0] != "*" && allowed[0] != p.Origin:
		return fmt.Sprintf("allows the origin %s only", terminal.Text(allowed[0]))
	case p.Credentials && h.Get("Access-Control-Allow-Credentials") != "true":
		return "doesn't allow cookies (access-control-allow-credentials)"
	}
	return ""
}

// readable are the header fields that every page may read.
// https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name
var readable = []string{"cache-control", "content-language", "content-length", "content-type", "expires", "last-modified", "pragma"}

// MayRead reports whether the page may read a header field, by its name in lower case, of an
// answer that it may read.
func (p *Page) MayRead(h http.Header, name string) bool {
	exposed := listed(h, "Access-Control-Expose-Headers")
	return !p.Credentials && slices.Contains(exposed, "*") || slices.Contains(readable, name) ||
		slices.ContainsFunc(exposed, func(e string) bool { return strings.EqualFold(e, name) })
}

// listed returns the members of a list in a header.
func listed(h http.Header, name string) []string {
	var all []string
	for _, line := range h.Values(name) {
		for one := range strings.SplitSeq(line, ",") {
			if one = strings.TrimSpace(one); one != "" {
				all = append(all, one)
			}
		}
	}
	return all
}
