package check

import (
	"reflect"
	"testing"

	"google.golang.org/grpc/metadata"
)

func TestEditsApply(t *testing.T) {
	for name, c := range map[string]struct {
		in    metadata.MD
		edits Edits
		want  metadata.MD
	}{
		"set replaces all values":           {metadata.MD{"a": {"1", "2"}}, Edits{{"a", "3", Set}}, metadata.MD{"a": {"3"}}},
		"set adds":                          {metadata.MD{}, Edits{{"a", "3", Set}}, metadata.MD{"a": {"3"}}},
		"set to nothing":                    {metadata.MD{"a": {"1"}}, Edits{{"a", "", Set}}, metadata.MD{"a": {""}}},
		"append":                            {metadata.MD{"a": {"1"}}, Edits{{"a", "2", Append}}, metadata.MD{"a": {"1", "2"}}},
		"append adds":                       {metadata.MD{}, Edits{{"a", "2", Append}}, metadata.MD{"a": {"2"}}},
		"set, then append":                  {metadata.MD{"a": {"forged"}}, Edits{{"a", "1", Set}, {"a", "2", Append}}, metadata.MD{"a": {"1", "2"}}},
		"add if absent, there":              {metadata.MD{"a": {"1"}}, Edits{{"a", "2", AddIfAbsent}}, metadata.MD{"a": {"1"}}},
		"add if absent":                     {metadata.MD{}, Edits{{"a", "2", AddIfAbsent}}, metadata.MD{"a": {"2"}}},
		"set if it exists":                  {metadata.MD{"a": {"1", "2"}}, Edits{{"a", "3", SetIfExists}}, metadata.MD{"a": {"3"}}},
		"set if it exists, absent":          {metadata.MD{}, Edits{{"a", "3", SetIfExists}}, metadata.MD{}},
		"remove":                            {metadata.MD{"a": {"1"}, "b": {"2"}}, Edits{{"a", "", Remove}, {"c", "", Remove}}, metadata.MD{"b": {"2"}}},
		"in their order":                    {metadata.MD{}, Edits{{"a", "1", Set}, {"a", "", Remove}, {"a", "2", AddIfAbsent}}, metadata.MD{"a": {"2"}}},
		"set, and removed, as Envoy has it": {metadata.MD{"a": {"1"}}, Edits{{"a", "2", Set}, {"a", "", Remove}}, metadata.MD{}},
	} {
		if c.edits.Apply(c.in); !reflect.DeepEqual(c.in, c.want) {
			t.Errorf("%s: got %v, want %v", name, c.in, c.want)
		}
	}
}

// TestEditsLeaveSharedValuesAlone: one answer changes many calls, and a call's values may be
// parts of a larger slice.
func TestEditsLeaveSharedValuesAlone(t *testing.T) {
	row := []string{"1", "2"}
	md := metadata.MD{"a": row[:1]}
	edits := Edits{{"a", "3", Append}, {"b", "4", Set}}
	edits.Apply(md)
	if row[1] != "2" {
		t.Errorf("an appended value was written over a neighbour: %q", row)
	}
	md["b"][0] = "changed"
	again := metadata.MD{}
	if edits.Apply(again); again["b"][0] != "4" {
		t.Errorf("a change of one call's metadata changed another's: %q", again)
	}
}
