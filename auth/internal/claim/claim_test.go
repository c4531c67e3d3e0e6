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
	}{
		{"role", nil, true},
		{"role", []string{"admin"}, true},
		{"role", []string{"user", "admin"}, true},
		{"role", []string{"Admin", "admi", ""}, false},
		{"on", []string{"true"}, true},
		{"level", []string{"12"}, true},
		{"level", []string{"12.0"}, false},
		{"groups", []string{"1"}, true},
		{"groups", []string{"a 1"}, false},
		{"o.x", []string{"y"}, true},
		{"o.deep", []string{"z"}, true},
		{"text", nil, true},
		{"role.x", nil, false},
		{"o", nil, false},
		{"none", nil, false},
		{"empty", nil, false},
		{"mixed", []string{"a"}, false},
		{"other", nil, false},
		{"other", []string{""}, false},
	} {
		path, err := ParsePath(c.claim)
		if err != nil {
			t.Fatal(err)
		}
		r := Requirement{Claim: path, Values: c.values}
		if got := r.MetBy(claims); got != c.want {
			t.Errorf("%s of %q: %v, want %v", c.claim, c.values, got, c.want)
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
