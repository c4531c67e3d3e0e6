package descriptor

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
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
		wire, err := c.j.Read(of, []byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		text, err := c.j.Write([]byte("before"), of, wire)
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

// TestMistakesInJSON: the error says where, and in which field.
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
		{"an unknown type in Any", `{"extra":{"@type":"type.googleapis.com/a.B"}}`, `unable to resolve "type.googleapis.com/a.B"`},
		{"invalid UTF-8", "{\"note\":\"\xff\"}", `line 1, column 10: note: isn't valid UTF-8`},
		{"a lonely surrogate", `{"note":"\ud800"}`, "line 1, column 10: note: has half of a surrogate pair"},
		{"cut in a list", `{"items":[{"price":`, "line 1, column 20: items[0].price: the text ends too early"},
		{"Any in Any in Any", anyInAny(maxInAny+1, true), "nested more than 8 deep"},
		{"too deep", deep, "exceeded max recursion depth"},
		{"too deep lists", `{"free":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "}", "exceeded max recursion depth"},
		{"a comment", `{/* */}`, `line 1, column 2: invalid value /`},
		{"a comma at the end", `{"note":"a",}`, `line 1, column 13: `},
	} {
		_, err := JSON{RejectUnknown: true}.Read(of, []byte(c.in))
		var mistake *ReadError
		if err == nil || !errors.As(err, &mistake) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
	}
}

// TestBadMessagesOfBackends is about what a backend sends that isn't the type.
func TestBadMessagesOfBackends(t *testing.T) {
	of := order(t)
	for _, c := range []struct{ name, wire, want string }{
		{"no message", "\xff", "a message isn't a shop.v1.Order: "},
		{"cut", "\x12\x05ab", "a message isn't a shop.v1.Order: "},
		{"not UTF-8", "\x12\x01\xff", "UTF-8"},
		{"a map's key twice, once not a text", "\x3a\x05\x0a\x01a\x08\x00", "a message isn't a shop.v1.Order: "},
		{"the same in an Any", "\x4a\x2c\x0a\x21type.googleapis.com/shop.v1.Order\x12\x07\x3a\x05\x0a\x01a\x08\x00", "a message isn't a shop.v1.Order: "},
		{"an unknown type in Any", "\x4a\x05\x0a\x03a/b", "a shop.v1.Order can't be written as JSON: "},
		{"a time out of range", "\x42\x0a\x08" + strings.Repeat("\xff", 8) + "\x7f", "a shop.v1.Order can't be written as JSON: "},
	} {
		if got, err := (JSON{}).Write(nil, of, []byte(c.wire)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s, %v, want %q", c.name, got, err, c.want)
		}
	}
}

// FuzzRead: a text is refused with a place inside it, or stays the same message.
func FuzzRead(f *testing.F) {
	of := order(f)
	for _, seed := range []string{
		`{}`, `{"orderId":"1","note":"\u00e9","items":[{"price":1}],"counts":{"a":1},"weight":-0.5}`,
		`{"extra":{"@type":"type.googleapis.com/shop.v1.Item","price":5},"parent":{"at":"2026-01-02T03:04:05Z"}}`,
		`{"free":[1,{"a":null}],"picture":"AQI=","state":"PAID"}`, `{"note":"a"}{`, "{\"note\":\"\xff\"}", `{"items":[{},{"price":"x"}]}`, "[[[",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cost := JSON{}.ReadCost(of, text)
		if cost > 4000*(len(text)+1) {
			t.Errorf("%q: reading is estimated at %d bytes", text, cost)
		}
		wire, err := JSON{RejectUnknown: true}.Read(of, text)
		if len(wire) > cost {
			t.Errorf("%q: reading is estimated at %d bytes, and the message alone has %d", text, cost, len(wire))
		}
		if err != nil {
			var mistake *ReadError
			if !errors.As(err, &mistake) || mistake.Line > 1+bytes.Count(text, []byte("\n")) || len(mistake.Path) > maxPath+4 {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		again, err := JSON{}.Write(nil, of, wire)
		if err != nil {
			t.Fatalf("%q was read, and can't be written: %v", text, err)
		}
		back, err := JSON{RejectUnknown: true}.Read(of, again)
		if err != nil {
			t.Fatalf("%q became %q: %v", text, again, err)
		}
		a, b := dynamicpb.NewMessage(of.descriptor), dynamicpb.NewMessage(of.descriptor)
		if proto.Unmarshal(wire, a) != nil || proto.Unmarshal(back, b) != nil || !proto.Equal(a, b) {
			t.Errorf("%q became %q, another message", text, again)
		}
	})
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
		wire, err := JSON{}.Read(types[seed.of], []byte(seed.text))
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
				cost := j.WriteCost(of, wire)
				if cost < 0 || cost > 4000*(len(wire)+1) {
					t.Errorf("%x as a %s: writing is estimated at %d bytes", wire, of.Name(), cost)
				}
				text, err := j.Write(nil, of, wire)
				if err != nil {
					continue
				}
				if !json.Valid(text) {
					t.Errorf("%x became %q", wire, text)
				}
				c := costs{j: j, set: of.set}
				if c.message(of.descriptor, wire, maxDepth+1); c.text < len(compact(t, text)) || cost < len(text) {
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
		if _, err := (JSON{}).Read(of, text); err != nil {
			b.Fatal(err)
		}
	}
}
