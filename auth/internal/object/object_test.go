package object

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]Object{
		`{}`:                       {},
		" {\t\"a\" :\r\n1 } ":      {"a": json.Number("1")},
		`{"a":-1.5e+7,"A":"x"}`:    {"a": json.Number("-1.5e+7"), "A": "x"},
		`{"a":[true,false,null]}`:  {"a": []any{true, false, nil}},
		`{"a":[],"b":{"a":[[1]]}}`: {"a": []any{}, "b": Object{"a": []any{[]any{json.Number("1")}}}},
		`{"\u0061\"\\\/\b\f\n\r\t":"\u00e9\u00C9\u20AC\ud83d\uDE00"}`: {"a\"\\/\b\f\n\r\t": "éÉ€😀"},
		`{"a":"x\u0000y"}`: {"a": "x\x00y"},
		`{"":"\ufffd"}`:    {"": "\ufffd"},
		`{"a":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`: {"a": nested(maxDepth)},
	} {
		if got, err := Parse([]byte(in)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s parsed as %#v, %v, want %#v", in, got, err, want)
		}
	}
}

func nested(depth int) any {
	value := []any{}
	for range depth - 1 {
		value = []any{value}
	}
	return value
}

func TestParseRefuses(t *testing.T) {
	for in, want := range map[string]string{
		``:                                   "not JSON",
		` `:                                  "not JSON",
		`{`:                                  "not JSON",
		`{"a":1,}`:                           "not JSON",
		`{"a":01}`:                           "not JSON",
		`{"a":NaN}`:                          "not JSON",
		`{"a":1}{"a":1}`:                     "not JSON",
		"{\"a\":\"\x00\"}":                   "not JSON",
		`{'a':1}`:                            "not JSON",
		`{"a":1}//`:                          "not JSON",
		"\xef\xbb\xbf{}":                     "not JSON",
		`[]`:                                 "not a JSON object",
		`"a"`:                                "not a JSON object",
		`null`:                               "not a JSON object",
		`1`:                                  "not a JSON object",
		"{\"a\":\"\xff\"}":                   "not UTF-8",
		"{\"a\":\"\xc0\x80\"}":               "not UTF-8",
		"{\"a\":\"\xed\xa0\x80\"}":           "not UTF-8",
		`{"a":1,"a":1}`:                      `"a" occurs twice`,
		`{"a":1,"\u0061":2}`:                 `"a" occurs twice`,
		`{"x":[{"a":1,"a":1}]}`:              `"a" occurs twice`,
		`{"a":"\ud800"}`:                     "surrogate",
		`{"a":"\ud800x"}`:                    "surrogate",
		`{"a":"\ud800\u0041"}`:               "surrogate",
		`{"a":"\udc00\ud800"}`:               "surrogate",
		`{"\udfff":1}`:                       "surrogate",
		strings.Repeat(`{"a":`, 20000) + "1": "not JSON",
		strings.Repeat(`{"a":`, maxDepth+1) + "{}" + strings.Repeat("}", maxDepth+1):                  "deep",
		`{"a":` + strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1) + `}`:             "deep",
		`{"` + strings.Repeat("secret", 20) + `":1,"` + strings.Repeat("secret", 20) + `":1}`:         `"…`,
		`{"a":{"` + strings.Repeat("\\u0000", 20) + `":1,"` + strings.Repeat("\\u0000", 20) + `":1}}`: `\x00`,
	} {
		got, err := Parse([]byte(in))
		if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsRune(err.Error(), 0) || len(err.Error()) > 400 {
			t.Errorf("%.60q parsed as %v, %v, want an error with %q", in, got, err, want)
		}
	}
}

func TestText(t *testing.T) {
	o := Object{"a": "x", "n": json.Number("1"), "null": nil}
	if text, present, err := o.Text("a"); text != "x" || !present || err != nil {
		t.Errorf("a is %q, %v, %v", text, present, err)
	}
	if _, present, err := o.Text("b"); present || err != nil {
		t.Errorf("b is %v, %v", present, err)
	}
	for _, name := range []string{"n", "null"} {
		if _, present, err := o.Text(name); !present || err == nil {
			t.Errorf("%s is %v, %v, want an error", name, present, err)
		}
	}
}

// FuzzParse: what Parse accepts, encoding/json reads as the same values.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"alg":"RS256","kid":"1"}`, `{"a":[1,-2.5e3,"x",true,null,{"b":{}}]}`, `{"a":"\u00e9\ud83d\ude00\n"}`,
		`{"a":1,"a":2}`, `{"a":"\ud800"}`, `[[[[[[`, `{"a":[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := Parse(in)
		if err != nil {
			return
		}
		decoder := json.NewDecoder(strings.NewReader(string(in)))
		decoder.UseNumber()
		var want map[string]any
		if err := decoder.Decode(&want); err != nil {
			t.Fatalf("%q: encoding/json refuses it: %v", in, err)
		}
		if got := plain(got); !reflect.DeepEqual(got, any(want)) {
			t.Errorf("%q parsed as %#v, encoding/json reads %#v", in, got, want)
		}
	})
}

// plain returns value with maps in place of Objects.
func plain(value any) any {
	switch value := value.(type) {
	case Object:
		m := map[string]any{}
		for name, member := range value {
			m[name] = plain(member)
		}
		return m
	case []any:
		list := []any{}
		for _, member := range value {
			list = append(list, plain(member))
		}
		return list
	}
	return value
}
