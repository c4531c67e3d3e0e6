package codec

import (
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMessageClose(t *testing.T) {
	for _, c := range []struct {
		code    codes.Code
		message string
		reason  string
		want    int
		text    string
	}{
		{codes.OK, "", "", 1000, ""},
		{codes.OK, "fine", "", 1000, ""},
		{codes.NotFound, "no order", "", 4005, "NOT_FOUND: no order"},
		{codes.Unavailable, "the backend can't be reached", "UPSTREAM_UNREACHABLE", 4014, "UPSTREAM_UNREACHABLE: the backend can't be reached"},
		{codes.Canceled, "", "", 4001, "CANCELLED"},
		{codes.Unauthenticated, "", "", 4016, "UNAUTHENTICATED"},
		{codes.Code(77), "odd", "", 4077, "UNKNOWN: odd"},
		{codes.Code(4_000_000_000), "odd", "", 4999, "UNKNOWN: odd"},
		{codes.Internal, "a\xffb", "", 4013, "INTERNAL: a\uFFFDb"},
		{codes.Internal, strings.Repeat("é", 100), "", 4013, "INTERNAL: " + strings.Repeat("é", 56)},
		{codes.Aborted, strings.Repeat("x", 200), "R", 4010, "R: " + strings.Repeat("x", 120)},
	} {
		got, text := MessageClose(status.New(c.code, c.message), c.reason)
		if got != c.want || text != c.text {
			t.Errorf("%v %q: %d %q, want %d %q", c.code, c.message, got, text, c.want, c.text)
		}
	}
}

func FuzzMessageClose(f *testing.F) {
	f.Add(uint32(5), "no order", "")
	f.Add(uint32(14), strings.Repeat("☃", 60), "DRAINING")
	f.Add(uint32(99), "\xff\xfe", "")
	f.Fuzz(func(t *testing.T, code uint32, message, reason string) {
		got, text := MessageClose(status.New(codes.Code(code), message), reason)
		if len(text) > 123 || !utf8.ValidString(text) {
			t.Errorf("%q can't stand in a close frame", text)
		}
		if code == 0 && got != 1000 || code > 0 && (got < 4001 || got > 4999) {
			t.Errorf("code %d closes with %d", code, got)
		}
	})
}
