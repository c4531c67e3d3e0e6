package codec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"iter"
	"os"
	"path/filepath"
	"testing"
)

// hexBytes is bytes written as hexadecimal digits in a vector.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// A field is one name and value, in the order of the wire.
type field [2]string

// readVectors reads the vectors of one subject. They are JSON, so that
// implementations in other languages can be held to the same ones.
func readVectors[T any](t testing.TB, name string) (v T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// fieldSeq yields fields in order.
func fieldSeq(fields []field) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, f := range fields {
			if !yield(f[0], f[1]) {
				return
			}
		}
	}
}

// collect is what seq yields.
func collect(seq iter.Seq2[string, string]) []field {
	fields := []field{}
	for name, value := range seq {
		fields = append(fields, field{name, value})
	}
	return fields
}
