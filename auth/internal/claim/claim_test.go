package claim

import (
	"slices"
	"testing"

	"github.com/culvert-grpc/culvert/auth/internal/object"
)

func TestMetBy(t *testing.T) {
	claims, err := object.Parse([]byte(`{"role": "admin", "on": true, "level": 12, "groups": ["a", 1], "o": {"x": "y", "deep": ["z"]}, "none": null, "empty": [], "mixed": ["a", {}], "text": ""}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		claim  string
		values []string
		want   bool
		wary   bool // the answer of a wary one
	}{
		{"role", nil, true, true},
		{"role", []string{"admin"}, true, true},
		{"role", []string{"user", "admin"}, true, true},
		{"role", []string{"Admin", "admi", ""}, false, false},
		{"on", []string{"true"}, true, true},
		{"level", []string{"12"}, true, true},
		{"level", []string{"12.0"}, false, false},
		{"groups", []string{"1"}, true, true},
		{"groups", []string{"a 1"}, false, false},
		{"o.x", []string{"y"}, true, true},
		{"o.deep", []string{"z"}, true, true},
		{"text", nil, true, true},
		{"role.x", nil, false, false},
		{"o", nil, false, true},
		{"none", nil, false, false},
		{"empty", nil, false, false},
		{"mixed", []string{"a"}, false, true},
		{"mixed", []string{"b"}, false, false},
		{"mixed", nil, false, true},
		{"other", nil, false, false},
		{"other", []string{""}, false, false},
	} {
		path, err := ParsePath(c.claim)
		if err != nil {
			t.Fatal(err)
		}
		r := Requirement{Claim: path, Values: c.values}
		if got := r.MetBy(claims); got != c.want {
			t.Errorf("%s of %q: %v, want %v", c.claim, c.values, got, c.want)
		}
		r.Wary = true
		if got := r.MetBy(claims); got != c.wary {
			t.Errorf("%s of %q, wary: %v, want %v", c.claim, c.values, got, c.wary)
		}
	}
}

// TestAnswers: each answer is that of its own requirement, and joining changes no other one.
func TestAnswers(t *testing.T) {
	list := make([]Requirement, MaxAnswers)
	answer := func(met ...int) *Answers {
		asked := -1
		return Answer(list, func(*Requirement) bool {
			asked++
			return slices.Contains(met, asked)
		})
	}
	check := func(name string, got *Answers, want ...int) {
		t.Helper()
		for i := range list {
			if got.Met(i) != slices.Contains(want, i) {
				t.Errorf("%s: the answer %d is %v", name, i, got.Met(i))
			}
		}
	}
	none, one, two := answer(), answer(0, 63, 64, MaxAnswers-1), answer(1, 64)
	if none != nil {
		t.Error("no answer takes memory")
	}
	check("none", none)
	check("one", one, 0, 63, 64, MaxAnswers-1)
	check("both", one.Or(two), 0, 1, 63, 64, MaxAnswers-1)
	check("one and none", one.Or(nil), 0, 63, 64, MaxAnswers-1)
	check("none and two", none.Or(two), 1, 64)
	check("one afterwards", one, 0, 63, 64, MaxAnswers-1)
	check("two afterwards", two, 1, 64)
}
