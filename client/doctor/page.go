package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"github.com/culvert-grpc/culvert/client/internal/network"
	"github.com/culvert-grpc/culvert/internal/pathservice"
)

// preflight asks as a browser does before a call of a page.
func (x *examination) preflight(ctx context.Context) Finding {
	r, err := x.request(ctx, pathservice.Echo, typeWeb, http.NoBody)
	if err != nil {
		return finding(err)
	}
	q, err := x.page.Preflight(ctx, r)
	switch {
	case err != nil:
		return finding(err)
	case q == nil:
		return found(works, "not needed: the page has the edge's origin")
	}
	q.Header.Set("User-Agent", userAgent)
	t := x.net.Transport(x.target)
	t.DisableKeepAlives = true
	defer t.CloseIdleConnections()
	answer, err := t.RoundTrip(q)
	if err != nil {
		return finding(err)
	}
	defer func() { _ = answer.Body.Close() }() // only read
	why := x.page.Refusal(q, answer)
	if why == "" {
		return found(works, "%d, %s may call", answer.StatusCode, x.page.Origin)
	}
	a := answerOf(answer.StatusCode, answer.Header, answer.Body)
	f := refusedBy(a)
	if !a.Culvert && a.Status/100 == 2 {
		f.Cause = "" // any 2xx suits a preflight
		f.Evidence = printable(a.String() + ": it " + why)
		if answer.Header.Get("Access-Control-Allow-Origin") == "" {
			f.Result = stripped
		}
	}
	return f
}

const (
	maxRedirects = 5
	maxHTML      = 1 << 20
)

// fetchPage judges the page that would call: its Content-Security-Policy, and mixed content.
func (x *examination) fetchPage(ctx context.Context) Finding {
	if x.page.Mixed {
		return found(refused, "the page is https, the edge is http").because(causeMixedContent)
	}
	header, body, err := x.get(ctx, x.page.At, "/")
	if err != nil {
		return found(unknown, "the page can't be fetched: %s", readable(err)).because(causeUnreachable)
	}
	policies, err := policiesOf(header, body)
	if err != nil {
		return found(unknown, "%s", printable(err.Error())).because(causeUnreachable)
	}
	var blocked []string
	by := ""
	for _, scheme := range []string{"http", "ws"} {
		if x.target.Secure {
			scheme += "s"
		}
		u := url.URL{Scheme: scheme, Host: x.target.Authority(), Path: x.target.Prefix + pathservice.Echo}
		if i := slices.IndexFunc(policies, func(p policy) bool { return !p.allows(x.page.At, &u) }); i >= 0 {
			blocked = append(blocked, scheme+"://"+u.Host)
			by = policies[i].where + ": " + policies[i].text()
		}
	}
	if len(blocked) > 0 {
		return found(refused, "%s", printable("connect-src forbids "+strings.Join(blocked, " and ")+" ("+by+")")).because(causePolicyBlocks)
	}
	if len(policies) == 0 {
		return found(works, "the page has no Content-Security-Policy")
	}
	return found(works, "connect-src allows the edge")
}

// get fetches a page. It follows redirects of its origin: behind others is another page, such as
// a login's, which says nothing of this one. No credential is sent, but a certificate to the edge.
func (x *examination) get(ctx context.Context, t network.Target, path string) (http.Header, []byte, error) {
	next := t.URL(path)
	for range maxRedirects {
		to := x.net
		to.ConnectTo, to.Secrets = "", false
		at, err := network.ParseTarget((&url.URL{Scheme: next.Scheme, Host: next.Host}).String())
		if err != nil {
			return nil, nil, err //nolint:wrapcheck // it says what is wrong
		}
		if at != t {
			return nil, nil, fmt.Errorf("it redirects to another origin, %s", at)
		}
		if at.Address() != x.target.Address() {
			to.TLS = to.TLS.Clone()
			to.TLS.Certificates = nil
		}
		code, header, body, err := fetch(ctx, &to, at, next)
		if err != nil {
			return nil, nil, err
		}
		location := header.Get("Location")
		if code/100 != 3 || location == "" {
			if code >= http.StatusBadRequest {
				return nil, nil, errors.New(answerOf(code, header, io.NopCloser(bytes.NewReader(body))).String())
			}
			return header, body, nil
		}
		if next, err = next.Parse(location); err != nil {
			return nil, nil, fmt.Errorf("a redirect: %w", err)
		}
	}
	return nil, nil, fmt.Errorf("more than %d redirects", maxRedirects)
}

func fetch(ctx context.Context, n *network.Network, at network.Target, u *url.URL) (code int, header http.Header, body []byte, err error) {
	transport := n.Transport(at)
	transport.DisableKeepAlives = true
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("the page: %w", err)
	}
	r.Header.Set("User-Agent", userAgent)
	r.Header.Set("Accept", "text/html")
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return 0, nil, nil, err //nolint:wrapcheck // it says what is wrong
	}
	defer func() { _ = answer.Body.Close() }() // only read
	body, err = io.ReadAll(io.LimitReader(answer.Body, maxHTML))
	if err != nil {
		return 0, nil, nil, fmt.Errorf("the page: %w", err)
	}
	return answer.StatusCode, answer.Header, body, nil
}

// policiesOf returns the policies that hold for a page: each of them must allow a request.
func policiesOf(h http.Header, body []byte) ([]policy, error) {
	var all []policy
	for _, value := range h.Values("Content-Security-Policy") {
		for one := range strings.SplitSeq(value, ",") {
			all = append(all, parsePolicy("the header", one))
		}
	}
	page, err := html.Parse(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("the page can't be read: %w", err)
	}
	for n := range page.Descendants() {
		switch {
		case n.DataAtom == atom.Body && n.FirstChild == nil && len(body) == maxHTML:
			return nil, fmt.Errorf("the head of the page is longer than %d bytes", maxHTML)
		case n.DataAtom == atom.Meta && n.Parent.DataAtom == atom.Head && strings.EqualFold(attribute(n, "http-equiv"), "Content-Security-Policy"):
			all = append(all, parsePolicy("a meta tag", attribute(n, "content")))
		}
	}
	return slices.DeleteFunc(all, func(p policy) bool { return p.sources == nil }), nil
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
