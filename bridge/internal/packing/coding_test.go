package packing

import "testing"

func TestCodings(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  string
		ok    bool
	}{
		{nil, "", true},
		{[]string{""}, "", true},
		{[]string{"identity"}, "", true},
		{[]string{"Identity", "IDENTITY"}, "", true},
		{[]string{"gzip"}, "gzip", true},
		{[]string{"GZIP"}, "gzip", true},
		{[]string{"gZip"}, "gzip", true},
		{[]string{"x-gzip"}, "gzip", true},
		{[]string{"X-GZip"}, "gzip", true},
		{[]string{" identity ,\tgzip,"}, "gzip", true},
		{[]string{"identity", "x-gzip"}, "gzip", true},
		{[]string{"gzip, gzip"}, "", false},
		{[]string{"gzip", "gzip"}, "", false},
		{[]string{"br"}, "", false},
		{[]string{"identity", "br"}, "", false},
		{[]string{"gzip, deflate"}, "", false},
		{[]string{"gzip;q=1"}, "", false}, // a coding has no parameters
		{[]string{"g\u017aip"}, "", false},
		{[]string{"gzip2"}, "", false},
		{[]string{"x-x-gzip"}, "", false},
	} {
		if got, ok := Coding(c.lines); got != c.want || ok != c.ok {
			t.Errorf("Coding(%q) = %q, %v, want %q, %v", c.lines, got, ok, c.want, c.ok)
		}
	}
}

func TestAcceptedCodings(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"gzip"}, true},
		{[]string{"GZip"}, true},
		{[]string{"br, X-GZIP"}, true},
		{[]string{"br", "gzip"}, true},
		{[]string{"deflate;q=0.6,gzip;q=1.0"}, true},
		{[]string{"gzip ; Q=0.001"}, true},
		{[]string{"gzip;level=1"}, true},
		{[]string{"gzip;q=0"}, false},
		{[]string{"GZIP; Q = 0.000, identity"}, false},
		{[]string{"gzip;q=much"}, false},
		{[]string{"gzip;q=NaN"}, false},
		{[]string{"gzip;level=1;q=0"}, false},
		{[]string{"gzipped, identity"}, false},
		{[]string{"*"}, false},
	} {
		if got := Accepted(c.lines); got != c.want {
			t.Errorf("Accepted(%q) = %v, want %v", c.lines, got, c.want)
		}
	}
}

func FuzzAccepted(f *testing.F) {
	f.Add("gzip;q=0.5, br")
	f.Fuzz(func(t *testing.T, line string) {
		Accepted([]string{line})
		if coding, ok := Coding([]string{line}); coding != "" && coding != "gzip" || !ok && coding != "" {
			t.Errorf("%q: %q, %v", line, coding, ok)
		}
	})
}
