package gate

import "strings"

// ContentSubtype returns the part after the "+" of the content type value, and reports
// whether the type is contentType. It drops a subtype that isn't a token: the subtype
// would stand in the answer's header and in the backend's request. RFC 9110 §8.3.1.
func ContentSubtype(value, contentType string) (string, bool) {
	have, _, _ := strings.Cut(value, ";")
	rest, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(have)), contentType)
	if !ok || (rest != "" && rest[0] != '+') {
		return "", false
	}
	subtype := strings.TrimPrefix(rest, "+")
	if !IsToken(subtype) {
		subtype = ""
	}
	return subtype, true
}

// HasToken looks for a token in a comma-separated list, in any case.
func HasToken(lines []string, token string) bool {
	for _, line := range lines {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}
