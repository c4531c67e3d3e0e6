package apikey

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// Bounds of a file.
const (
	MaxBytes     = 1 << 20
	MaxLineBytes = 4 << 10
	MaxKeys      = 10_000
	maxNameBytes = 256
)

// A Mistake is the error of a line. Its text has none of the line's own words, since any of
// them may be a key that somebody put in the wrong place.
type Mistake struct {
	Line int // the first is 1
	Text string
}

// Error returns "line 3: …". The caller puts the file's name before it.
func (m *Mistake) Error() string { return fmt.Sprintf("line %d: %s", m.Line, m.Text) }

// Parse reads a file of keys. A file without keys is valid, and lets nobody in: an operator
// who empties it revokes all keys. The error is a *Mistake unless the whole file is too large.
func Parse(data []byte) (*Keys, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("the file is over %d bytes: remove keys that are no longer used", MaxBytes)
	}
	r := reader{&Keys{byHash: make(map[hash]*identity.Identity)}, make(map[hash]int), make(map[string]int)}
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\ufeff"))) {
		number++
		if err := r.read(number, string(line)); err != nil {
			return nil, &Mistake{number, err.Error()}
		}
	}
	return r.keys, nil
}

// A reader has the keys of the lines before, and the numbers of their lines.
type reader struct {
	keys   *Keys
	hashes map[hash]int
	names  map[string]int
}

func (r *reader) read(number int, line string) error {
	if len(line) > MaxLineBytes {
		return fmt.Errorf("is over %d bytes: shorten its comment or its scopes", MaxLineBytes)
	}
	fields, err := fieldsOf(line)
	if err != nil || len(fields) == 0 {
		return err
	}
	sum, id, err := parseKey(fields)
	switch {
	case err != nil:
		return err
	case len(r.names) == MaxKeys:
		return fmt.Errorf("is the key number %d, and a file may have %d: remove keys that are no longer used", MaxKeys+1, MaxKeys)
	case r.hashes[sum] != 0:
		return fmt.Errorf("has the hash of line %d: remove one of them, or make a new key", r.hashes[sum])
	case r.names[id.Subject] != 0:
		return fmt.Errorf("has the name of line %d: give each key a name of its own, such as ci-2027", r.names[id.Subject])
	}
	r.keys.byHash[sum], r.hashes[sum], r.names[id.Subject] = id, number, number
	return nil
}

// fieldsOf returns the fields before a comment. It returns none for a line without a key.
func fieldsOf(line string) ([]string, error) {
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if i := slices.IndexFunc(fields, func(f string) bool { return f[0] == '#' }); i >= 0 {
		fields = fields[:i]
	}
	for i, f := range fields {
		if strings.ContainsFunc(f, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("field %d has a character outside of printable ASCII: only a comment may have one", i+1)
		}
	}
	return fields, nil
}

const form = "write sha256:HASH NAME, then scopes=A,B and expires=2027-06-30 if needed"

// parseKey reads a line that isn't empty.
func parseKey(fields []string) (sum hash, id *identity.Identity, err error) {
	if slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, keyPrefix) }) {
		return sum, nil, errors.New("has a key itself, which is no longer secret: make a new key, and write its hash")
	}
	if sum, err = parseHash(fields[0]); err != nil {
		return sum, nil, err
	}
	if len(fields) == 1 {
		return sum, nil, errors.New("has no name: " + form)
	}
	id = &identity.Identity{Subject: fields[1], Kind: identity.APIKey}
	if err = checkName(id.Subject); err != nil {
		return sum, nil, err
	}
	for i, f := range fields[2:] {
		option, value, _ := strings.Cut(f, "=")
		switch {
		case option == "scopes" && id.Scopes == nil:
			id.Scopes, err = parseScopes(value)
		case option == "expires" && id.Expires.IsZero():
			id.Expires, err = parseExpiry(value)
		case option == "scopes" || option == "expires":
			err = errors.New("has " + option + " twice: put all in one")
		default:
			err = fmt.Errorf("field %d is neither scopes= nor expires=: %s", i+3, form)
		}
		if err != nil {
			return sum, nil, err
		}
	}
	id.Prepare()
	return sum, id, nil
}

const hashPrefix = "sha256:"

// hashOfNothing is what sha256sum prints for an empty variable or file.
var hashOfNothing = sha256.Sum256(nil)

func parseHash(field string) (sum hash, err error) {
	digits, ok := strings.CutPrefix(field, hashPrefix)
	if !ok {
		return sum, errors.New("begins with no hash: " + form)
	}
	if len(digits) != hex.EncodedLen(len(sum)) {
		return sum, fmt.Errorf("has a hash of %d characters after sha256:, want %d", len(digits), hex.EncodedLen(len(sum)))
	}
	if _, err := hex.Decode(sum[:], []byte(digits)); err != nil {
		return sum, errors.New("has a hash with a character other than 0-9 and a-f: write SHA-256 in hexadecimal")
	}
	if sum == hashOfNothing {
		return sum, errors.New("has the hash of an empty text: a variable was probably empty when it was made; hash the key again")
	}
	return sum, nil
}

// checkName refuses names that would be taken for something else: in a line, in a rule's
// pattern, or in a log.
func checkName(name string) error {
	switch {
	case len(name) > maxNameBytes:
		return fmt.Errorf("has a name of %d bytes, and %d are allowed", len(name), maxNameBytes)
	case strings.Contains(name, "="):
		return errors.New("has a name with =, or no name: " + form)
	case strings.Contains(name, "*"):
		return errors.New("has a name with *, which rules couldn't tell from their patterns: remove the *")
	case strings.HasPrefix(name, hashPrefix):
		return errors.New("has a hash for a name: " + form)
	}
	return nil
}

// parseScopes parses a list. A scope has the characters of RFC 6749 §3.3, but no comma.
func parseScopes(list string) ([]string, error) {
	scopes := strings.Split(list, ",")
	for i, s := range scopes {
		switch {
		case s == "":
			return nil, errors.New("has an empty scope: write scopes=A,B without blanks, or leave scopes= out")
		case strings.ContainsAny(s, `"\`):
			return nil, errors.New(`has a scope with " or \, which no scope may have: remove them`)
		case slices.Contains(scopes[:i], s):
			return nil, errors.New("has a scope twice: remove one of them")
		}
	}
	return scopes, nil
}

// latestYear bounds expiries: JSON has no time after the year 9999, in any zone.
const latestYear = 9998

// parseExpiry parses an RFC 3339 date or time. A date is the last day of the key, in UTC.
func parseExpiry(text string) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err == nil {
		t = t.AddDate(0, 0, 1)
	} else if t, err = time.Parse(time.RFC3339, text); err != nil {
		return time.Time{}, errors.New("has an expiry that is no date: write expires=2027-06-30, or expires=2027-06-30T12:00:00Z")
	}
	if t = t.UTC(); t.Year() < 2000 || t.Year() > latestYear {
		return time.Time{}, fmt.Errorf("has an expiry outside of the years 2000 to %d: leave expires= out for a key that stays", latestYear)
	}
	return t, nil
}
