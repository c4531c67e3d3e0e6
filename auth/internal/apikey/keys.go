package apikey

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// A hash is the SHA-256 of a key.
type hash = [sha256.Size]byte

// Bounds of a key that a client presents. A hash of 32 random characters can't be reversed,
// even if somebody gets hold of the file.
const (
	minKeyBytes = 32
	maxKeyBytes = 512
)

// Keys are those of one version of a file. They don't change.
type Keys struct{ byHash map[hash]*identity.Identity }

// Len returns the number of keys, with those that have expired.
func (k *Keys) Len() int { return len(k.byHash) }

// Format writes the number of keys whatever the verb is: hashes belong in no log.
func (k *Keys) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "%d API keys", k.Len()) }

var (
	unknownKey = &identity.Refusal{Text: "unknown API key: ask the operator of this server for one", Cause: errors.New("no line has its hash, and culvert didn't make it")}
	shortKey   = &identity.Refusal{Text: unknownKey.Text, Cause: fmt.Errorf("the key has under %d characters, so its hash could be guessed: make a new key", minKeyBytes)}
	longKey    = &identity.Refusal{Text: unknownKey.Text, Cause: fmt.Errorf("the key has over %d characters", maxKeyBytes)}
	damagedKey = &identity.Refusal{Text: "the API key is damaged: copy all of it again", Cause: errors.New("its length, an encoding in it or its checksum is wrong")}
	noFileYet  = &identity.Refusal{Reason: identity.Unjudged, Text: "API keys can't be checked at present: try again later", Cause: errors.New("no file of API keys has been read")}
)

// Look returns the identity of a key, which callers share. The error is a
// *identity.Refusal. Only a client that has the key learns that it has expired. All others
// learn nothing of what the file has: that a key was copied badly shows in the key itself.
//
// The map compares hashes, and takes a time that depends on them. That is enough against
// clients who measure it: whoever presents a text can't choose its hash byte by byte, and a
// hash that they learned wouldn't bring them its key, which is what they must present.
func (k *Keys) Look(presented string, now time.Time) (*identity.Identity, error) {
	switch {
	case len(presented) < minKeyBytes:
		return nil, shortKey
	case len(presented) > maxKeyBytes:
		return nil, longKey
	}
	var text [maxKeyBytes]byte // a conversion would allocate
	id := k.byHash[sha256.Sum256(text[:copy(text[:], presented)])]
	switch {
	case id == nil:
		return nil, refuseUnknown(presented)
	case !id.Expires.IsZero() && !now.Before(id.Expires):
		return nil, &identity.Refusal{
			Text:  "the API key has expired: ask the operator of this server for a new one",
			Cause: fmt.Errorf("the key %q expired at %s", id.Subject, id.Expires.Format(time.RFC3339)),
		}
	}
	return id, nil
}

// refuseUnknown returns the refusal of a key that no line has.
func refuseUnknown(presented string) error {
	switch id, whole := idOf(presented); {
	case whole:
		return &identity.Refusal{Text: unknownKey.Text, Cause: fmt.Errorf("no line has the key %s%s_…", keyPrefix, id)}
	case strings.HasPrefix(presented, keyPrefix):
		return damagedKey
	default:
		return unknownKey
	}
}

// A Store has the keys in force. Its methods may be called concurrently. The zero value has
// read no file.
type Store struct{ keys atomic.Pointer[Keys] }

// Replace puts other keys in force, all at once.
func (s *Store) Replace(keys *Keys) { s.keys.Store(keys) }

// Look does the same as [Keys.Look] with the keys in force. Before the first Replace nobody
// can judge a key.
func (s *Store) Look(presented string, now time.Time) (*identity.Identity, error) {
	keys := s.keys.Load()
	if keys == nil {
		return nil, noFileYet
	}
	return keys.Look(presented, now)
}
