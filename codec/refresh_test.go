package codec

import (
	"encoding/json"
	"testing"
)

func TestParseRefresh(t *testing.T) {
	for message, want := range map[string]string{
		`{"@authorization":"Bearer a"}`:               "Bearer a",
		" { \"@authorization\" : \"Bearer a\" }\n":    "Bearer a",
		`{"\u0040authorization":"Be\u0061rer"}`:       "Bearer",
		`{"@authorization":"a","x":1}`:                "-",
		`{"x":1,"@authorization":"a"}`:                "-",
		`{"@authorization":"a","@authorization":"b"}`: "-",
		`{"@authorization":1}`:                        "-",
		`{"@authorization":null}`:                     "-",
		`{"@authorization":{"a":"b"}}`:                "-",
		`{"@authorization":["a"]}`:                    "-",
		`{"@Authorization":"a"}`:                      "-",
		`{"@authorization":"a"}{}`:                    "-",
		`{"@authorization":"a"} x`:                    "-",
		`{"@authorization":"a"`:                       "-",
		`{"@authorization"`:                           "-",
		`{}`:                                          "-",
		``:                                            "-",
		`"@authorization"`:                            "-",
		`["@authorization","a"]`:                      "-",
	} {
		got, ok := ParseRefresh("@authorization", []byte(message))
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%s is read as %q, want %q", message, got, want)
		}
	}
}

func FuzzParseRefresh(f *testing.F) {
	f.Add("@authorization", []byte(`{"@authorization":"Bearer a"}`))
	f.Add("a", []byte(`{"a":"b","c":"d"}`))
	f.Fuzz(func(t *testing.T, name string, in []byte) {
		value, ok := ParseRefresh(name, in)
		if !ok {
			return
		}
		var whole map[string]string
		if err := json.Unmarshal(in, &whole); err != nil || len(whole) != 1 || whole[name] != value {
			t.Errorf("%q has %q: %q, but is %v, %v", in, name, value, whole, err)
		}
	})
}
