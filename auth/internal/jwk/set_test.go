package jwk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseSetRefuses(t *testing.T) {
	many := make([]map[string]any, 10_000)
	for i := range many {
		many[i] = map[string]any{"kty": "oct"}
	}
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"nothing":        {nil, "not JSON"},
		"text":           {[]byte("<html>"), "not JSON"},
		"list":           {[]byte("[]"), "not a JSON object"},
		"no keys":        {[]byte("{}"), `no list "keys"`},
		"keys of null":   {[]byte(`{"keys":null}`), `no list "keys"`},
		"keys an object": {[]byte(`{"keys":{}}`), `no list "keys"`},
		"keys twice":     {[]byte(`{"keys":[],"keys":[]}`), "twice"},
		"kid twice":      {[]byte(`{"keys":[{"kid":"a","kid":"b"}]}`), "twice"},
		"10,000 keys":    {setOf(t, many...), "10000 keys: 100 are the most"},
		"101 keys":       {setOf(t, many[:101]...), "101 keys"},
		"too long":       {append([]byte(`{"keys":[]}`), bytes.Repeat([]byte(" "), MaxSetBytes)...), "over 256 KiB"},
		"deep":           {[]byte(`{"keys":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`), "deep"},
	} {
		if set, err := ParseSet(c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: parsed as %v, %v, want an error with %q", name, set, err, c.want)
		}
	}
}

func TestParseSetSkips(t *testing.T) {
	data := []byte(`{"keys":[1,null,"x",[],{},{"kty":"EC"},` + string(must(json.Marshal(ec(t, "a")))) + `]}`)
	set, err := ParseSet(data)
	if err != nil || set.Len() != 1 || set.keys[0].id != "a" {
		t.Errorf("parsed as %v, %v, want the key a alone", set, err)
	}
}

// TestPrivateKeysInASet: the others stay in use.
func TestPrivateKeysInASet(t *testing.T) {
	set := must(ParseSet(setOf(t, member(t, p256Private(), "leaked", nil), ec(t, "a"), member(t, []byte("secret"), "oct", nil))))
	if set.Len() != 1 || set.keys[0].id != "a" || len(set.Skipped()) != 2 {
		t.Errorf("%d keys, skipped: %v", set.Len(), set.Skipped())
	}
	if _, err := set.find("leaked", "ES256"); err == nil || errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "private") {
		t.Errorf("the private key: %v", err)
	}
}

func TestFind(t *testing.T) {
	parse := func(members ...map[string]any) *Set { return must(ParseSet(setOf(t, members...))) }
	twins := make([]map[string]any, 5)
	nameless := make([]map[string]any, 5)
	for i := range twins {
		twins[i], nameless[i] = ec(t, "twin"), ec(t, "")
	}
	rsaA, ecA := member(t, rsaPrivate().Public(), "a", nil), ec(t, "a")
	small := member(t, rsaPrivate().Public(), "small", map[string]any{"n": "AQAB"})
	for name, c := range map[string]struct {
		set     *Set
		id, alg string
		want    int    // keys
		err     string // or a part of the error
		unknown bool   // and whether a fetch may help
	}{
		"named":                       {set: parse(rsaA, ec(t, "b")), id: "a", alg: "RS256", want: 1},
		"case matters":                {set: parse(rsaA), id: "A", alg: "RS256", err: "no such key", unknown: true},
		"no set":                      {id: "a", alg: "RS256", err: "no such key", unknown: true},
		"empty set":                   {set: parse(), id: "a", alg: "RS256", err: "no such key", unknown: true},
		"two types of one kid":        {set: parse(rsaA, ecA), id: "a", alg: "ES256", want: 1},
		"two keys of one kid":         {set: parse(twins[:2]...), id: "twin", alg: "ES256", want: 2},
		"five keys of one kid":        {set: parse(twins...), id: "twin", alg: "ES256", want: 4},
		"the same key twice":          {set: parse(ecA, ecA), id: "a", alg: "ES256", want: 1},
		"named with another alg":      {set: parse(rsaA), id: "a", alg: "ES256", err: `"a" isn't one for "ES256"`},
		"no kid, one fits":            {set: parse(rsaA, ec(t, "b")), alg: "RS256", want: 1},
		"no kid, keys without":        {set: parse(nameless[:3]...), alg: "ES256", want: 3},
		"no kid, too many":            {set: parse(nameless...), alg: "ES256", err: "5 keys of its issuer fit"},
		"no kid, none fits":           {set: parse(rsaA), alg: "ES256", err: "no such key", unknown: true},
		"named, the key has no kid":   {set: parse(nameless[0]), id: "a", alg: "ES256", err: "no such key", unknown: true},
		"skipped":                     {set: parse(small), id: "small", alg: "RS256", err: "17 bits"},
		"alg none":                    {set: parse(rsaA), id: "a", alg: "none", err: "isn't one for"},
		"symmetric alg":               {set: parse(rsaA), id: "a", alg: "HS256", err: "isn't one for"},
		"an alg that breaks the line": {set: parse(rsaA), id: "a", alg: "x\ny", err: `x\ny`},
	} {
		keys, err := c.set.find(c.id, c.alg)
		switch {
		case len(keys) != c.want || (err == nil) != (c.err == ""):
			t.Errorf("%s: found %d, %v, want %d, %q", name, len(keys), err, c.want, c.err)
		case err != nil && (!strings.Contains(err.Error(), c.err) || errors.Is(err, ErrUnknown) != c.unknown):
			t.Errorf("%s: %v, want %q (unknown: %v)", name, err, c.err, c.unknown)
		}
	}
}

