package check

import (
	"encoding/base64"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/internal/rules"
)

const (
	// leastSecret is how long a part of a credential must be to be looked for. Shorter ones are
	// in innocent texts, too.
	leastSecret = 12

	// enoughSecret is how much of a part is looked for: a text may end within a long one.
	enoughSecret = 64
)

// secrets are the credentials of a question. Services repeat them in messages, proxies in
// error pages, and net/http in errors about malformed answers; from there they would get into
// logs and to whoever sees a client's errors.
type secrets []string

// Characters between the parts of a credential: those between the parts of a JWT or the values of
// cookies, and those that JSON, HTML and URLs write in another way. A service's answer may be one of
// these, and so repeat a credential with `\/` or %2F in it.
const (
	betweenParts = " .,;=\""
	escaped      = "/+%&<>'\\"
)

// secretsOf returns the credentials in metadata, by its names. The parts of a JWT and the
// values of cookies are secrets of their own, and so is what is the same in all answers.
// A service gets bytes as base64. The further names are those of Options.Secrets.
func secretsOf(md metadata.MD, further []string) (s secrets) {
	add := func(text, between string) {
		for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(between, r) }) {
			if len(part) >= leastSecret {
				s = append(s, part[:min(len(part), enoughSecret)])
			}
		}
	}
	for name, values := range md {
		if holdsSecret(name, further) {
			for _, v := range values {
				if strings.HasSuffix(name, "-bin") {
					v = base64.RawStdEncoding.EncodeToString([]byte(v))
				}
				add(v, betweenParts)
				if strings.ContainsAny(v, escaped) {
					add(v, betweenParts+escaped)
				}
			}
		}
	}
	return s
}

// holdsSecret reports whether metadata of the name may hold a credential.
func holdsSecret(name string, further []string) bool {
	return rules.HoldsSecret(name) || slices.Contains(further, name)
}

// in reports whether text repeats one of the secrets.
func (s secrets) in(text string) bool {
	return slices.ContainsFunc(s, func(secret string) bool { return strings.Contains(text, secret) })
}

// String hides the secrets from logs.
func (s secrets) String() string { return "secrets" }

// GoString hides them from %#v.
func (s secrets) GoString() string { return s.String() }
