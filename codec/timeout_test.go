package codec

import (
	"math"
	"strings"
	"testing"
	"time"
)

type timeoutVectors struct {
	Encode, Decode []struct {
		NS   int64 `json:",string"`
		Text string
	}
	Refuse []string
}

func TestEncodeTimeout(t *testing.T) {
	for _, v := range readVectors[timeoutVectors](t, "timeout.json").Encode {
		if got := FormatTimeout(time.Duration(v.NS)); got != v.Text {
			t.Errorf("FormatTimeout(%d) = %q, want %q", v.NS, got, v.Text)
		}
	}
}

func TestParseTimeout(t *testing.T) {
	for _, v := range readVectors[timeoutVectors](t, "timeout.json").Decode {
		if got, err := ParseTimeout(v.Text); got != time.Duration(v.NS) || err != nil {
			t.Errorf("ParseTimeout(%q) = %d, %v, want %d", v.Text, got, err, v.NS)
		}
	}
}

func TestParseTimeoutRefuses(t *testing.T) {
	for _, in := range readVectors[timeoutVectors](t, "timeout.json").Refuse {
		got, err := ParseTimeout(in)
		if err == nil {
			t.Errorf("ParseTimeout(%q) = %v, want an error", in, got)
			continue
		}
		if !strings.HasPrefix(err.Error(), "grpc-timeout: ") || len(in) > 3 && strings.Contains(err.Error(), in) {
			t.Errorf("ParseTimeout(%q): %v, want the key named and the value not", in, err)
		}
	}
}

// checkTimeout holds FormatTimeout to what a reader relies on: the text parses,
// to no less than d, and to less than d plus one of its unit.
func checkTimeout(t *testing.T, d time.Duration) {
	t.Helper()
	text := FormatTimeout(d)
	got, err := ParseTimeout(text)
	if err != nil {
		t.Fatalf("FormatTimeout(%d) = %q: %v", d, text, err)
	}
	if d <= 0 {
		if got != 0 {
			t.Errorf("FormatTimeout(%d) = %q, want 0", d, text)
		}
		return
	}
	unit := timeoutUnit(text[len(text)-1])
	if got < d || got != math.MaxInt64 && got-d >= unit {
		t.Errorf("FormatTimeout(%d) = %q, which is %d", d, text, got)
	}
	if finer := unit / 1000; unit <= time.Second && finer > 0 && divideUp(d, finer) <= maxTimeoutValue {
		t.Errorf("FormatTimeout(%d) = %q, though a finer unit fits", d, text)
	}
}

func TestTimeoutNeverShrinks(t *testing.T) {
	for unit := range strings.SplitSeq("n u m S M H", " ") {
		edge := maxTimeoutValue * float64(timeoutUnit(unit[0]))
		if edge > math.MaxInt64/2 {
			edge = math.MaxInt64 / 2
		}
		for _, d := range []time.Duration{time.Duration(edge), timeoutUnit(unit[0])} {
			checkTimeout(t, d-1)
			checkTimeout(t, d)
			checkTimeout(t, d+1)
		}
	}
	checkTimeout(t, math.MaxInt64)
	checkTimeout(t, math.MinInt64)
}

func FuzzParseTimeout(f *testing.F) {
	v := readVectors[timeoutVectors](f, "timeout.json")
	for _, d := range v.Decode {
		f.Add(d.Text)
	}
	for _, s := range v.Refuse {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		d, err := ParseTimeout(in)
		if err != nil {
			if d != 0 {
				t.Errorf("ParseTimeout(%q) = %d beside %v", in, d, err)
			}
			return
		}
		if d < 0 || len(in) < 2 || len(in) > 9 || strings.Trim(in[:len(in)-1], "0123456789") != "" {
			t.Errorf("ParseTimeout(%q) = %d, want an error", in, d)
		}
		checkTimeout(t, d)
	})
}

func FuzzEncodeTimeout(f *testing.F) {
	for _, v := range readVectors[timeoutVectors](f, "timeout.json").Encode {
		f.Add(v.NS)
	}
	f.Fuzz(func(t *testing.T, ns int64) { checkTimeout(t, time.Duration(ns)) })
}

func BenchmarkParseTimeout(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseTimeout("5000000u"); err != nil {
			b.Fatal(err)
		}
	}
}
