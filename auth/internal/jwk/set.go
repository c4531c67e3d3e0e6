package jwk

import (
	"errors"
	"fmt"

	"github.com/culvert-grpc/culvert/auth/internal/object"
)

// Bounds of a set. Issuers have two to ten keys; a set of 100 RSA keys with certificates takes
// less than 256 KiB.
const (
	MaxSetBytes = 256 << 10
	MaxKeys     = 100
	// maxCandidates bounds how many keys are tried for a token: those that share its kid (which
	// RFC 7517 §4.5 lets keys of different types do), or all that fit, if it names none.
	maxCandidates = 4
)

// ErrUnknown means that the issuer publishes no key that may have signed the token.
var ErrUnknown = errors.New("the issuer publishes no such key")

// A Set has the keys of an issuer at one time. It doesn't change.
type Set struct {
	keys    []*Key
	skipped map[string]error // why keys aren't in use, by kid
}

// ParseSet reads a JWK set (RFC 7517 §5). It skips keys of types and for uses that culvert
// doesn't know, and private and symmetric keys. An error means that nothing of data is used.
func ParseSet(data []byte) (*Set, error) {
	if len(data) > MaxSetBytes {
		return nil, fmt.Errorf("the key set is over %d KiB", MaxSetBytes>>10)
	}
	o, err := object.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("the key set: %w", err)
	}
	list, is := o["keys"].([]any)
	if !is {
		return nil, errors.New(`the key set has no list "keys"`)
	}
	if len(list) > MaxKeys {
		return nil, fmt.Errorf("the key set has %d keys: %d are the most", len(list), MaxKeys)
	}
	s := &Set{skipped: map[string]error{}}
	seen := map[[32]byte]bool{}
	for _, member := range list {
		key, err := parseMember(member, s.skipped)
		if err == nil && !seen[key.print] { // the same key twice is one
			seen[key.print] = true
			s.keys = append(s.keys, key)
		}
	}
	return s, nil
}

// parseMember reads a member of the set. It notes in skipped why the key isn't used.
func parseMember(member any, skipped map[string]error) (*Key, error) {
	o, is := member.(object.Object)
	if !is {
		skipped[""] = errors.New("it isn't an object")
		return nil, skipped[""]
	}
	key, err := parseKey(o)
	if err != nil {
		id, _, _ := o.Text("kid") // no string: it is noted without a name
		skipped[id] = err
	}
	return key, err
}

// Len returns the number of keys in use.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.keys)
}

// Skipped returns why keys of the set aren't in use, by kid. At most MaxKeys.
func (s *Set) Skipped() map[string]error {
	if s == nil {
		return nil
	}
	return s.skipped
}

// find returns the keys that may have signed a token whose header has this kid, "" for none,
// and this alg. An error is ErrUnknown, or one that a fetch wouldn't mend.
func (s *Set) find(id, algorithm string) ([]*Key, error) {
	var keys []*Key
	named := false
	if s != nil {
		for _, key := range s.keys {
			if id != "" && key.id != id {
				continue
			}
			named = true
			if key.Fits(algorithm) {
				keys = append(keys, key)
			}
		}
	}
	switch {
	case len(keys) > maxCandidates && id == "":
		return nil, fmt.Errorf("the token has no kid, and %d keys of its issuer fit: at most %d are tried", len(keys), maxCandidates)
	case len(keys) > 0:
		return keys[:min(len(keys), maxCandidates)], nil
	case named && id != "":
		return nil, fmt.Errorf("the key %s isn't one for %s", object.Quote(id), object.Quote(algorithm))
	}
	if why := s.Skipped()[id]; why != nil && id != "" {
		return nil, fmt.Errorf("the key %s isn't used: %w", object.Quote(id), why)
	}
	return nil, ErrUnknown
}

// follow makes s the successor of before: keys that both have become the same pointer, and
// those that s hasn't are removed. Nobody uses s yet.
func (s *Set) follow(before *Set) {
	if before == nil {
		return
	}
	had := map[[32]byte]*Key{}
	for _, key := range before.keys {
		had[key.print] = key
	}
	for i, key := range s.keys {
		if same := had[key.print]; same != nil {
			s.keys[i] = same
			delete(had, key.print)
		}
	}
	for _, gone := range had {
		gone.removed.Store(true)
	}
}
