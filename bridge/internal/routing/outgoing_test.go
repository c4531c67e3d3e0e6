package routing

import (
	"path"
	"slices"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestOutgoingIsWhatTheBackendReceives: the rewritten prefix sets the service, or the
// whole method.
func TestOutgoingIsWhatTheBackendReceives(t *testing.T) {
	for _, c := range []struct {
		prefix, rewrite string
		methods, want   []string
	}{
		{"", "", nil, []string{"*/*"}},
		{"", "", []string{"/a.B/C", "a.*/Get*"}, []string{"a.B/C", "a.*/Get*"}},
		{"/team", "/", []string{"a.B/*"}, []string{"a.B/*"}},
		{"/a.B", "", nil, []string{"a.B/*"}},
		{"/a.B/C", "", nil, []string{"a.B/C"}},
		{"/a.B", "/x.Y", []string{"*/Get", "a.B/Put"}, []string{"x.Y/Get", "x.Y/Put"}},
		{"/a.B/C", "/x.Y/Z", nil, []string{"x.Y/Z"}},
	} {
		r := Route{Match: report.Match{PathPrefix: c.prefix, Methods: c.methods}, Rewrite: c.rewrite}
		if _, err := New([]Route{r}); err != nil {
			t.Fatal(err)
		}
		if got := r.Outgoing(); !slices.Equal(got, c.want) {
			t.Errorf("%+v sends %q, want %q", c, got, c.want)
		}
	}
}

// TestCoversAndDisjointAreCertain compares what they say with all short methods.
func TestCoversAndDisjointAreCertain(t *testing.T) {
	parts := []string{"a", "b", "ab", "aab", "b*", "*", "a*", "*b", "a*b", "**", "?", "a?", "?*", "[ab]", "[^a]", "a[b*]", `\a`, `\*`, "*[a]", "a?b", "*a*"}
	texts := []string{"*", "?"} // names may have a "*"
	for range 3 {
		for _, text := range slices.Clone(texts) {
			texts = append(texts, text+"a", text+"b", "a"+text)
		}
	}
	texts = append(texts, "", "a", "b", "aa", "ab", "ba", "bb", "aab", "abb", "aba", "bab")
	covered, apart := 0, 0
	for _, p := range parts {
		for _, q := range parts {
			subset, meet := true, false
			for _, text := range texts {
				inP, _ := path.Match(p, text)
				inQ, _ := path.Match(q, text)
				subset, meet = subset && (inP || !inQ), meet || inP && inQ
			}
			for _, pair := range [][2]string{{p + "/M", q + "/M"}, {"/S/" + p, "S/" + q}, {p + "/" + p, q + "/" + q}} {
				if covers(pair[0], pair[1]) {
					if covered++; !subset {
						t.Errorf("%q is said to cover %q", pair[0], pair[1])
					}
				}
				if disjoint(pair[0], pair[1]) {
					if apart++; meet {
						t.Errorf("%q is said to share no method with %q", pair[0], pair[1])
					}
				}
			}
		}
	}
	if covered < 100 || apart < 100 {
		t.Errorf("%d pairs cover and %d are disjoint: too few to compare", covered, apart)
	}
	if !disjoint("a.B/*", "a.C/*") || disjoint("a.*/Get", "*.B/*") || covers("a.B/*", "*/*") || !covers("a.*/*", "a.B/Get*") {
		t.Error("patterns of both parts are misjudged")
	}
}
