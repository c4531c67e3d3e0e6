package rules

import (
	"path"
	"strings"
)

// CutPattern cuts a pattern for methods at the slash before the method. The pattern is
// "package.Service/Method" with * for any part, perhaps with a slash before. ok is false for
// what is none; service and method may be empty.
func CutPattern(text string) (service, method string, ok bool) {
	text = strings.TrimPrefix(text, "/")
	service, method, ok = strings.Cut(text, "/")
	_, err := path.Match(text, "")
	return service, method, ok && err == nil && !strings.Contains(method, "/")
}
