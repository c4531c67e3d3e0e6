package rules

import (
	"path"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// TestIdentityPatterns: a * crosses no / : @, and ** at the end crosses all.
func TestIdentityPatterns(t *testing.T) {
	for pattern, subjects := range map[string]map[string]bool{
		"*":                               {"alice": true, "spiffe://example.org/x": true, "": true},
		"alice":                           {"alice": true, "Alice": false, "alice ": false, "alic": false, "": false},
		"ci-*":                            {"ci-deploy": true, "ci-": true, "ci": false, "xci-a": false, "ci-a/b": false, "ci-a:b": false, "ci-a@b": false},
		"*@example.com":                   {"alice@example.com": true, "a.b+c@example.com": true, "@example.com": true, "alice@evil.test/@example.com": false, "a@b@example.com": false, "alice@example.com.evil.test": false, "alice@sub.example.com": false},
		"*.example.com":                   {"a.example.com": true, "a.b.example.com": true, "example.com": false},
		"system:serviceaccount:shop:*":    {"system:serviceaccount:shop:orders": true, "system:serviceaccount:shop:a:b": false, "system:serviceaccount:other:orders": false},
		"repo:acme/*:ref:refs/heads/main": {"repo:acme/shop:ref:refs/heads/main": true, "repo:acme/shop:ref:x:ref:refs/heads/main": false, "repo:acme/a/b:ref:refs/heads/main": false},
		"spiffe://example.org/ns/*":       {"spiffe://example.org/ns/shop": true, "spiffe://example.org/ns/shop/sa/orders": false},
		"spiffe://example.org/ns/*/sa/*":  {"spiffe://example.org/ns/shop/sa/orders": true, "spiffe://example.org/ns/a/b/sa/orders": false, "spiffe://example.org/ns/a/sa/b/sa/c": false},
		"spiffe://example.org/**":         {"spiffe://example.org/ns/shop/sa/orders": true, "spiffe://example.org/": true, "spiffe://example.org": false, "spiffe://example.org.evil.test/x": false},
		"spiffe://*/ns/**":                {"spiffe://a/ns/x/y": true, "spiffe://a/b/ns/x": false},
		"*ab*b":                           {"aab": false, "aabb": true, "ababab": true, "ab/b": false},
		"a*b*c":                           {"abc": true, "axbxbxc": true, "axbx": false, "a/bc": false, "ab/c": false},
		"a.c":                             {"a.c": true, "abc": false},
		`a?[b]\*`:                         {`a?[b]\c`: true, "axbc": false},
		"a*":                              {"a*": true},
	} {
		set := compile(t, Rule{Name: "r", Effect: Allow, Identities: []string{pattern}})
		for subject, want := range subjects {
			f := Facts{Identity: &identity.Identity{Subject: subject, Kind: identity.JWT}}
			if got := set.Decide(&f).Allowed; got != want {
				t.Errorf("%q matches %q: %v, want %v", pattern, subject, got, want)
			}
		}
		if set.Decide(&Facts{}).Allowed {
			t.Errorf("%q matches nobody", pattern)
		}
	}
}

// expression returns what an identity pattern means, as a regular expression.
func expression(pattern string) *regexp.Regexp {
	if pattern == "*" {
		return regexp.MustCompile(`(?s)\A.*\z`)
	}
	head, rest := strings.CutSuffix(pattern, "**")
	text := strings.ReplaceAll(regexp.QuoteMeta(head), `\*`, `[^/:@]*`)
	if rest {
		text += ".*"
	}
	return regexp.MustCompile(`(?s)\A` + text + `\z`)
}

// FuzzIdentityPattern: a pattern matches what the regular expression matches.
func FuzzIdentityPattern(f *testing.F) {
	for _, seed := range [][2]string{{"*", "a"}, {"a*b*c", "axbxc"}, {"*@example.com", "a@b@example.com"}, {"spiffe://a/**", "spiffe://a/b/c"}, {"*:*:x", ":::x"}, {"**", ""}, {"*a*a*a*b", "aaaaaaaaaaaaaaaa"}, {"\xff*", "\xff/"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, subject string) {
		p, err := parseIdentity(pattern)
		if err != nil || !utf8.ValidString(pattern) || !utf8.ValidString(subject) {
			return // of other bytes, regexp thinks otherwise
		}
		facts := Facts{Identity: &identity.Identity{Subject: subject, Kind: identity.MTLS}}
		want := expression(pattern).MatchString(subject) && (subject != "" || pattern == "*")
		if got := p.matches(facts.Identity); got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, subject, got, want)
		}
	})
}

