package gate

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// An originPattern is one allowed origin: scheme, host and port. The host may begin
// with "*.", and host or port may be "*".
type originPattern struct {
	scheme, host, port string
	whole              *regexp.Regexp // in place of host and port: an expression for the whole origin; or nil
}

func parseOriginPattern(text string) (originPattern, error) {
	if expression, ok := strings.CutPrefix(text, "~"); ok {
		return parseOriginExpression(expression)
	}
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
	if rules.MisplacedStar(host) {
		return bad("* can stand only for a whole host or its first labels")
	}
	if host == "*." || (host == "*" && rules.IsWeb(scheme)) {
		return bad(`matches every origin: write "*" if you mean that`)
	}
	if port == rules.UsualPort(scheme) {
		port = "" // as browsers write it
	}
	return originPattern{scheme: scheme, host: host, port: port}, nil
}

// exact reports whether the pattern stands for one origin.
func (o originPattern) exact() bool {
	return o.whole == nil && !strings.HasPrefix(o.host, "*") && o.port != "*"
}

func (o originPattern) matches(u *url.URL) bool {
	if o.whole != nil {
		return o.scheme == u.Scheme && o.whole.MatchString(u.Scheme+"://"+u.Host)
	}
	return o.scheme == u.Scheme && matchesHost(o.host, u.Hostname()) && (o.port == "*" || o.port == u.Port())
}

func matchesHost(pattern, host string) bool {
	if suffix, ok := strings.CutPrefix(pattern, "*."); ok {
		sub, ok := strings.CutSuffix(host, "."+suffix)
		return ok && sub != ""
	}
	return pattern == "*" || pattern == host
}

// parseOriginExpression parses the expression without its "~".
func parseOriginExpression(text string) (originPattern, error) {
	bad := func(why string) (originPattern, error) {
		return originPattern{}, &report.OriginError{Entry: "~" + text, Why: why, Want: `"~https://pr-[0-9]+\.example\.com"`}
	}
	scheme, whole, err := rules.OriginExpression(text)
	if err != nil {
		return bad(err.Error())
	}
	if rules.IsWeb(scheme) && slices.ContainsFunc(foreignHosts, func(host string) bool { return whole.MatchString(scheme + "://" + host) }) {
		return bad(`matches every origin: write "*" if you mean that`)
	}
	return originPattern{scheme: scheme, whole: whole}, nil
}

// foreignHosts belong to nobody: an expression that matches one of them matches any
// name that an attacker registers.
var foreignHosts = []string{
	"culvertforeign.com", "www.culvertforeign.com", "culvertforeign.net", "www.culvertforeign.net", "culvertforeign.org",
	"www.culvertforeign.org", "culvertforeign.io", "culvertforeign.dev", "www.culvertforeign.com:8443", "culvertforeign.com:1",
}
