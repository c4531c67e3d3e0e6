package routing

import (
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// maxPathBytes bounds the path of a call.
const maxPathBytes = 1024

// ParseMethod returns the method of a request's path exactly as it was sent, so that
// routing, policy, log and upstream see the same bytes. For a method's path,
// URL.EscapedPath returns those bytes, without what an http.StripPrefix removed.
// ParseMethod refuses everything that another component could read differently.
func ParseMethod(target, prefix string) (string, bool) {
	method, ok := ParsePath(target, prefix)
	if !ok || strings.Count(method, "/") != 2 {
		return "", false
	}
	return method, true
}

// ParsePath returns the path of a call below a prefix, exactly as it was sent, like
// ParseMethod, with any number of elements from 2.
func ParsePath(target, prefix string) (string, bool) {
	path, _, _ := strings.Cut(target, "?")
	path, ok := strings.CutPrefix(path, prefix)
	if !ok || len(path) < 4 || len(path) > maxPathBytes || path[0] != '/' {
		return "", false
	}
	n, err := rules.PathElements(path)
	if err != nil {
		return "", false
	}
	return path, n >= 2
}

// LastElements returns the last two elements of a path that has at least two.
func LastElements(path string) string {
	last := strings.LastIndexByte(path, '/')
	return path[strings.LastIndexByte(path[:last], '/'):]
}

// ParseMessagePath returns the path of a WebSocket of bare messages below a prefix,
// exactly as it was sent: a route names it, whatever its elements are.
func ParseMessagePath(target, prefix string) (string, bool) {
	path, ok := strings.CutPrefix(target, prefix)
	return path, ok && len(path) > 1 && len(path) <= maxPathBytes && path[0] == '/'
}

// DidYouMean returns the path of the method at the end of a request target, or "". If
// nothing else in the request looks like a call, only a service with a package counts,
// so that paths of web pages don't match.
func DidYouMean(target, prefix string, call bool) string {
	path, _, _ := strings.Cut(target, "?")
	parts := strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
	if len(parts) < 2 {
		return ""
	}
	service, name := parts[len(parts)-2], parts[len(parts)-1]
	meant := prefix + "/" + service + "/" + name
	if _, ok := ParseMethod(meant, prefix); !ok || meant == path || strings.Contains(name, ".") || strings.HasPrefix(service, ".") {
		return ""
	}
	if !call && !strings.Contains(service, ".") {
		return ""
	}
	return meant
}

// NamesService reports whether the first element of a path names a service, and hardly a
// folder of pages: it has a package, and its name begins with a capital letter.
func NamesService(path string) bool {
	service, _, _ := strings.Cut(path[1:], "/")
	dot := strings.LastIndexByte(service, '.')
	return dot > 0 && dot+1 < len(service) && 'A' <= service[dot+1] && service[dot+1] <= 'Z'
}
