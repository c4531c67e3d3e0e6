package doctor

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/client/internal/network"
)

// A policy is the part of a Content-Security-Policy that holds for connections: connect-src,
// or else default-src. https://www.w3.org/TR/CSP3/#directive-connect-src
type policy struct {
	where     string // the header, or a meta tag
	directive string
	sources   []string // nil: it doesn't speak of connections
}

func parsePolicy(where, s string) policy {
	p := policy{where: where}
	for directive := range strings.SplitSeq(s, ";") {
		words := strings.Fields(directive)
		if len(words) == 0 {
			continue
		}
		switch name := strings.ToLower(words[0]); {
		case name == "connect-src" && p.directive != name, name == "default-src" && p.directive == "":
			p.directive, p.sources = name, append([]string{}, words[1:]...)
		}
	}
	return p
}

func (p policy) text() string { return p.directive + " " + strings.Join(p.sources, " ") }

// allows reports whether a page may connect to a URL.
func (p policy) allows(page network.Target, u *url.URL) bool {
	return slices.ContainsFunc(p.sources, func(source string) bool { return matches(source, page, u) })
}

// matches reports whether a URL matches a source expression. CSP3 §6.7.2.7.
func matches(source string, page network.Target, u *url.URL) bool {
	pageScheme := page.URL("").Scheme
	switch {
	case source == "*": // network schemes, and that of the page
		return true
	case strings.EqualFold(source, "'self'"):
		return strings.EqualFold(u.Hostname(), page.Host) && samePort(page.Port, pageScheme, u) &&
			(schemeMatches(pageScheme, u.Scheme) || u.Scheme == "wss" || pageScheme == "http" && u.Scheme == "ws")
	case strings.HasPrefix(source, "'"):
		return false // 'none', nonces and hashes
	}
	scheme, rest, hasScheme := strings.Cut(source, "://")
	if !hasScheme {
		if alone, ok := strings.CutSuffix(source, ":"); ok && !strings.ContainsAny(alone, ".*/") {
			return schemeMatches(strings.ToLower(alone), u.Scheme)
		}
		scheme, rest = pageScheme, source
	}
	if scheme = strings.ToLower(scheme); !schemeMatches(scheme, u.Scheme) {
		return false
	}
	hostport, path, hasPath := strings.Cut(rest, "/")
	host, port, hasPort := strings.Cut(strings.ToLower(hostport), ":")
	if !hostMatches(host, strings.ToLower(u.Hostname())) {
		return false
	}
	if hasPort && port != "*" && !samePort(port, scheme, u) || !hasPort && !samePort(usualPort(scheme), scheme, u) {
		return false
	}
	if !hasPath || path == "" {
		return true
	}
	path = "/" + path
	if strings.HasSuffix(path, "/") {
		return strings.HasPrefix(u.Path, path)
	}
	return u.Path == path
}

// schemeMatches: CSP3 §6.7.2.8.
func schemeMatches(a, b string) bool {
	switch a {
	case b:
		return true
	case "http":
		return b == "https"
	case "ws":
		return b == "wss" || b == "http" || b == "https"
	case "wss":
		return b == "https"
	}
	return false
}

// hostMatches: CSP3 §6.7.2.9. Addresses match only as they are written.
func hostMatches(pattern, host string) bool {
	if pattern == "*" {
		return true
	}
	if rest, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasPrefix(rest, ".") && strings.HasSuffix(host, rest)
	}
	return pattern == host
}

// samePort: CSP3 §6.7.2.10. The usual port of a scheme matches that of its secure one.
func samePort(port, scheme string, u *url.URL) bool {
	of := cmp.Or(u.Port(), usualPort(u.Scheme))
	return port == of || port == usualPort(scheme) && of == usualPort(u.Scheme)
}

func usualPort(scheme string) string {
	return network.UsualPort(scheme == "https" || scheme == "wss")
}
