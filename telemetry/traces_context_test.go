package telemetry

import (
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"
)

const aParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestParseParent(t *testing.T) {
	for text, want := range map[string]string{ // written again; "": it is invalid
		aParent: aParent,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00":     "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03":     aParent, // the other flags aren't ours to set
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-new": aParent,
		aParent + "-new": "",
		aParent + "0":    "",
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01new": "",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":    "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":    "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01":    "",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01":    "",
		"00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01":    "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x":    "",
		"": "",
	} {
		c, ok := parseParent(text)
		got := ""
		if ok {
			got = c.String()
		}
		if got != want {
			t.Errorf("%q was read as %q, want %q", text, got, want)
		}
	}
}

func FuzzParseParent(f *testing.F) {
	f.Add(aParent)
	f.Add("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-new")
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := parseParent(text)
		if !ok {
			if c != (spanContext{}) {
				t.Errorf("%q is invalid, and gives %+v", text, c)
			}
			return
		}
		if got := c.String(); got[3:53] != text[3:53] {
			t.Errorf("%q was written again as %q", text, got)
		}
	})
}

func TestStateIn(t *testing.T) {
	long := "a=" + strings.Repeat("x", maxStateBytes-2)
	for _, c := range []struct {
		values []string
		want   string
	}{
		{nil, ""},
		{[]string{"a=1,b=2"}, "a=1,b=2"},
		{[]string{"a=1", "b=2"}, "a=1,b=2"},
		{[]string{long}, long},
		{[]string{long + "x"}, ""},
		{[]string{strings.Repeat("a=1,", maxStateMembers-1) + "b=2"}, strings.Repeat("a=1,", maxStateMembers-1) + "b=2"},
		{[]string{strings.Repeat("a=1,", maxStateMembers) + "b=2"}, ""},
	} {
		if got := stateIn(metadata.MD{tracestate: c.values}); got != c.want {
			t.Errorf("%.80q is %.80q, want %.80q", c.values, got, c.want)
		}
	}
}

func TestKeepBaggage(t *testing.T) {
	long := strings.Repeat("x", maxBaggageBytes)
	for _, c := range []struct {
		values, names []string
		want          string
	}{
		{[]string{"user=1, tenant=2;p=3"}, nil, ""},
		{[]string{"user=1, tenant=2;p=3"}, []string{"tenant"}, "tenant=2;p=3"},
		{[]string{"user=1", " tenant =2 "}, []string{"tenant", "user"}, "user=1,tenant =2"},
		{[]string{"Tenant=1"}, []string{"tenant"}, ""},
		{[]string{"tenant"}, []string{"tenant"}, ""},
		{[]string{"tenant=" + long, "user=1"}, []string{"tenant", "user"}, "user=1"},
	} {
		md := metadata.MD{baggage: c.values}
		keepBaggage(md, c.names)
		if got := strings.Join(md[baggage], "|"); got != c.want {
			t.Errorf("of %.80q crosses %.80q, want %.80q", c.values, got, c.want)
		}
		if _, has := md[baggage]; has != (c.want != "") {
			t.Errorf("of %.80q an empty value crosses", c.values)
		}
	}
}

func FuzzListedMembers(f *testing.F) {
	f.Add("user=1, tenant=2;p=3", "tenant")
	f.Fuzz(func(t *testing.T, value, name string) {
		kept := listedMembers([]string{value}, []string{name})
		if len(kept) > maxBaggageBytes {
			t.Errorf("%d bytes cross", len(kept))
		}
		if again := listedMembers([]string{kept}, []string{name}); again != kept {
			t.Errorf("%q keeps %q, and that keeps %q", value, kept, again)
		}
	})
}