func TestMethodPatterns(t *testing.T) {
	for pattern, methods := range map[string]map[string]bool{
		"acme.Admin/Drop":  {"/acme.Admin/Drop": true, "acme.Admin/Drop": true, "/acme.Admin/DropAll": false, "/acme.admin/Drop": false, "/x/acme.Admin/Drop": false, "": false},
		"/acme.Admin/Drop": {"/acme.Admin/Drop": true},
		"acme.Admin/*":     {"/acme.Admin/Drop": true, "/acme.AdminX/Drop": false, "/acme.Admi": false},
		"acme.*/*":         {"/acme.Admin/Drop": true, "/acme.v1.Admin/Drop": true, "/other.Admin/Drop": false},
		"*/Get":            {"/acme.Admin/Get": true, "/acme.Admin/GetAll": false, "/acme.Admin/get": false},
		"*/Get*":           {"/acme.Admin/GetAll": true, "/acme.Admin/Get": true, "/acme.Get/Drop": false},
		"acme.*/Get?":      {"/acme.A/GetX": true, "/acme.A/Get": false, "/acme.A/GetXY": false},
		"*/*":              {"/acme.Admin/Drop": true, "": true},
	} {
		list, err := ParseMethods("public_methods", []string{"x.Y/Z", pattern})
		if err != nil {
			t.Fatal(err)
		}
		for method, want := range methods {
			if got := list.find(method) == 1; got != want {
				t.Errorf("%q matches %q: %v, want %v", pattern, method, got, want)
			}
		}
	}
	for _, pattern := range []string{"", "/", "acme.Admin", "/acme.Admin", "acme.Admin/Drop/x", "acme.Admin//Drop", "acme.Admin/", "/Drop", "acme.[A]dmin/Drop", "acme.[/Drop", `acme.Admin/\`, "**", "acme.Admin/Dr op", "acme.Admin/Drop%20", "acme.\u00c4dmin/Drop", "//acme.Admin/Drop"} {
		_, err := ParseMethods("public_methods", []string{"x.Y/Z", pattern})
		if err == nil || !strings.HasPrefix(err.Error(), "public_methods[1] ") {
			t.Errorf("%q: got %v, want an error for public_methods[1]", pattern, err)
		}
	}
}

// FuzzMethodPattern: a pattern matches the methods that path.Match matches.
func FuzzMethodPattern(f *testing.F) {
	for _, seed := range [][2]string{{"acme.Admin/*", "acme.Admin/Drop"}, {"*/*", "a/b"}, {"/a.*/Get?", "a.b/GetX"}, {"a/b", "a/b"}, {"a[b]/c", "ab/c"}, {"*a/b", "a/b"}, {"**/x", "a.b/x"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, method string) {
		p, err := parseMethod(pattern)
		if err != nil || strings.Count(method, "/") != 1 {
			return // culvert gets no such method
		}
		want, err := path.Match(strings.TrimPrefix(pattern, "/"), method)
		if err != nil {
			t.Fatalf("%q was taken, and is malformed", pattern)
		}
		if got := p.matches(method); got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, method, got, want)
		}
	})
}

func TestOrigins(t *testing.T) {
	for entry, origins := range map[string]map[string]bool{
		"https://app.example.com":   {"https://app.example.com": true, "HTTPS://APP.example.com": true, "http://app.example.com": false, "https://app.example.com:8443": false, "https://app.example.com.evil.test": false, "": false},
		"HTTPS://App.Example.com":   {"https://app.example.com": true},
		"http://localhost:3000":     {"http://localhost:3000": true, "http://localhost": false},
		"http://[::1]:3000":         {"http://[::1]:3000": true},
		"http://a:443":              {"http://a:443": true},
		"chrome-extension://abcdef": {"chrome-extension://abcdef": true},
		"https://kk.example":        {"https://\u212a\u212a.example": false, "https://KK.example": true},
		"null":                      {"null": true, "": false},
		"NULL":                      {"null": true},
	} {
		set := compile(t, Rule{Name: "r", Effect: Deny, Origins: []string{"https://other.test", entry}})
		for origin, want := range origins {
			if got := !set.Decide(&Facts{Public: true, Origin: origin}).Allowed; got != want {
				t.Errorf("%q is %q: %v, want %v", entry, origin, got, want)
			}
		}
	}
	for entry, says := range map[string]string{
		"app.example.com":             "write scheme",
		"https://":                    "write scheme",
		"//app.example.com":           "write scheme",
		"https://app.example.com/":    "write scheme",
		"https://app.example.com?":    "write scheme",
		"https://a@app.example.com":   "write scheme",
		"https://a b":                 "write scheme",
		"https://app.example.com:":    "has no port",
		"https://a:70000":             "has no port",
		"https://a:443":               "remove :443",
		"http://a:80":                 "remove :80",
		"*":                           "no patterns",
		"https://*.example.com":       "no patterns",
		"~https://.*":                 "no patterns",
		"https://b\u00fccher.example": "xn--",
	} {
		if got, err := parseOrigin(entry); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %q, %v, want %q", entry, got, err, says)
		}
	}
}

// FuzzOriginCondition: an origin that parseOrigin takes is one that it takes again, and finds.
func FuzzOriginCondition(f *testing.F) {
	for _, seed := range []string{"https://app.example.com", "http://[::1]:80", "null", "https://a:443", "~x", "https://a:", "h://%41"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		origin, err := parseOrigin(text)
		if err != nil {
			return
		}
		if again, err := parseOrigin(origin); err != nil || again != origin || findOrigin([]string{origin}, text) != 0 {
			t.Errorf("%q became %q, and then %q, %v", text, origin, again, err)
		}
	})
}
