package descriptor

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/descriptorpb"
)

const (
	stock = `
name: "stock.proto" package: "stock" syntax: "proto2" dependency: "google/protobuf/any.proto"
message_type: {name: "Item" extension_range: {start: 100 end: 200}
  field: {name: "any" json_name: "any" number: 1 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL}}
service: {name: "Stock" method: {name: "Get" input_type: ".stock.Item" output_type: ".stock.Item"}}
`
	stockMore = `
name: "more.proto" package: "more" syntax: "proto2" dependency: ["stock.proto", "google/protobuf/any.proto"]
message_type: {name: "Note" field: {name: "text" json_name: "text" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL}
  field: {name: "any" json_name: "any" number: 2 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL}}
extension: {name: "price" json_name: "price" number: 100 type: TYPE_INT32 label: LABEL_OPTIONAL extendee: ".stock.Item"}
extension: {name: "note" json_name: "note" number: 101 type: TYPE_MESSAGE type_name: ".more.Note" label: LABEL_OPTIONAL extendee: ".stock.Item"}
`
)

// TestUnknownsAreFetched: a conversion says what it doesn't find, and finds it among the named types.
func TestUnknownsAreFetched(t *testing.T) {
	from := &shelf{files: []*descriptorpb.FileDescriptorProto{aFile(t, stock), aFile(t, stockMore)}}
	for _, c := range []struct {
		name string
		text string
		read Unknown // that reading the text finds unknown
		wire Unknown // that writing it finds unknown
	}{
		{"a type", `{"any":{"@type":"a/more.Note","text":"x"}}`, Unknown{Name: "more.Note"}, Unknown{Name: "more.Note"}},
		{"an extension", `{"[more.price]":5}`, Unknown{Name: "more.price"}, Unknown{Extends: "stock.Item", Number: 100}},
		{"an extension with a type", `{"[more.note]":{"any":{"@type":"a/more.Note"}}}`, Unknown{Name: "more.note"}, Unknown{Extends: "stock.Item", Number: 101}},
		{"an extension in an Any", `{"any":{"@type":"a/stock.Item","[more.price]":5}}`, Unknown{Name: "more.price"}, Unknown{Extends: "stock.Item", Number: 100}},
	} {
		fetched := func(u Unknown) *Named {
			s, err := FetchUnknown(t.Context(), from, nil, u)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			named := new(Named)
			named.Put([]*Set{s}, time.Time{})
			return named
		}
		item := func(n *Named) Message {
			s, err := Fetch(t.Context(), from, nil, "stock.Stock")
			if err != nil {
				t.Fatal(err)
			}
			s.With(n)
			m, err := s.Method("/stock.Stock/Get")
			if err != nil {
				t.Fatal(err)
			}
			return m.Request.Now()
		}
		var u Unknowns
		if _, err := (JSON{}).ReadCost(item(fetched(c.read)), []byte(c.text)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if wire, _ := (JSON{}).Read(item(nil), []byte(c.text), &u); !slices.Equal(u.Found, []Unknown{c.read}) {
			t.Errorf("%s: read as %x without %v", c.name, wire, u.Found)
		}
		wire, err := JSON{}.Read(item(fetched(c.read)), []byte(c.text), &u)
		if err != nil || len(u.Found) > 0 {
			t.Errorf("%s: %v without %v", c.name, err, u.Found)
		}
		if text, _ := (JSON{}).Write(nil, item(nil), wire, &u); !slices.Equal(u.Found, []Unknown{c.wire}) {
			t.Errorf("%s: written as %s without %v", c.name, text, u.Found)
		}
		if text, err := (JSON{}).Write(nil, item(fetched(c.wire)), wire, &u); err != nil || len(u.Found) > 0 || compact(t, text) != c.text {
			t.Errorf("%s: written as %s, %v without %v", c.name, text, err, u.Found)
		}
	}
	for _, u := range []Unknown{{Name: "none"}, {Name: "stock.Stock"}, {Extends: "stock.Item", Number: 150}} {
		if _, err := FetchUnknown(t.Context(), from, nil, u); err == nil {
			t.Errorf("%s is there", u)
		}
	}
}

// TestUnknownNamesAreFew: a message can't name many, nor what is no name.
func TestUnknownNamesAreFew(t *testing.T) {
	s, err := Parse(shopSet(t, []*descriptorpb.FileDescriptorProto{aFile(t, stock)}))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Method("/stock.Stock/Get")
	if err != nil {
		t.Fatal(err)
	}
	text := `{"[a b]":1,"[` + strings.Repeat("a", 2000) + `]":1`
	for i := range 100 {
		text += `,"[a.b` + strings.Repeat("c", i) + `]":1`
	}
	var u Unknowns
	if _, err := (JSON{}).Read(m.Request, []byte(text+"}"), &u); err != nil || len(u.Found) != maxUnknowns || u.Type != "" {
		t.Errorf("%v, %d unknown names, %q", err, len(u.Found), u.Type)
	}
	for _, name := range []string{"a.B", "a b", "", "..", strings.Repeat("a", 2000), "google.protobuf.None"} {
		var mistake *ReadError
		_, err := JSON{}.Read(m.Request, []byte(`{"any":{"@type":"x/`+name+`"}}`), &u)
		if !errors.As(err, &mistake) || len(u.Found) > 1 || u.Type != name || len(mistake.Text) > 500 || name != "" && !strings.Contains(mistake.Text, "is unknown") {
			t.Errorf("%.20q: %v, %v, %.20q", name, err, u.Found, u.Type)
		}
	}
}
