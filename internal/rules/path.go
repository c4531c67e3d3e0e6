package rules

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// PathElements returns the number of elements of a prefix of paths. "/" has none. Its error
// continues a sentence that begins with the prefix.
func PathElements(prefix string) (elements int, err error) {
	if prefix == "" || prefix == "/" {
		return 0, nil
	}
	if prefix[0] != '/' {
		return 0, fmt.Errorf("can match no path: write %q", "/"+prefix)
	}
	for element := range strings.SplitSeq(prefix[1:], "/") {
		if !plainElement(element) {
			return 0, errors.New(`can match no path: write whole elements, such as "/team-a", without a slash at the end`)
		}
		elements++
	}
	return elements, nil
}

// plainElement reports whether s has only the letters, digits and marks that may occur
// in an element of a call's path, such as the names of services and methods.
func plainElement(s string) bool {
	if s == "" || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		if !PlainByte(s[i]) {
			return false
		}
	}
	return true
}

// PlainByte reports whether an element of a call's path may have the byte.
func PlainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._-$~:@!*+", c) >= 0
}

// CutPattern cuts a pattern for methods at the slash before the method. The pattern is
// "package.Service/Method" with * for any part, perhaps with a slash before. ok is false for
// what is none; service and method may be empty.
func CutPattern(text string) (service, method string, ok bool) {
	text = strings.TrimPrefix(text, "/")
	service, method, ok = strings.Cut(text, "/")
	_, err := path.Match(text, "")
	return service, method, ok && err == nil && !strings.Contains(method, "/")
}
