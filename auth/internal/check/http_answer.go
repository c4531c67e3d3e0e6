package check

import (
	"cmp"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
)

// An httpAnswer is what culvert reads of a service's answer.
type httpAnswer struct {
	status int
	header http.Header
	body   string // its beginning; "" if it is encoded
}

// ofHTTP returns the verdict in an answer of the HTTP form. allowed are the headers that
// become metadata.
func (n names) ofHTTP(a httpAnswer, allowed []string, hidden secrets) verdict {
	switch {
	case a.status >= 200 && a.status < 300:
		answer, err := n.allowedByHTTP(a, allowed, hidden)
		if err != nil {
			return verdict{refusal: unusable(fmt.Errorf("the authorization service answered with %w", err))}
		}
		return verdict{answer: answer}
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return verdict{refusal: n.deniedByHTTP(a, hidden)}
	case a.status >= 300 && a.status < 400:
		// Of a service for browsers, which sends people to a page to sign in.
		r := refused(codes.Unauthenticated)
		r.Message = "the authorization service wants the client to sign in on a web page first"
		r.Cause = fmt.Errorf("the authorization service answered with the redirect %d, which isn't followed: let it answer 401 for API requests", a.status)
		return verdict{refusal: r}
	case a.status == http.StatusBadGateway, a.status == http.StatusServiceUnavailable, a.status == http.StatusGatewayTimeout:
		// A proxy in front of the service answers so while nobody is behind it.
		return verdict{refusal: unanswered(fmt.Errorf("the authorization service answered with the status %d%s", a.status, saying(a.body, hidden)))}
	default:
		return verdict{refusal: unusable(fmt.Errorf("the authorization service answered with the status %d, and only 2xx, 401 and 403 are answers%s", a.status, saying(a.body, hidden)))}
	}
}

// allowedByHTTP returns the answer in a 2xx.
func (n names) allowedByHTTP(a httpAnswer, allowed []string, hidden secrets) (answer Answer, err error) {
	var d draft
	answer.Request = slices.Clone(n.own)
	for _, name := range allowed { // they are n.own, too
		for _, v := range a.header.Values(name) {
			if err := d.add(&answer.Request, n.request, name, v, Append); err != nil {
				return Answer{}, err
			}
		}
	}
	for _, list := range a.header.Values(removeHeader) {
		for name := range strings.SplitSeq(list, ",") {
			if err := d.add(&answer.Request, n.request, strings.Trim(name, " \t"), "", Remove); err != nil {
				return Answer{}, fmt.Errorf("in %s %w", strings.ToLower(removeHeader), err)
			}
		}
	}
	if answer.Backend, err = single(a.header, backendHeader, maxBackend, hidden); err != nil {
		return Answer{}, err
	}
	if answer.Subject, err = single(a.header, subjectHeader, maxSubject, hidden); err != nil {
		return Answer{}, err
	}
	return answer, nil
}

// single returns a header that may occur once, or "".
func single(h http.Header, name string, limit int, hidden secrets) (string, error) {
	values := h.Values(name)
	shown := strings.ToLower(name)
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], word(shown, values[0], limit, hidden)
	default:
		return "", fmt.Errorf("%d values of %s", len(values), shown)
	}
}

// deniedByHTTP returns the refusal in a 401 or 403.
func (n names) deniedByHTTP(a httpAnswer, hidden secrets) *Refusal {
	code := codes.PermissionDenied
	if a.status == http.StatusUnauthorized {
		code = codes.Unauthenticated
	}
	r := refused(code)
	challenge := a.header.Get("Www-Authenticate")
	text := cmp.Or(plain(a.text(), maxMessageBytes, hidden), plain(description(challenge), maxMessageBytes, hidden))
	r.Message = cmp.Or(text, r.Message)
	var header refusedHeader
	for _, v := range a.header.Values("Www-Authenticate") {
		header.add(n.response, hidden, "www-authenticate", v, Append)
	}
	r.Header = header.md
	r.Cause = fmt.Errorf("the authorization service answered with the status %d%s", a.status, saying(cmp.Or(text, a.body), hidden))
	return r
}

// text returns the body if it is for people: pages and objects would be no message.
func (a httpAnswer) text() string {
	kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || kind != "text/plain" {
		return ""
	}
	return a.body
}

// description returns what a challenge says to people: its error_description if it has one,
// and otherwise all of it. RFC 6750 §3.
func description(challenge string) string {
	const key = `error_description="`
	i := strings.Index(strings.ToLower(challenge), key)
	if i < 0 || len(strings.ToLower(challenge)) != len(challenge) {
		return challenge
	}
	text, _, closed := strings.Cut(challenge[i+len(key):], `"`)
	if !closed {
		return challenge
	}
	return text
}
