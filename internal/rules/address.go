package rules

import (
	"strconv"
	"strings"
)

// CutPort cuts host[:port]. The colons of an IPv6 address are in brackets, which stay.
func CutPort(s string) (host, port string, found bool) {
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// IsPort reports whether s is a port, from 0 to 65535.
func IsPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// IsWeb reports whether a scheme is http or https.
func IsWeb(scheme string) bool { return UsualPort(scheme) != "" }

// UsualPort returns the port that a URL of http or https needn't have. For another scheme it
// returns "".
func UsualPort(scheme string) string {
	switch scheme {
	case "https":
		return "443"
	case "http":
		return "80"
	}
	return ""
}