func TestRemovedKeysAreToldApart(t *testing.T) {
	a, b, c := ec(t, "a"), ec(t, "b"), ec(t, "c")
	pinned := map[string]any{}
	for name, value := range a {
		pinned[name] = value
	}
	first := must(ParseSet(setOf(t, a, b)))
	keyA, keyB := first.keys[0], first.keys[1]
	second := must(ParseSet(setOf(t, c, b)))
	second.follow(first)
	if !keyA.Removed() || keyB.Removed() || second.keys[1] != keyB {
		t.Errorf("a removed: %v, b removed: %v, b stays the same: %v", keyA.Removed(), keyB.Removed(), second.keys[1] == keyB)
	}
	third := must(ParseSet(setOf(t, a, member(t, edPublic(), "b", nil))))
	third.follow(second)
	if !keyA.Removed() || !keyB.Removed() {
		t.Error("a key that comes back, or another key with the same kid, revives a removed one")
	}
	if third.keys[0].Removed() || third.keys[1].Removed() {
		t.Error("a key of the set in use is removed")
	}
	pinned["use"], pinned["alg"] = "sig", "ES256"
	fourth := must(ParseSet(setOf(t, pinned)))
	fourth.follow(third)
	if fourth.keys[0] != third.keys[0] {
		t.Error("what changes nothing about a key makes it another one")
	}
}

// FuzzParseSet: a set that is accepted has keys within their bounds alone.
func FuzzParseSet(f *testing.F) {
	f.Add(setOf(f, member(f, rsaPrivate().Public(), "a", map[string]any{"alg": "RS256"}), ec(f, "b"), member(f, edPublic(), "c", nil)))
	f.Add(setOf(f, member(f, p256Private(), "private", nil), member(f, []byte("secret"), "oct", nil)))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-256"},1]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"","key_ops":["verify"]}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		set, err := ParseSet(in)
		if err != nil {
			return
		}
		if set.Len() > MaxKeys || len(set.Skipped()) > MaxKeys {
			t.Errorf("%d keys, %d skipped", set.Len(), len(set.Skipped()))
		}
		for _, key := range set.keys {
			if len(key.algorithms) == 0 || key.Removed() || len(key.id) > maxIDBytes {
				t.Errorf("key %q for %q", key.id, key.algorithms)
			}
			if fmt.Sprint(key.algorithms) == "[HS256]" {
				t.Error("a symmetric key")
			}
			if found, err := set.find(key.id, key.algorithms[0]); err == nil && len(found) > maxCandidates {
				t.Errorf("%d candidates", len(found))
			}
		}
	})
}
