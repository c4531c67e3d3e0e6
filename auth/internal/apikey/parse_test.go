package apikey

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// secretOf returns a key of a test that Generate didn't make.
func secretOf(n int) string { return fmt.Sprintf("a-key-of-the-tests-number-%08d", n) }

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hashPrefix + hex.EncodeToString(sum[:])
}

func TestParse(t *testing.T) {
	day := time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)
	for line, want := range map[string]identity.Identity{
		"ci":                    {Subject: "ci"},
		"\tci \t ":              {Subject: "ci"},
		"ci\r":                  {Subject: "ci"},
		"ci # Alice's, à Paris": {Subject: "ci"},
		"ci#2":                  {Subject: "ci#2"},
		"ci #scopes=a":          {Subject: "ci"},
		"ci scopes=orders.read": {Subject: "ci", Scopes: []string{"orders.read"}},
		"ci scopes=a,b=c,d":     {Subject: "ci", Scopes: []string{"a", "b=c", "d"}},
		"ci expires=2027-06-30": {Subject: "ci", Expires: day.AddDate(0, 0, 1)},
		"ci expires=2027-06-30T12:00:00Z scopes=a":        {Subject: "ci", Scopes: []string{"a"}, Expires: day.Add(12 * time.Hour)},
		"ci scopes=a expires=2027-06-30T12:00:00.5+02:00": {Subject: "ci", Scopes: []string{"a"}, Expires: day.Add(10*time.Hour + time.Second/2)},
		"spiffe://example.org/ns/shop":                    {Subject: "spiffe://example.org/ns/shop"},
		strings.Repeat("n", maxNameBytes):                 {Subject: strings.Repeat("n", maxNameBytes)},
	} {
		want.Kind = identity.APIKey
		want.Prepare()
		for _, file := range []string{"%s", "%s\n", "\ufeff%s\n", "# first\n\n  \t\n%s\n   # last"} {
			text := fmt.Sprintf(file, hashOf(secretOf(1))+" "+line)
			keys, err := Parse([]byte(text))
			if err != nil || keys.Len() != 1 {
				t.Errorf("%q: %v, %v", text, keys, err)
				continue
			}
			if got, err := keys.Look(secretOf(1), time.Time{}); err != nil || !reflect.DeepEqual(*got, want) {
				t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
			}
		}
	}
}

