package apikey

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// A key is "culvert_<id>_<43 characters>". The prefix lets scanners of repositories find a
// key that was published. The id, which isn't secret, lets people name the key. The 43
// characters are 28 random bytes and a checksum of all before it, in base64url.
const (
	keyPrefix     = "culvert_"
	idBytes       = 5
	idLength      = 8
	randomBytes   = 28
	checksumBytes = 4
	secretLength  = 43
	keyLength     = len(keyPrefix) + idLength + len("_") + secretLength
)

// Made reports whether a text looks like a key of Generate.
func Made(text string) bool { return strings.HasPrefix(text, keyPrefix) }

var (
	idEncoding     = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	secretEncoding = base64.RawURLEncoding.Strict() // so that each key has one spelling
)

// Generate returns a new key and its line for the file, which ends with a comment that has
// the key's id. A zero expires means that the key doesn't expire. It fails if a line can't
// have the name or the scopes.
func Generate(name string, scopes []string, expires time.Time) (key, line string, err error) {
	id := &identity.Identity{Subject: name, Kind: identity.APIKey, Scopes: scopes, Expires: expires.Truncate(time.Second)}
	random := make([]byte, idBytes+randomBytes)
	_, _ = rand.Read(random) // crypto/rand never fails: it would end the program
	head := keyPrefix + idEncoding.EncodeToString(random[:idBytes])
	secret := binary.BigEndian.AppendUint32(random[idBytes:], checksum(head, random[idBytes:]))
	key = head + "_" + secretEncoding.EncodeToString(secret)
	line = lineOf(sha256.Sum256([]byte(key)), id)
	keys, err := Parse([]byte(line))
	if err != nil {
		if wrong := new(Mistake); errors.As(err, &wrong) {
			err = errors.New("the new key " + wrong.Text) // it has no line yet
		}
		return "", "", err
	}
	// A name such as "ci #" makes a valid line, of another key.
	if got, err := keys.Look(key, time.Time{}); err != nil || got.Subject != name || !slices.Equal(got.Scopes, scopes) {
		return "", "", errors.New("a name or a scope has a character that no line can have: write letters, digits and . _ : / @ -")
	}
	return key, line + "  # " + head, nil
}

// checksum returns the checksum of a key: it is against slips of people, not against
// forgers, who find out only in the file whether a key is valid.
func checksum(head string, random []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE([]byte(head)), crc32.IEEETable, random)
}

// idOf returns the id of a key of the form of Generate. whole is false for any other text,
// and for a key that was copied badly.
func idOf(key string) (id string, whole bool) {
	if len(key) != keyLength || key[len(keyPrefix)+idLength] != '_' {
		return "", false
	}
	var secret [randomBytes + checksumBytes]byte
	if n, err := secretEncoding.Decode(secret[:], []byte(key[keyLength-secretLength:])); err != nil || n != len(secret) {
		return "", false
	}
	head := key[:len(keyPrefix)+idLength]
	id, isKey := strings.CutPrefix(head, keyPrefix)
	// A line break in an id would otherwise reach the log: the encoding leaves it out.
	if raw, err := idEncoding.DecodeString(id); err != nil || len(raw) != idBytes || !isKey {
		return "", false
	}
	return id, checksum(head, secret[:randomBytes]) == binary.BigEndian.Uint32(secret[randomBytes:])
}

// lineOf writes a key as a line without its end.
func lineOf(sum hash, id *identity.Identity) string {
	line := hashPrefix + hex.EncodeToString(sum[:]) + " " + id.Subject
	if len(id.Scopes) > 0 {
		line += " scopes=" + strings.Join(id.Scopes, ",")
	}
	if !id.Expires.IsZero() {
		line += " expires=" + id.Expires.UTC().Format(time.RFC3339Nano)
	}
	return line
}
