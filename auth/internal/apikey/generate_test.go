package apikey

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestGenerate(t *testing.T) {
	form := regexp.MustCompile(`^culvert_[a-z2-7]{8}_[A-Za-z0-9_-]{43}$`)
	seen := make(map[string]bool)
	for range 200 {
		key, line, err := Generate("ci-deploy", []string{"a", "b"}, noon.Add(time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		if !form.MatchString(key) || seen[key] || seen[key[:16]] {
			t.Fatalf("%q hasn't the form, or isn't new", key)
		}
		seen[key], seen[key[:16]] = true, true
		if strings.Contains(line, key[17:]) || !strings.HasSuffix(line, "  # "+key[:16]) || strings.Contains(line, "\n") {
			t.Errorf("line %q of key %q", line, key)
		}
		id, err := parse(t, line).Look(key, noon.Add(-1))
		if err != nil || id.Subject != "ci-deploy" || !slices.Equal(id.Scopes, []string{"a", "b"}) || !id.Expires.Equal(noon) {
			t.Errorf("%q: %+v, %v", line, id, err)
		}
	}
}

func TestGenerateRefusesWhatNoLineCanHave(t *testing.T) {
	zone := time.FixedZone("", 0)
	for _, c := range []struct {
		name    string
		scopes  []string
		expires time.Time
	}{
		{"", nil, time.Time{}},
		{"# ci", nil, time.Time{}},
		{"ci #", nil, time.Time{}},
		{"ci ", nil, time.Time{}},
		{"ci\n# x", nil, time.Time{}},
		{"ci\n" + hashOf(secretOf(1)) + " mallory", nil, time.Time{}},
		{"ci expires=2030-01-01", nil, time.Time{}},
		{"ci scopes=admin", nil, time.Time{}},
		{"ci*", nil, time.Time{}},
		{"zo\u00eb", nil, time.Time{}},
		{strings.Repeat("n", maxNameBytes+1), nil, time.Time{}},
		{"ci", []string{""}, time.Time{}},
		{"ci", []string{"a,b"}, time.Time{}},
		{"ci", []string{"a", "b #"}, time.Time{}},
		{"ci", []string{strings.Repeat("s", MaxLineBytes)}, time.Time{}},
		{"ci", nil, time.Date(9999, 1, 1, 0, 0, 0, 0, zone)},
		{"ci", nil, time.Date(1999, 1, 1, 0, 0, 0, 0, zone)},
	} {
		if key, line, err := Generate(c.name, c.scopes, c.expires); err == nil || key != "" || line != "" || strings.HasPrefix(err.Error(), "line") {
			t.Errorf("%+v: got %q, %v, want an error", c, line, err)
		}
	}
}

// TestKeyHasOneSpelling: neither the spare bits of the last character nor line breaks, which
// decoders skip, make another key of the same checksum. An id gets into the log.
func TestKeyHasOneSpelling(t *testing.T) {
	forge := func(id string, random byte) string {
		secret := bytes.Repeat([]byte{random}, randomBytes)
		secret = binary.BigEndian.AppendUint32(secret, checksum(keyPrefix+id, secret))
		return keyPrefix + id + "_" + secretEncoding.EncodeToString(secret)
	}
	whole := forge("abcdefgh", 7)
	if id, ok := idOf(whole); !ok || id != "abcdefgh" {
		t.Fatalf("%q: %q, %v", whole, id, ok)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, whole[keyLength-1])
	for spare := 1; spare < 4; spare++ {
		other := whole[:keyLength-1] + alphabet[last+spare:last+spare+1]
		if id, ok := idOf(other); ok {
			t.Errorf("%q has the id %q, too", other, id)
		}
	}
	for _, id := range []string{"abcdefg\n", "ab\r\ncdef", "\nabcdefg", "ABCDEFGH", "abcdefg1", "abcdefg="} {
		if got, ok := idOf(forge(id, 7)); ok {
			t.Errorf("the id %q is taken for %q", id, got)
		}
	}
}

// TestChecksumFindsEachSlip: a key with one other character, without one, or with two
// neighbours in the wrong order is damaged. (A CRC-32 finds them all.)
func TestChecksumFindsEachSlip(t *testing.T) {
	key, _, err := Generate("ci", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	id, whole := idOf(key)
	if !whole || id != key[8:16] {
		t.Fatalf("%q has the id %q, %v", key, id, whole)
	}
	for i := range len(key) {
		slips := []string{key[:i], key[:i] + key[i+1:], key[:i] + "_" + key[i:], key[:i] + "\n" + key[i+1:]}
		for _, c := range "aA0z-_2" {
			slips = append(slips, key[:i]+string(c)+key[i+1:])
		}
		if i > 0 {
			slips = append(slips, key[:i-1]+key[i:i+1]+key[i-1:i]+key[i+1:])
		}
		for _, slip := range slips {
			if id, whole := idOf(slip); slip != key && whole {
				t.Errorf("%q is taken for whole, with the id %q", slip, id)
			}
		}
	}
}
