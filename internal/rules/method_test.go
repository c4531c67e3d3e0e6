package rules

import "testing"

func TestCutPattern(t *testing.T) {
	for text, want := range map[string][2]string{
		"shop.v1.Orders/Get": {"shop.v1.Orders", "Get"}, "/shop.v1.Orders/*": {"shop.v1.Orders", "*"}, "*/*": {"*", "*"},
		"a/[A-C]*": {"a", "[A-C]*"}, "a/": {"a", ""}, "//b": {"", "b"}, `a/\*`: {"a", `\*`},
	} {
		if service, method, ok := CutPattern(text); !ok || service != want[0] || method != want[1] {
			t.Errorf("%q: %q, %q, %v; want %q", text, service, method, ok, want)
		}
	}
	for _, text := range []string{"", "/", "*", "acme.Admin", "/acme.Admin", "a/b/c", "a//b", "/a/b/", "acme.[/Drop", "acme.Admin/[", `acme.Admin/\`, "a/[]"} {
		if service, method, ok := CutPattern(text); ok {
			t.Errorf("%q is taken for %q, %q", text, service, method)
		}
	}
}
