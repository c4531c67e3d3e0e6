package webcall

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

// TestForeign: a page of a box is named by its title, whatever bytes it has. Some letters are
// longer in lower case.
func TestForeign(t *testing.T) {
	for page, want := range map[string]string{
		"<TITLE>Access\n denied</TITLE>":                           `"Access denied"`,
		strings.Repeat("Ⱥ", 600) + "<title>a</title>":              `"a"`,
		"<title>" + strings.Repeat("İ", 500) + "\xff":              "answered 403",
		"<title>" + strings.Repeat("x", 5000) + "</title>":         "answered 403",
		"\xff<title \xff>\xff</title>":                             "answered 403",
		strings.Repeat("İ", 1000) + "<title>b</title>" + "</html>": `"b"`,
	} {
		res := &http.Response{StatusCode: 403, Status: "403 Forbidden", Header: http.Header{}, Body: io.NopCloser(strings.NewReader(page))}
		if got := foreign(res).Error(); !strings.Contains(got, want) {
			t.Errorf("%.20q: %q, want %q in it", page, got, want)
		}
	}
}

// TestForeignIsPrintable: nothing of a box's answer acts on a terminal.
func TestForeignIsPrintable(t *testing.T) {
	res := &http.Response{
		StatusCode: 403, Header: http.Header{"Content-Type": {"text/\u009b31m\u202eX"}, "Via": {"1.1 \x1b]0;PWNED\x07"}}, Body: http.NoBody,
	}
	got := foreign(res).Error()
	if want := "answered 403, text/?31m?X, Via: 1.1 ?]0;PWNED?"; !strings.Contains(got, want) {
		t.Errorf("got %q, want %q in it", got, want)
	}
	res.Header.Set("Content-Type", strings.Repeat("A", 60<<10))
	if got := foreign(res).Error(); len(got) > 500 {
		t.Errorf("%d bytes: %.99q…", len(got), got)
	}
}

// TestCulvertIsNoBox: an answer with culvert's reason is culvert's, and keeps its code.
func TestCulvertIsNoBox(t *testing.T) {
	res := &http.Response{
		StatusCode: 403, Status: "403 Forbidden", Header: http.Header{"Culvert-Reason": {"ORIGIN_DENIED"}, "Content-Type": {"text/plain; charset=utf-8"}},
		Body: io.NopCloser(strings.NewReader("culvert: the name in Host\x1b isn't known\nmore")),
	}
	err := foreign(res)
	f, ok := errors.AsType[*fault](err)
	if want := `culvert answered 403, ORIGIN_DENIED, "culvert: the name in Host? isn't known more"`; !ok || err.Error() != want || f.reason != "ORIGIN_DENIED" || f.code != codes.PermissionDenied {
		t.Errorf("got %+v, want %q", f, want)
	}
}
