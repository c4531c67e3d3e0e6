package routing

import (
	"errors"
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// Routes for bare messages have paths that name no method, such as "/ws/chat". They stand
// in one Table with the routes of calls: in the Table, the paths of messages begin with
// messagePrefix. A route of calls can't match such a path, since it has more elements, or
// because of its transport.
const messagePrefix = "/~m/~m"

// MessagePath returns the path of a request for a route of messages as Facts have it.
func MessagePath(path string) string { return messagePrefix + path }

// namedMethod ends the path of a route whose requests name the method.
const namedMethod = "/{service}/{method}"

// MessageRoute makes r a route for bare messages: for requests at path by the transport.
// The path is exact, or it ends with "/{service}/{method}"; then named is false, and
// Match.Methods and Rewrite apply as for calls. The error continues a sentence that begins
// with the key.
func (r *Route) MessageRoute(path, transport string) (exact bool, err error) {
	prefix, many := strings.CutSuffix(path, namedMethod)
	if strings.ContainsAny(path, "{}") && !many || strings.ContainsAny(prefix, "{}") {
		return false, errors.New(`can match no path: braces may only stand at the end, as "/{service}/{method}"`)
	}
	if _, err := rules.PathElements(prefix); err != nil || path == "" || path == "/" || strings.HasSuffix(prefix, "/") || strings.Contains(prefix, "*") {
		return false, errors.New(`can match no path: write whole elements, such as "/ws/chat" or "/ws/{service}/{method}", without a slash at the end`)
	}
	r.Rewrite, r.Match.Transports = "/", []string{transport}
	whole := messagePrefix + prefix
	if !many {
		last := strings.LastIndexByte(whole, '/')
		last = strings.LastIndexByte(whole[:last], '/')
		r.Match.Methods = []string{whole[last+1:]}
		whole = whole[:last]
	}
	r.Match.PathPrefix = whole
	return !many, nil
}
