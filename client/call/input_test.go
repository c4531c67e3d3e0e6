package call

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// readAll returns the values of an input, each with its place.
func readAll(from io.Reader) (all []string, err error) {
	v := newValues(io.NopCloser(from), "in")
	defer close(v.stop)
	for one := range v.read {
		all = append(all, fmt.Sprintf("%d:%d %s", one.line, one.column, one.text))
	}
	return all, v.err
}

func TestValues(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
		err  string
	}{
		{"", nil, ""},
		{" \n ", nil, ""},
		{`{}`, []string{"1:1 {}"}, ""},
		{"{}\n {\"a\": 1}[2]", []string{"1:1 {}", `2:2 {"a": 1}`, "2:10 [2]"}, ""},
		{`1 "é" 3`, []string{"1:1 1", `1:3 "é"`, "1:7 3"}, ""},
		{"{}\n{\n  \"a\": }", []string{"1:1 {}"}, "in, line 3, column 8: not JSON: invalid character '}' looking for beginning of value"},
		{`{"é": x}`, nil, "in, line 1, column 7: not JSON: invalid character 'x' looking for beginning of value"},
		{`}`, nil, "in, line 1, column 1: not JSON: "},
		{"{} \n {\"a\":\n", []string{"1:1 {}"}, "in, line 2, column 2: the JSON value that begins here has no end"},
		{`"abc`, nil, "in, line 1, column 1: the JSON value that begins here has no end"},
		{"{}\x00", []string{"1:1 {}"}, "in, line 1, column 3: not JSON: "},
		{"\ufeff{}", []string{"1:1 {}"}, ""},
		{"{}\ufeff", []string{"1:1 {}"}, "in, line 1, column 3: not JSON: "},
	} {
		for name, from := range map[string]io.Reader{"at once": strings.NewReader(c.in), "by bytes": iotest.OneByteReader(strings.NewReader(c.in))} {
			got, err := readAll(from)
			if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
				t.Errorf("%q %s: %q, %v; want %q, %s", c.in, name, got, err, c.want, c.err)
			}
		}
	}
	if _, err := readAll(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a reader that fails: %v", err)
	}
}

// TestValuesComeWhenTheyAreComplete: a person sees the answer before the next value is typed.
func TestValuesComeWhenTheyAreComplete(t *testing.T) {
	from, to := io.Pipe()
	v := newValues(io.NopCloser(from), "in")
	for _, text := range []string{`{"a": 1}`, "[2]", "\"3\"\n", "4 "} {
		if _, err := io.WriteString(to, text); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-v.read:
			if want := strings.TrimSpace(text); string(got.text) != want {
				t.Errorf("%s, want %s", got.text, want)
			}
		case <-time.After(patience):
			t.Fatalf("%q doesn't come", text)
		}
	}
	_ = to.Close() // never fails
	if _, ok := <-v.read; ok || v.err != nil {
		t.Errorf("no end: %v", v.err)
	}
}

func FuzzValues(f *testing.F) {
	f.Add("{}\n {\"a\": 1}[2]")
	f.Add(`{"a": }`)
	f.Add("\"é\" \u2028 nul")
	f.Fuzz(func(t *testing.T, in string) {
		got, err := readAll(strings.NewReader(in))
		slow, slowErr := readAll(iotest.OneByteReader(strings.NewReader(in)))
		if !slices.Equal(got, slow) || fmt.Sprint(err) != fmt.Sprint(slowErr) {
			t.Errorf("%q: %q, %v by bytes; %q, %v at once", in, slow, slowErr, got, err)
		}
		d, n := json.NewDecoder(strings.NewReader(in)), 0
		for ; ; n++ {
			var raw json.RawMessage
			if d.Decode(&raw) != nil {
				break
			}
		}
		if len(got) != n {
			t.Errorf("%q: %d values, want %d", in, len(got), n)
		}
		lines := strings.Count(in, "\n") + 1
		var mistake *inputError
		if errors.As(err, &mistake) && (mistake.line < 1 || mistake.line > lines || mistake.column < 1) {
			t.Errorf("%q: %v", in, mistake)
		}
	})
}
