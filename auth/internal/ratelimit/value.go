package ratelimit

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// hashPrefix begins a value that stands for another one.
const hashPrefix = "sha256:"

// joints are "_KEY_" for the keys of all descriptors.
type joints []string

func jointsOf(descriptors []Descriptor) (j joints) {
	for _, d := range descriptors {
		for _, e := range d {
			j = append(j, "_"+e.Key+"_")
		}
	}
	return j
}

// bounded returns the value that stands for v at the service. Most stand for themselves. Its
// SHA-256 stands for a value that is too long, isn't printable (protobuf takes UTF-8 only),
// or could be taken for another one. So different values stay different:
//
//   - The beginning of a long value isn't used: clients with the same beginning would share a
//     limit, and one of them could use it up for all. Leaving the value out would lift the
//     limit.
//   - A value that looks like a hash is hashed, so that nobody sends the hash of another's.
//   - Envoy's service counts by the text KEY_VALUE_KEY_VALUE. A subject "alice_tenant_blue"
//     would use up the limit that alice has in the tenant blue.
func (j joints) bounded(v string) string {
	if len(v) <= MaxValueBytes && !strings.HasPrefix(v, hashPrefix) && printable(v) && !j.in(v) {
		return v
	}
	sum := sha256.Sum256([]byte(v))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// in reports whether v, between two underscores, has one of the joints.
func (j joints) in(v string) bool {
	return strings.IndexByte(v, '_') >= 0 && slices.ContainsFunc(j, func(joint string) bool {
		return strings.Contains(v, joint) || strings.HasPrefix(v, joint[1:]) || strings.HasSuffix(v, joint[:len(joint)-1])
	})
}

func printable(v string) bool {
	for i := 0; i < len(v); {
		if c := v[i]; c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(v[i:])
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			return false
		}
		i += n
	}
	return true
}