func TestParseTakesHashesInEitherCase(t *testing.T) {
	upper := hashPrefix + strings.ToUpper(strings.TrimPrefix(hashOf(secretOf(1)), hashPrefix))
	keys, err := Parse([]byte(upper + " ci"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Look(secretOf(1), time.Time{}); err != nil {
		t.Error(err)
	}
}

func TestParseOfAFileWithoutKeysLetsNobodyIn(t *testing.T) {
	for _, text := range []string{"", "\n", "# nobody\n", "\ufeff"} {
		keys, err := Parse([]byte(text))
		if err != nil || keys.Len() != 0 {
			t.Errorf("%q: got %v, %v, want no keys", text, keys, err)
		}
	}
}

// TestMistakesNameTheLine: each error names the line and what to do, and has no word of the
// line, which may be a key.
func TestMistakesNameTheLine(t *testing.T) {
	const secret = "hunter2hunter2hunter2hunter2hunter2"
	h, other := hashOf(secretOf(1)), hashOf(secretOf(2))
	generated, _, err := Generate("x", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for line, says := range map[string]string{
		secret:                                  "write sha256:HASH NAME",
		"ci " + h:                               "write sha256:HASH NAME",
		h:                                       "has no name",
		h + " # ci":                             "has no name",
		"sha512:" + secret + " ci":              "write sha256:HASH NAME",
		"SHA256:" + secret + " ci":              "write sha256:HASH NAME",
		"$2b$10$" + secret + " ci":              "write sha256:HASH NAME",
		"sha256: " + h[7:] + " ci":              "want 64",
		h + "0 ci":                              "want 64",
		h[:70] + "g ci":                         "other than 0-9 and a-f",
		hashOf("") + " ci":                      "empty text",
		generated + " ci":                       "make a new key",
		h + " " + generated:                     "make a new key",
		h + " ci " + generated:                  "make a new key",
		h + " " + other:                         "has a hash for a name",
		h + " scopes=" + secret:                 "no name",
		h + " ci*":                              "remove the *",
		h + " " + strings.Repeat("n", 257):      "256 are allowed",
		h + " ci " + secret:                     "field 3 is neither",
		h + " ci " + secret + "=":               "field 3 is neither",
		h + " ci scopes=a colour=" + secret:     "field 4 is neither",
		h + " ci scopes=":                       "leave scopes= out",
		h + " ci scopes=a,," + secret:           "leave scopes= out",
		h + " ci scopes=" + secret + ",":        "leave scopes= out",
		h + " ci scopes=a,b,a":                  "remove one of them",
		h + ` ci scopes="` + secret + `"`:       "remove them",
		h + ` ci scopes=a\` + secret:            "remove them",
		h + " ci scopes=a scopes=b":             "put all in one",
		h + " ci expires=2027-06-30 expires=":   "put all in one",
		h + " ci expires=" + secret:             "write expires=2027-06-30",
		h + " ci expires=2027-02-30":            "write expires=2027-06-30",
		h + " ci expires=30.6.2027":             "write expires=2027-06-30",
		h + " ci expires=2027-06-30T12:00":      "write expires=2027-06-30",
		h + " ci expires=9999-12-31":            "leave expires= out",
		h + " ci expires=1970-01-01":            "leave expires= out",
		h + " c\u00efsecretive":                 "field 2 has a character",
		h + " ci\u00a0" + secret:                "field 2 has a character",
		h + " ci\x00":                           "field 2 has a character",
		other + " ci2 #\n" + other + " ci":      "hash of line 4",
		other + " ci #\n" + h + " ci":           "name of line 4",
		"#" + strings.Repeat("n", MaxLineBytes): "shorten",
	} {
		text := "# keys\n\n" + hashOf(secretOf(3)) + " first\n" + line + "\n" + hashOf(secretOf(4)) + " last\n"
		keys, err := Parse([]byte(text))
		wrong := new(Mistake)
		if !errors.As(err, &wrong) || keys != nil {
			t.Errorf("%q: got %v, %v, want a mistake", line, keys, err)
			continue
		}
		if want := 4 + strings.Count(line, "\n"); wrong.Line != want || !strings.HasPrefix(err.Error(), fmt.Sprintf("line %d: ", want)) {
			t.Errorf("%q: got line %d (%v), want %d", line, wrong.Line, err, want)
		}
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %q, want %q in it", line, err, says)
		}
		for _, word := range []string{secret, generated, h[7:], "secretive"} {
			if strings.Contains(err.Error(), word) {
				t.Errorf("%q: the error shows what may be a secret: %v", line, err)
			}
		}
	}
}

func TestFileIsBounded(t *testing.T) {
	var file strings.Builder
	for n := range MaxKeys {
		fmt.Fprintf(&file, "%s k%d\n", hashOf(secretOf(n)), n)
	}
	full := file.String()
	keys, err := Parse([]byte(full))
	if err != nil || keys.Len() != MaxKeys {
		t.Fatalf("%v, %v", keys, err)
	}
	for _, n := range []int{0, MaxKeys - 1} {
		if id, err := keys.Look(secretOf(n), time.Time{}); err != nil || id.Subject != fmt.Sprintf("k%d", n) {
			t.Errorf("key %d: %v, %v", n, id, err)
		}
	}
	if _, err := Parse([]byte(full + "# more\n" + hashOf(secretOf(MaxKeys)) + " one-more")); err == nil || !strings.Contains(err.Error(), "line 10002: ") || !strings.Contains(err.Error(), "remove keys") {
		t.Errorf("got %v, want an error for line 10002", err)
	}
	comments := strings.Repeat("# a comment \n", MaxBytes)
	if _, err := Parse([]byte(comments[:MaxBytes])); err != nil {
		t.Error(err)
	}
	if _, err := Parse([]byte(comments[:MaxBytes+1])); err == nil || !strings.Contains(err.Error(), "over 1048576 bytes") {
		t.Errorf("got %v, want an error for the size", err)
	}
	longest := "#" + strings.Repeat("x", MaxLineBytes-2) + "\n"
	if _, err := Parse([]byte(longest)); err != nil {
		t.Error(err)
	}
}

// FuzzParse: a file that Parse takes has the same keys when they are written again.
func FuzzParse(f *testing.F) {
	h := hashOf(secretOf(1))
	f.Add([]byte("# keys\n" + h + " ci scopes=a,b expires=2027-06-30 # Alice\r\n" + hashOf(secretOf(2)) + "\tspiffe://example.org/x\n"))
	f.Add([]byte("\ufeff" + h + " ci expires=2027-06-30T12:00:00.25+02:00"))
	f.Add([]byte(h + " ci\n" + h + " ci2"))
	f.Add([]byte(h + " scopes=a"))
	f.Add([]byte("sha256:00 ci\x00\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		keys, err := Parse(in)
		if err != nil {
			if keys != nil || err.Error() == "" {
				t.Errorf("%q: %v, %q", in, keys, err)
			}
			return
		}
		var again strings.Builder
		for sum, id := range keys.byHash {
			again.WriteString(lineOf(sum, id) + "\n")
		}
		if got, err := Parse([]byte(again.String())); err != nil || !reflect.DeepEqual(got, keys) {
			t.Errorf("%q, written again as %q: %v", in, again.String(), err)
		}
	})
}
