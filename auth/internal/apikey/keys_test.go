package apikey

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

var noon = time.Date(2027, 6, 30, 12, 0, 0, 0, time.UTC)

func parse(t testing.TB, file string) *Keys {
	t.Helper()
	keys, err := Parse([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// refusalOf asserts that an error is a refusal.
func refusalOf(t testing.TB, err error) *identity.Refusal {
	t.Helper()
	refusal := new(identity.Refusal)
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v, want a refusal", err)
	}
	return refusal
}

func TestLook(t *testing.T) {
	whole, line, err := Generate("ci", []string{"read"}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := Generate("other", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("k", maxKeyBytes)
	keys := parse(t, strings.Join([]string{
		line, hashOf(secretOf(1)) + " mine", hashOf("correct horse battery staple") + " weak", hashOf(long) + " long", hashOf(long+"k") + " longer",
	}, "\n"))
	unknown := unknownKey.Text
	for _, c := range []struct{ name, key, subject, text, cause string }{
		{"a generated key", whole, "ci", "", ""},
		{"a key of the operator's own", secretOf(1), "mine", "", ""},
		{"the longest key", long, "long", "", ""},
		{"an unknown key", secretOf(2), "", unknown, "no line has its hash"},
		{"an unknown generated key", other, "", unknown, "no line has the key " + other[:16] + "_…"},
		{"no key", "", "", unknown, "under 32 characters"},
		{"a short key, though the file has its hash", "correct horse battery staple", "", unknown, "under 32 characters"},
		{"a long key, though the file has its hash", long + "k", "", unknown, "over 512 characters"},
		{"the hash for the key", hashOf(secretOf(1)), "", unknown, "no line has its hash"},
		{"the line for the key", line, "", unknown, "no line has its hash"},
		{"a key without its end", whole[:len(whole)-1], "", damagedKey.Text, "its length"},
		{"a key with a blank", whole + " ", "", damagedKey.Text, "its length"},
		{"a key with a slip", whole[:20] + string(whole[20]^1) + whole[21:], "", damagedKey.Text, "its length"},
		{"a key in another case", strings.ToUpper(whole), "", unknown, "no line has its hash"},
	} {
		id, err := keys.Look(c.key, noon)
		if c.subject != "" {
			if err != nil || id.Subject != c.subject || id.Kind != identity.APIKey {
				t.Errorf("%s: got %+v, %v, want %s", c.name, id, err, c.subject)
			}
			continue
		}
		refusal := refusalOf(t, err)
		cause := refusal.Cause.Error()
		if id != nil || refusal.Reason != identity.BadCredential || refusal.Text != c.text || !strings.Contains(cause, c.cause) {
			t.Errorf("%s: got %v, %v %q (%s), want %q (%s)", c.name, id, refusal.Reason, refusal.Text, cause, c.text, c.cause)
		}
		if len(c.key) > 8 && strings.Contains(err.Error(), c.key) {
			t.Errorf("%s: the error shows the key: %v", c.name, err)
		}
	}
}

func TestKeysExpire(t *testing.T) {
	keys := parse(t, hashOf(secretOf(1))+" day expires=2027-06-30\n"+hashOf(secretOf(2))+" hour expires=2027-06-30T12:00:00Z\n"+hashOf(secretOf(3))+" never")
	midnight := time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)
	east := time.FixedZone("east", 12*60*60)
	for _, c := range []struct {
		key     int
		now     time.Time
		expired bool
	}{
		{1, noon, false},
		{1, midnight.Add(-1), false},
		{1, midnight.Add(-1).In(east), false}, // there it is the next day
		{1, midnight, true},
		{2, noon.Add(-1), false},
		{2, noon, true},
		{2, noon.In(east), true},
		{3, midnight.AddDate(5000, 0, 0), false},
	} {
		id, err := keys.Look(secretOf(c.key), c.now)
		if !c.expired {
			if err != nil || id.Expires.IsZero() != (c.key == 3) {
				t.Errorf("key %d at %v: %+v, %v", c.key, c.now, id, err)
			}
			continue
		}
		refusal := refusalOf(t, err)
		if id != nil || refusal.Reason != identity.BadCredential || !strings.Contains(refusal.Text, "has expired") {
			t.Errorf("key %d at %v: %+v, %v, want expired", c.key, c.now, id, err)
		}
		for _, inside := range []string{"day", "hour", "2027"} {
			if strings.Contains(refusal.Text, inside) {
				t.Errorf("the client's text has %q: %s", inside, refusal.Text)
			}
		}
		if !strings.Contains(refusal.Cause.Error(), "expired at 2027-0") {
			t.Errorf("the cause lacks the time: %v", refusal.Cause)
		}
	}
}

// TestStoreReplacesAllKeysAtOnce: each call sees one file, never a mixture.
func TestStoreReplacesAllKeysAtOnce(t *testing.T) {
	var store Store
	_, err := store.Look(secretOf(1), noon)
	if refusal := refusalOf(t, err); refusal.Reason != identity.Unjudged {
		t.Errorf("without a file: %v, want %v", refusal.Reason, identity.Unjudged)
	}
	before, after := parse(t, hashOf(secretOf(1))+" before"), parse(t, hashOf(secretOf(1))+" after")
	store.Replace(before)
	var looking sync.WaitGroup
	for range 4 {
		looking.Go(func() {
			for range 1000 {
				if id, err := store.Look(secretOf(1), noon); err != nil || id.Subject != "before" && id.Subject != "after" {
					t.Errorf("%+v, %v", id, err)
					return
				}
			}
		})
	}
	store.Replace(after)
	looking.Wait()
	held, err := store.Look(secretOf(1), noon)
	if err != nil || held.Subject != "after" {
		t.Errorf("%+v, %v", held, err)
	}
	store.Replace(parse(t, ""))
	if id, err := store.Look(secretOf(1), noon); err == nil {
		t.Errorf("%+v was let in by a key that was revoked", id)
	}
	if held.Subject != "after" {
		t.Error("a reload changed the identity of a running call")
	}
}

func TestKeysShowNoHash(t *testing.T) {
	keys := parse(t, hashOf(secretOf(1))+" ci")
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("read", slog.Any("keys", keys))
	for _, text := range []string{fmt.Sprint(keys), fmt.Sprintf("%#v", keys), fmt.Sprintf("%+v", keys), fmt.Sprintf("%x", keys), fmt.Sprintf("%s", keys), log.String()} {
		if !strings.Contains(text, "1 API keys") || strings.Contains(text, "ci") {
			t.Errorf("got %q, want the number only", text)
		}
	}
}

func TestLookAllocatesNothing(t *testing.T) {
	keys := parse(t, hashOf(secretOf(1))+" ci expires=2027-06-30")
	known, unknown := secretOf(1), secretOf(2)
	for name, look := range map[string]func() error{
		"known":   func() error { _, err := keys.Look(known, noon); return err },
		"unknown": func() error { _, err := keys.Look(unknown, noon); return refused(err) },
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := look(); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

// refused turns the refusal that is expected into nil.
func refused(err error) error {
	if err == nil {
		return errors.New("an unknown key was let in")
	}
	return nil
}

// FuzzLook: no text but the key itself is let in, and no error has it.
func FuzzLook(f *testing.F) {
	key, line, err := Generate("ci", nil, time.Time{})
	if err != nil {
		f.Fatal(err)
	}
	keys := parse(f, line+"\n"+hashOf(secretOf(1))+" mine")
	for _, seed := range []string{"", key, key + "\n", key[:50], "culvert_", secretOf(1), secretOf(2), line, strings.Repeat("culvert_", 100), "culvert_ab\ncdefg_" + key[17:]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, presented string) {
		id, err := keys.Look(presented, noon)
		if known := presented == key || presented == secretOf(1); known != (err == nil) || known != (id != nil) {
			t.Errorf("%q: %v, %v", presented, id, err)
		}
		if err == nil {
			return
		}
		if refusal := refusalOf(t, err); refusal.Reason != identity.BadCredential || refusal.Text == "" {
			t.Errorf("%q: %+v", presented, refusal)
		}
		if len(presented) >= minKeyBytes && strings.Contains(err.Error(), presented) || strings.ContainsAny(err.Error(), "\r\n\x00") {
			t.Errorf("%q: the error has what the client sent: %q", presented, err)
		}
	})
}

func BenchmarkLook(b *testing.B) {
	var file strings.Builder
	for n := range MaxKeys {
		fmt.Fprintf(&file, "%s k%d\n", hashOf(secretOf(n)), n)
	}
	keys, key := parse(b, file.String()), secretOf(4711)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := keys.Look(key, noon); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	var file bytes.Buffer
	for n := range MaxKeys {
		fmt.Fprintf(&file, "%s k%d\n", hashOf(secretOf(n)), n)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(file.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}
