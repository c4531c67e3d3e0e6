package claim

import (
	"slices"
	"testing"
)

func TestPaths(t *testing.T) {
	for in, want := range map[string]Path{
		"sub": {"sub"}, "a.b.c": {"a", "b", "c"}, `a\.b`: {"a.b"}, `a\\.b`: {`a\`, "b"}, `https://example\.com/a b`: {"https://example.com/a b"},
		"": nil, ".": nil, "a.": nil, ".a": nil, `a\b`: nil, `a\`: nil, "a.b.c.d.e.f.g.h.i": nil,
	} {
		got, err := ParsePath(in)
		if want == nil {
			if err == nil {
				t.Errorf("%q is %q, want an error", in, got)
			}
		} else if err != nil || !slices.Equal(got, want) || got.String() != in {
			t.Errorf("%q is %q, %v, again %q", in, got, err, got.String())
		}
	}
}
