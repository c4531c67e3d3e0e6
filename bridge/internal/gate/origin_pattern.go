package gate

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An originPattern is one allowed origin: scheme, host and port. The host may begin
// with "*.", and host or port may be "*".
type originPattern struct{ scheme, host, port string }

func parseOriginPattern(text string) (originPattern, error) {
	bad := func(why string) (originPattern, error) {
		return originPattern{}, &report.OriginError{Entry: text, Why: why, Want: `"https://app.example.com", "https://*.example.com", "http://localhost:*", "~" and a regular expression, "null" or "*"`}
	}
	scheme, rest, ok := strings.Cut(strings.ToLower(text), "://")
	if !ok || scheme == "" || rest == "" {
		return bad("no scheme")
	}
	if strings.ContainsAny(rest, "/?#@ ") {
		return bad("an origin has no path")
	}
	host, port := splitHostPort(rest)
	if i := strings.LastIndex(host, "*"); i > 0 || (i == 0 && host != "*" && !strings.HasPrefix(host, "*.")) {
		return bad("* can stand only for a whole host or its first labels")
	}
	if host == "*." || (host == "*" && isWeb(scheme)) {
		return bad(`matches every origin: write "*" if you mean that`)
	}
	if port == usualPort(scheme) {
		port = "" // as browsers write it
	}
	return originPattern{scheme, host, port}, nil
}

func isWeb(scheme string) bool { return scheme == "http" || scheme == "https" }

// exact reports whether the pattern stands for one origin.
func (o originPattern) exact() bool { return !strings.HasPrefix(o.host, "*") && o.port != "*" }

func (o originPattern) matches(u *url.URL) bool {
	return o.scheme == u.Scheme && matchesHost(o.host, u.Hostname()) && (o.port == "*" || o.port == u.Port())
}

func matchesHost(pattern, host string) bool {
	if suffix, ok := strings.CutPrefix(pattern, "*."); ok {
		sub, ok := strings.CutSuffix(host, "."+suffix)
		return ok && sub != ""
	}
	return pattern == "*" || pattern == host
}

// An originExpression is a regular expression for whole origins of one scheme. Its
// syntax is RE2's, whose time is proportional to the origin's length for any
// expression.
type originExpression struct {
	scheme string
	whole  *regexp.Regexp
}

var expressionScheme = regexp.MustCompile(`^\^?([a-z][a-z0-9-]*)://`)

// parseOriginExpression parses the expression without its "~".
func parseOriginExpression(text string) (originExpression, error) {
	bad := func(why string) (originExpression, error) {
		return originExpression{}, &report.OriginError{Entry: "~" + text, Why: why, Want: `"~https://pr-[0-9]+\.example\.com"`}
	}
	// Compile it alone first: unbalanced brackets could open the anchors.
	if _, err := regexp.Compile(text); err != nil {
		return bad(err.Error())
	}
	scheme := expressionScheme.FindStringSubmatch(text)
	if scheme == nil {
		return bad("it must begin with a literal scheme")
	}
	whole, err := regexp.Compile(`\A(?i:` + text + `)\z`)
	if err != nil {
		return bad(err.Error()) // it is too large by now
	}
	if isWeb(scheme[1]) && slices.ContainsFunc(foreignHosts, func(host string) bool { return whole.MatchString(scheme[1] + "://" + host) }) {
		return bad(`matches every origin: write "*" if you mean that`)
	}
	return originExpression{scheme[1], whole}, nil
}

// foreignHosts belong to nobody: an expression that matches one of them matches any
// name that an attacker registers.
var foreignHosts = []string{
	"culvertforeign.com", "www.culvertforeign.com", "culvertforeign.net", "www.culvertforeign.net", "culvertforeign.org",
	"www.culvertforeign.org", "culvertforeign.io", "culvertforeign.dev", "www.culvertforeign.com:8443", "culvertforeign.com:1",
}

func (e originExpression) matches(u *url.URL) bool {
	return e.scheme == u.Scheme && e.whole.MatchString(u.Scheme+"://"+u.Host)
}
