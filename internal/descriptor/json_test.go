package descriptor

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

func order(t testing.TB) Message {
	t.Helper()
	m, err := shopDescriptors(t).Method("/shop.v1.Orders/Get")
	if err != nil {
		t.Fatal(err)
	}
	return m.Request
}

// read is Read for a text from outside.
func read(j JSON, of Message, text string) ([]byte, error) {
	if _, err := j.ReadCost(of, []byte(text)); err != nil {
		return nil, err
	}
	return j.Read(of, []byte(text), new(Unknowns))
}

// write is Write for a message from outside.
func write(j JSON, of Message, wire []byte) ([]byte, error) {
	if _, err := j.WriteCost(of, wire); err != nil {
		return nil, err
	}
	return j.Write(nil, of, wire, new(Unknowns))
}

func TestJSON(t *testing.T) {
	of := order(t)
	for _, c := range []struct {
		name     string
		j        JSON
		in, want string // want: empty is in
	}{
		{"nothing", JSON{}, `{}`, ""},
		{"64 bits are text", JSON{}, `{"orderId":"9223372036854775807"}`, ""},
		{"and may be a number", JSON{}, `{"order_id":7}`, `{"orderId":"7"}`},
		{"names of the definition", JSON{ProtoNames: true}, `{"orderId":"7"}`, `{"order_id":"7"}`},
		{"enums", JSON{}, `{"state":1}`, `{"state":"PAID"}`},
		{"enums as numbers", JSON{EnumNumbers: true}, `{"state":"PAID"}`, `{"state":1}`},
		{"an enum's number that is new", JSON{}, `{"state":9}`, ""},
		{"defaults", JSON{Defaults: true}, `{"parent":{"items":[{"price":1}]}}`, `{"orderId":"0","note":"","items":[],"state":"UNKNOWN","picture":"","weight":0,"counts":{},"at":null,"extra":null,"parent":{"orderId":"0","note":"","items":[{"price":1}],"state":"UNKNOWN","picture":"","weight":0,"counts":{},"at":null,"extra":null,"parent":null,"free":null},"free":null}`},
		{"well-known types", JSON{}, `{"picture":"AQI=","weight":"NaN","counts":{"a":"1"},"at":"2026-01-02T03:04:05Z","free":{"a":[1,null,"x"]}}`, ""},
		{"Any", JSON{}, `{"extra":{"@type":"type.googleapis.com/shop.v1.Item","price":5}}`, ""},
		{"Any of a well-known type", JSON{}, `{"extra":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.5s"}}`, `{"extra":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.500s"}}`},
		{"Any in Any", JSON{}, anyInAny(maxInAny, true), anyInAny(maxInAny, false)},
		{"unknown fields", JSON{}, `{"note":"x","new":{"a":[1]},"state":"NEW"}`, `{"note":"x"}`},
		{"blanks", JSON{}, " {\n\t\"note\" : \"x\" }\r\n", `{"note":"x"}`},
		{"null is absent", JSON{}, `{"note":null,"items":null}`, `{}`},
	} {
		wire, err := c.j.Read(of, []byte(c.in), new(Unknowns))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		text, err := c.j.Write([]byte("before"), of, wire, new(Unknowns))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.want == "" {
			c.want = c.in
		}
		text, begun := bytes.CutPrefix(text, []byte("before"))
		if got := compact(t, text); got != c.want || !begun {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}

// compact removes the blanks, which protojson sets as it likes.
func compact(t *testing.T, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// anyInAny is a message in so many Any. With odd, every second key is written with
// escapes, and behind the value.
func anyInAny(depth int, odd bool) string {
	text := `{"@type":"type.googleapis.com/shop.v1.Item"}`
	for i := 1; i < depth; i++ {
		if !odd || i%2 == 0 {
			text = `{"@type":"type.googleapis.com/google.protobuf.Any","value":` + text + `}`
		} else {
			text = `{"value":` + text + `,"\u0040typ\u0065":"type.googleapis.com/google.protobuf.Any"}`
		}
	}
	return `{"extra":` + text + `}`
}

// TestMistakesInJSON: the error says where, and in which field.
func TestMistakesInJSON(t *testing.T) {
	of := order(t)
	deep := strings.Repeat(`{"parent":`, maxDepth+1) + "{}" + strings.Repeat("}", maxDepth+1)
	for _, c := range []struct{ name, in, want string }{
		{"nothing", ``, "unexpected token"},
		{"no object", `[]`, "line 1, column 1: unexpected token ["},
		{"a text", `"x"`, "line 1, column 1: unexpected token"},
		{"two values", `{"note":"a"} {"note":"b"}`, "line 1, column 14: unexpected token {"},
		{"cut", `{"note":"a"`, "line 1, column 12: the text ends too early"},
		{"an unknown field", `{"note":"a",
  "nota":"b"}`, `line 2, column 3: nota: unknown field "nota"`},
		{"a field twice", `{"note":"a","note":"b"}`, `line 1, column 13: note: duplicate field "note"`},
		{"a field by both names", `{"orderId":1,"order_id":2}`, `line 1, column 14: order_id: duplicate field "order_id"`},
		{"a key of a map twice", `{"counts":{"a":1,"a":2}}`, `counts.a: duplicate map key "a"`},
		{"a wrong type", `{"items":[{"price":1},{"price":"x"}]}`, `line 1, column 32: items[1].price: invalid value for uint32 field price: "x"`},
		{"too large a number", `{"items":[{"price":4294967296}]}`, `items[0].price: invalid value for uint32 field price: 4294967296`},
		{"a huge number", `{"orderId":1e400}`, `orderId: invalid value for int64 field orderId: 1e400`},
		{"a long number", `{"weight":` + strings.Repeat("9", 5000) + `}`, `weight: invalid value for double field weight: `},
		{"a fraction", `{"orderId":1.5}`, `orderId: invalid value`},
		{"NaN without quotes", `{"weight":NaN}`, `line 1, column 11: weight: invalid value NaN`},
		{"Infinity without quotes", `{"weight":Infinity}`, `line 1, column 11: weight: invalid value Infinity`},
		{"bytes that aren't base64", `{"picture":"?"}`, `picture: invalid value for bytes field picture: "?"`},
		{"an unknown name of an enum", `{"state":"NEW"}`, `state: invalid value for enum field state: "NEW"`},
		{"a wrong time", `{"at":"yesterday"}`, `at: invalid google.protobuf.Timestamp value "yesterday"`},
		{"an unknown type in Any", `{"extra":{"@type":"type.googleapis.com/a.B"}}`, `the type a.B of a google.protobuf.Any is unknown`},
		{"invalid UTF-8", "{\"note\":\"\xff\"}", `line 1, column 10: note: isn't valid UTF-8`},
		{"a lonely surrogate", `{"note":"\ud800"}`, "line 1, column 10: note: has half of a surrogate pair"},
		{"cut in a list", `{"items":[{"price":`, "line 1, column 20: items[0].price: the text ends too early"},
		{"Any in Any in Any", anyInAny(maxInAny+1, true), "nested more than 8 deep"},
		{"too deep", deep, "parent.parent"},
		{"too deep lists", `{"free":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "}", "line 1, column 108: free[0][0]"},
		{"a comment", `{/* */}`, `line 1, column 2: invalid value /`},
		{"a comma at the end", `{"note":"a",}`, `line 1, column 13: `},
	} {
		_, err := read(JSON{RejectUnknown: true}, of, c.in)
		var mistake *ReadError
		if err == nil || !errors.As(err, &mistake) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
	}
}

// TestBadMessagesOfBackends is about what a backend sends that isn't the type, or that JSON
// can't have.
func TestBadMessagesOfBackends(t *testing.T) {
	of := order(t)
	inAny := func(kind, wire string) string {
		url := "/" + kind
		any := "\x0a" + string(protowire.AppendString(nil, url)) + "\x12" + string(protowire.AppendString(nil, wire))
		return "\x4a" + string(protowire.AppendString(nil, any))
	}
	for _, c := range []struct {
		name, wire, want string
		cant             bool
	}{
		{"no message", "\xff", "a message isn't a shop.v1.Order: ", false},
		{"cut", "\x12\x05ab", "a message isn't a shop.v1.Order: ", false},
		{"a map's key twice, once not a text", "\x3a\x05\x0a\x01a\x08\x00", "a message isn't a shop.v1.Order: ", false},
		{"the same in an Any", inAny("shop.v1.Order", "\x3a\x05\x0a\x01a\x08\x00"), "a message isn't a shop.v1.Order: ", false},
		{"an unknown type in Any", "\x4a\x05\x0a\x03a/b", "the type b of a google.protobuf.Any is unknown", true},
		{"a time out of range", "\x42\x0a\x08" + strings.Repeat("\xff", 8) + "\x7f", "google.protobuf.Timestamp: seconds out of range 9223372036854775807", true},
		{"not UTF-8", "\x12\x01\xff", "the string shop.v1.Order.note isn't valid UTF-8", true},
		{"a second value", "\x12\x01\xff\x12\x01a", "the string shop.v1.Order.note isn't valid UTF-8", true},
		{"in a message", "\x52\x03\x12\x01\xff", "the string shop.v1.Order.note isn't valid UTF-8", true},
		{"a map's key", "\x3a\x03\x0a\x01\xff", "the string shop.v1.Order.counts (a map's key) isn't valid UTF-8", true},
		{"a key in a Struct", "\x5a\x07\x2a\x05\x0a\x03\x0a\x01\xff", "the string google.protobuf.Struct.fields (a map's key) isn't valid UTF-8", true},
		{"a text in a Value", "\x5a\x03\x1a\x01\xff", "the string google.protobuf.Value.string_value isn't valid UTF-8", true},
		{"in an Any", inAny("shop.v1.Order", "\x12\x01\xff"), "the string shop.v1.Order.note isn't valid UTF-8", true},
		{"the name of a type", "\x4a\x03\x0a\x01\xff", "the string google.protobuf.Any.type_url isn't valid UTF-8", true},
		{"too deep", nested(maxDepth+1, "\x52"), "is nested more than 100 levels deep", true},
		{"Any in Any", anys(maxInAny + 1), "messages in google.protobuf.Any are nested more than 8 deep", true},
		{"a lot of Any in Any", anys(3000), "messages in google.protobuf.Any are nested more than 8 deep", true},
	} {
		got, err := write(JSON{}, of, []byte(c.wire))
		if cant := (*WriteError)(nil); err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &cant) != c.cant {
			t.Errorf("%s: %s, %v, want %q", c.name, got, err, c.want)
		}
	}
}

// nested returns a message of so many levels, by a field with that tag.
func nested(levels int, tag string) string {
	text := ""
	for range levels - 1 {
		text = tag + string(protowire.AppendString(nil, text))
	}
	return text
}

// anys returns an Order with so many Any around an Item.
func anys(levels int) string {
	text := "\x0a\x0d/shop.v1.Item"
	for range levels - 1 {
		text = "\x0a\x14/google.protobuf.Any\x12" + string(protowire.AppendString(nil, text))
	}
	return "\x4a" + string(protowire.AppendString(nil, text))
}

// TestDepth: a message that is deeply nested is taken in a request and in a reply, or in
// none of them.
func TestDepth(t *testing.T) {
	of, costly := order(t), costlyMethod(t, "M").Request
	for _, c := range []struct {
		name               string
		of                 Message
		before, in, middle string // one level, and what is in the last
		after, end         string
		most               int // so many fit
	}{
		{"messages", of, "", `{"parent":`, "{}", "}", "", 99},
		{"messages in lists", costly, "", `{"a":[`, "{}", "]}", "", 99},
		{"messages in maps", costly, "", `{"m":{"1":`, "{}", "}}", "", 99},
		{"lists of a Value", of, `{"free":`, "[", "1", "]", "}", 98},
		{"objects of a Value", of, `{"free":`, `{"a":`, "1", "}", "}", 98},
		{"a Struct in an Any", of, `{"extra":{"@type":"/google.protobuf.Struct","value":{"a":`, `{"a":`, "1", "}", "}}}", 97},
		{"a Value in an Any", of, `{"extra":{"@type":"/google.protobuf.Value","value":`, `[`, "1", "]", "}}", 98},
		{"messages in an Any", costly, `{"x":[{"@type":"/c.N","a":[`, `{"a":[`, "{}", "]}", "]}]}", 96},
		{"unknown lists", of, `{"new":`, "[", "1", "]", "}", 99},
		{"unknown lists in an Any", of, `{"extra":{"@type":"/shop.v1.Order","new":`, "[", "1", "]", "}}", 97},
	} {
		for depth := range 130 {
			text := c.before + strings.Repeat(c.in, depth) + c.middle + strings.Repeat(c.after, depth) + c.end
			wire, err := read(JSON{}, c.of, text)
			if (err == nil) != (depth <= c.most) || err != nil && !strings.Contains(err.Error(), "is nested more than 100 levels deep") {
				t.Errorf("%s, %d deep: read with %v, want %d levels to be the most", c.name, depth, err, c.most)
			}
			if err != nil { // the wire form of the same
				m := dynamicpb.NewMessage(c.of.descriptor)
				if err := (protojson.UnmarshalOptions{Resolver: c.of.set.types, DiscardUnknown: true}).Unmarshal([]byte(text), m); err != nil {
					t.Fatal(err)
				}
				if wire, err = proto.Marshal(m); err != nil {
					t.Fatal(err)
				}
			}
			out, err := write(JSON{}, c.of, wire)
			if strings.HasPrefix(c.name, "unknown") {
				continue
			}
			if (err == nil) != (depth <= c.most) || err != nil && !strings.Contains(err.Error(), "is nested more than 100 levels deep") {
				t.Errorf("%s, %d deep: written as %s with %v, want %d levels to be the most", c.name, depth, out, err, c.most)
			}
		}
	}
}

// FuzzRead: a text is refused with a place inside it, or stays the same message. Also where
// a text is refused, what was read of it takes no more than the estimate.
func FuzzRead(f *testing.F) {
	types := []Message{order(f), costlyMethod(f, "M").Request}
	for _, seed := range []string{
		`{}`, `{"orderId":"1","note":"\u00e9","items":[{"price":1}],"counts":{"a":1},"weight":-0.5}`,
		`{"extra":{"@type":"type.googleapis.com/shop.v1.Item","price":5},"parent":{"at":"2026-01-02T03:04:05Z"}}`,
		`{"free":[1,{"a":null}],"picture":"AQI=","state":"PAID"}`, `{"note":"a"}{`, "{\"note\":\"\xff\"}", `{"items":[{},{"price":"x"}]}`, "[[[",
		`{"a":[{},{"b":true}],"i":[1,-1],"s":["x"],"v":[[],{}],"w":[1],"c":{"1":true},"d":[-1.2e-100],"m":{"1":{},"2":{"m":{"3":{}}}},"t":["1970-01-01T00:00:01Z"],"k":["a,b"],"y":["YQ=="]}`,
		`{"x":[{"@type":"/c.M","x":[{"value":{"a":[{}]},"@type":"/google.protobuf.Struct"}]},{"\u0040type":"/google.protobuf.Empty","value":{}}],"new":[[{}]]}`,
		`{"x":[{"@type":"/c.N"},{"@type":"/google.protobuf.Empty","new":1},{"@type":"/google.protobuf.Empty","value":{}},{"a":1},{}],"a":[null],"\u0061":[]}`,
	} {
		f.Add([]byte(seed))
	}
	for depth := maxDepth - 3; depth < maxDepth+1; depth++ {
		f.Add([]byte(`{"v":[` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `]}`))
		f.Add([]byte(strings.Repeat(`{"m":{"1":`, depth) + "{}" + strings.Repeat("}}", depth)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, of := range types {
			for _, j := range []JSON{{}, {RejectUnknown: true}} {
				readAndBack(t, j, of, text)
			}
		}
	})
}

func readAndBack(t *testing.T, j JSON, of Message, text []byte) {
	t.Helper()
	wrong := func(err error) {
		t.Helper()
		var mistake *ReadError
		if !errors.As(err, &mistake) || mistake.Line > 1+bytes.Count(text, []byte("\n")) || len(mistake.Path) > maxPath+4 {
			t.Errorf("%q: %v", text, err)
		}
	}
	cost, err := j.ReadCost(of, text)
	if err != nil {
		wrong(err)
		return
	}
	if cost > 4000*(len(text)+1) {
		t.Errorf("%q: reading is estimated at %d bytes", text, cost)
	}
	m := dynamicpb.NewMessage(of.descriptor)
	_ = protojson.UnmarshalOptions{DiscardUnknown: !j.RejectUnknown, Resolver: of.set.types, RecursionLimit: maxParsed}.Unmarshal(text, m) // a part is enough
	if took := least(of.set, m); took > cost {
		t.Errorf("%q as a %s with %+v: reading is estimated at %d bytes, and takes %d at least: %v", text, of.Name(), j, cost, took, m)
	}
	wire, err := j.Read(of, text, new(Unknowns))
	if len(wire) > cost {
		t.Errorf("%q: reading is estimated at %d bytes, and the message alone has %d", text, cost, len(wire))
	}
	if err != nil {
		wrong(err)
		return
	}
	again, err := write(JSON{}, of, wire)
	if err != nil {
		t.Fatalf("%q was read, and can't be written: %v", text, err)
	}
	back, err := read(JSON{RejectUnknown: true}, of, string(again))
	if err != nil {
		t.Fatalf("%q became %q: %v", text, again, err)
	}
	a, b := dynamicpb.NewMessage(of.descriptor), dynamicpb.NewMessage(of.descriptor)
	if proto.Unmarshal(wire, a) != nil || proto.Unmarshal(back, b) != nil || !proto.Equal(a, b) {
		t.Errorf("%q became %q, another message", text, again)
	}
}

// least returns how many bytes a message takes at least, with the messages in its Any, which
// were messages before they became bytes.
func least(in *Set, m protoreflect.Message) int {
	took := 120
	values := func(f protoreflect.FieldDescriptor, v protoreflect.Value) {
		took += 24
		switch {
		case f.Message() != nil:
			took += least(in, v.Message())
		case f.Kind() == protoreflect.StringKind:
			took += len(v.String())
		case f.Kind() == protoreflect.BytesKind:
			took += len(v.Bytes())
		}
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList():
			for i := range v.List().Len() {
				values(f, v.List().Get(i))
			}
		case f.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				took += 16 + len(key.String())
				values(f.MapValue(), v)
				return true
			})
		default:
			values(f, v)
		}
		return true
	})
	if fields := m.Descriptor().Fields(); formOf(m.Descriptor()) == formAny {
		if of, err := in.types.FindMessageByURL(m.Get(fields.ByNumber(1)).String()); err == nil {
			inside := of.New()
			if (proto.UnmarshalOptions{Resolver: in.types}).Unmarshal(m.Get(fields.ByNumber(2)).Bytes(), inside.Interface()) == nil {
				took += least(in, inside)
			}
		}
	}
	return took
}

// FuzzWrite: any bytes of a backend are refused, or become JSON that isn't larger than the
// estimate.
func FuzzWrite(f *testing.F) {
	types := []Message{order(f), costlyMethod(f, "M").Request}
	for _, seed := range []struct {
		of   int
		text string
	}{
		{0, `{"orderId":"1","items":[{"price":1}],"extra":{"@type":"type.googleapis.com/shop.v1.Item","price":5}}`},
		{0, `{"extra":{"@type":"type.googleapis.com/google.protobuf.Value","value":[{"a":null},1e300,"\u0007"]},"at":"1970-01-01T00:00:00.000000001Z"}`},
		{1, `{"a":[{},{"b":true}],"i":[1,-1],"s":["x"],"v":[[],{}],"w":[1],"c":{"1":true},"d":[-1.2345678901234567e-100],"m":{"1":{},"2":{"m":{"3":{}}}}}`},
	} {
		wire, err := JSON{}.Read(types[seed.of], []byte(seed.text), new(Unknowns))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Add([]byte("\x12\x01\xff"))
	f.Add([]byte(strings.Repeat("\x4a\x02\x08\x01", 20) + "\x4a\x00")) // entries of a map without values
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, wire []byte) {
		for _, of := range types {
			for _, j := range []JSON{{}, {ProtoNames: true, EnumNumbers: true}, {Defaults: true}} {
				cost, err := j.WriteCost(of, wire)
				if err != nil {
					continue
				}
				if cost < 0 || cost > 4000*(len(wire)+1) {
					t.Errorf("%x as a %s: writing is estimated at %d bytes", wire, of.Name(), cost)
				}
				text, err := j.Write(nil, of, wire, new(Unknowns))
				if err != nil {
					continue
				}
				if _, err := (JSON{}).ReadCost(of, text); err != nil {
					t.Errorf("%x became %s, which can't be read: %v", wire, text, err)
				}
				if !json.Valid(text) {
					t.Errorf("%x became %q", wire, text)
				}
				c := costs{j: j, set: of.set}
				if c.message(of.descriptor, wire, maxDepth); c.text < len(compact(t, text)) || cost < len(text) {
					t.Errorf("%x as a %s with %+v: the text is estimated at %d bytes, all at %d: %s", wire, of.Name(), j, c.text, cost, text)
				}
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	of, text := order(b), []byte(`{"orderId":"1","note":"a note","items":[{"price":1},{"price":2}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (JSON{}).Read(of, text, new(Unknowns)); err != nil {
			b.Fatal(err)
		}
	}
}
