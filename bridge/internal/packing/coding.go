package packing

import (
	"strconv"
	"strings"
)

// Names of codings are the same in any case, and x-gzip is gzip. RFC 9110 §8.4.1.

// isGzip reports whether a content coding is gzip.
func isGzip(coding string) bool {
	return strings.EqualFold(coding, "gzip") || strings.EqualFold(coding, "x-gzip")
}

// IsIdentity reports whether a content coding is none.
func IsIdentity(coding string) bool { return coding == "" || strings.EqualFold(coding, "identity") }

// Coding reads the lines of a header with content codings: it returns "gzip" or "". It
// returns false if there is another coding, or more than one.
func Coding(lines []string) (coding string, ok bool) {
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			switch name = strings.Trim(name, blanks); {
			case IsIdentity(name):
			case coding == "" && isGzip(name):
				coding = "gzip"
			default:
				return "", false
			}
		}
	}
	return coding, true
}

// Accepted reports whether the lines of a header with acceptable codings list gzip. A
// weight of zero excludes it. RFC 9110 §12.5.3.
func Accepted(lines []string) bool {
	for _, line := range lines {
		for entry := range strings.SplitSeq(line, ",") {
			name, parameters, _ := strings.Cut(entry, ";")
			if isGzip(strings.Trim(name, blanks)) {
				return !excluded(parameters)
			}
		}
	}
	return false
}

// excluded reports whether a weight is zero. One that can't be read excludes, too: a
// client that gets no gzip can read the answer.
func excluded(parameters string) bool {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.Trim(name, blanks), "q") {
			q, err := strconv.ParseFloat(strings.Trim(value, blanks), 64)
			return err != nil || !(q > 0)
		}
	}
	return false
}

const blanks = " \t"
