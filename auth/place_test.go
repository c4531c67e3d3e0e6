package auth

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestBearer(t *testing.T) {
	for in, want := range map[string]string{
		"Bearer a.b-c_d~e+f/g==": "a.b-c_d~e+f/g==", "bearer x": "x", "BEARER   x  ": "x",
		"": "", "Bearer": "", "Bearer ": "", "Bearerx": "", "Basic x": "", " Bearer x": "", "Bearer\tx": "",
		"Bearer a b": "", "Bearer a,b": "", "Bearer a, Bearer b": "",
	} {
		if got := bearer(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestCookieOf(t *testing.T) {
	for _, c := range []struct {
		fields  []string
		want    string
		several bool
	}{
		{nil, "", false},
		{[]string{"session=x"}, "x", false},
		{[]string{"a=1;session=x ;b=2"}, "x", false},
		{[]string{"a=1", "session=\"x\""}, "x", false},
		{[]string{"session=x=y"}, "x=y", false},
		{[]string{"session", "session=", "=session", "xsession=1", "session2=1", "Session=1"}, "", false},
		{[]string{"session=; session=x"}, "x", false},
		{[]string{"session=x; session=x"}, "x", false},
		{[]string{"session=x; session=y"}, "", true},
		{[]string{"session=x", "session=y"}, "", true},
	} {
		if got, several := cookieOf(c.fields, "session"); got != c.want || several != c.several {
			t.Errorf("%q: got %q, %v, want %q, %v", c.fields, got, several, c.want, c.several)
		}
	}
}

func TestSecretsDoNotFormat(t *testing.T) {
	c := credential{text: "hush"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if text := fmt.Sprintf(verb, c) + fmt.Sprintf(verb, &c) + fmt.Sprintf(verb, []credential{c}); strings.Contains(text, "hush") || strings.Contains(text, fmt.Sprintf("%x", "hush")) {
			t.Errorf("%s shows the secret: %s", verb, text)
		}
	}
}

// FuzzBearer: a token is whole, and nothing of another scheme.
func FuzzBearer(f *testing.F) {
	for _, seed := range []string{"Bearer a.b.c", "bearer  x", "Basic YTpi", "Bearer a, Bearer b", "Bearer", "Bearer\x00x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		token := bearer(in)
		if token == "" {
			return
		}
		if again := bearer("Bearer " + token); again != token || strings.ContainsAny(token, " ,") {
			t.Errorf("%q gives %q, and that %q", in, token, again)
		}
		if !strings.EqualFold(in[:7], "bearer ") || strings.Trim(in[7:], " ") != token {
			t.Errorf("%q gives %q", in, token)
		}
	})
}

// FuzzCookie: what net/http finds is found, and after withoutCookie nothing is.
func FuzzCookie(f *testing.F) {
	for _, seed := range []string{"session=x", "a=1; session=x; b", "session=x; session=y", "session=\"x\"", ";;=;session", "session=a b", "session= 0"} {
		f.Add(seed, "b=2")
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		fields := []string{one, two}
		value, several := cookieOf(fields, "session")
		left := withoutCookie(fields, "session")
		if got, more := cookieOf(left, "session"); got != "" || more {
			t.Errorf("%q without the cookie is %q", fields, left)
		}
		if strings.ContainsFunc(one+two, func(c rune) bool { return c < ' ' && c != '\t' }) {
			return // no field has such a value
		}
		found := (&http.Request{Header: http.Header{"Cookie": fields}}).CookiesNamed("session")
		for _, c := range found {
			if found := strings.Trim(c.Value, " \t"); found != "" && !several && found != strings.Trim(value, " \t") {
				t.Errorf("%q: net/http finds %q, and culvert %q", fields, c.Value, value)
			}
		}
		if again := withoutCookie(left, "session"); !slices.Equal(again, left) {
			t.Errorf("%q, and again %q", left, again)
		}
	})
}
