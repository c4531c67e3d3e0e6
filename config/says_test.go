package config

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// says reports whether text has the parts of want, which are separated by
// " … ". Text begins with the first part. The others stand behind it as whole
// words, in any order. A want of one part is the whole text.
//
// So a test names the place, the key, the value and the remedy, and the prose
// between them can change.
func says(text, want string) bool {
	parts := strings.Split(want, " … ")
	rest, found := strings.CutPrefix(text, parts[0])
	if !found || len(parts) == 1 && rest != "" {
		return false
	}
	return !slices.ContainsFunc(parts[1:], func(part string) bool {
		return !regexp.MustCompile(`(?:^|[^\w.-])` + regexp.QuoteMeta(part) + `(?:[.-]?$|[.-]?[^\w.-])`).MatchString(rest)
	})
}

// sayAll reports whether each text says what its want has.
func sayAll(texts, wants []string) bool {
	return slices.EqualFunc(texts, wants, says)
}

// sayLines is sayAll for the lines of a text.
func sayLines(text, want string) bool {
	return sayAll(strings.Split(text, "\n"), strings.Split(want, "\n"))
}

// loadSays loads a file with the content, in a folder of its own and without
// variables, and checks the lines of the error and the warnings, except of the default
// listener.
func loadSays(t *testing.T, name, content string, errs, warnings []string) {
	t.Helper()
	clearEnvironment(t)
	t.Chdir(t.TempDir())
	writeHere(t, name, content)
	l, err := Load(Options{}, name, nil)
	var got []string
	if err != nil {
		got = strings.Split(err.Error(), "\n")
	}
	if !sayAll(got, errs) {
		t.Errorf("errors\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(errs, "\n"))
	}
	if warned := withoutDefault(l.Warnings); !sayAll(warned, warnings) {
		t.Errorf("warnings\n%s\nwant\n%s", strings.Join(warned, "\n"), strings.Join(warnings, "\n"))
	}
}

// withoutDefault returns warnings without the one of the default listener, which files
// about other things don't set.
func withoutDefault(warnings []string) []string {
	return slices.DeleteFunc(slices.Clone(warnings), func(w string) bool { return strings.HasPrefix(w, "listen: the default ") })
}

func TestSays(t *testing.T) {
	const text = `p.yaml:2: tls.key: a key alone: set tls.cert (--tls-cert), as "/c.pem"`
	for want, is := range map[string]bool{
		text: true,
		`p.yaml:2: tls.key: … tls.cert … --tls-cert`:      true,
		`p.yaml:2: tls.key: … --tls-cert … tls.cert`:      true,
		`p.yaml:2: tls.key: … "/c.pem"`:                   true,
		`p.yaml:3: tls.key: … tls.cert`:                   false,
		`p.yaml:2: tls.key: … tls.cert … --tls-client-ca`: false,
		`p.yaml:2: tls.key: … cert`:                       false,
		`p.yaml:2: tls.key: … tls.key`:                    false,
		`p.yaml:2: tls.key: … tls`:                        false,
		`p.yaml:2: tls.key:`:                              false,
		"":                                                false,
	} {
		if got := says(text, want); got != is {
			t.Errorf("%q says %q: %v, want %v", text, want, got, is)
		}
	}
}
