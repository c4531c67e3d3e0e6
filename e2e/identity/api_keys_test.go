package identity

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

var aKey = regexp.MustCompile(`culvert_[a-z2-7]{8}_[\w-]{43}`)

// TestAPIKeys: a key that the page's command makes, by the page's configuration.
func TestAPIKeys(t *testing.T) {
	t.Parallel()
	g := readGuide(t, "api-keys.md")
	file := filepath.Join(t.TempDir(), "api-keys")
	make := func(command string) string {
		t.Helper()
		words := strings.Fields(with(t, command, " api-keys", " "+file))
		key := aKey.FindString(output(t, words[1:]...))
		if key == "" {
			t.Fatalf("%q prints no key", words)
		}
		return key
	}
	command := strings.TrimSpace(g.block(t, "sh", 0))
	key := make(command)
	lines, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(lines), key) || strings.Count(string(lines), "\n") != 1 {
		t.Fatalf("the file has %q, %v", lines, err)
	}
	reader := make(with(t, command, "ci-deploy", "reader", "orders.read,orders.write", "orders.read"))

	config, c := secure(t, g.block(t, "yaml", 0), "grpc.example.com")
	culvert := startCulvert(t, with(t, config, "/etc/culvert/api-keys", file))
	c.address = culvert.address
	for way := range ways {
		for _, md := range [][]string{{"x-api-key", key}, {"authorization", "Bearer " + key}} {
			got := c.call(t, way, "shop.v1.Orders/Cancel", append(md, "x-culvert-subject", "root")...)
			if got.code != codes.OK || got.got("x-culvert-subject") != "ci-deploy" || got.got("x-culvert-kind") != "api-key" {
				t.Errorf("%s with %s: %v", way, md[0], got)
			}
		}
		for _, md := range [][]string{nil, {"x-api-key", key[:len(key)-1]}, {"x-api-key", strings.Repeat("k", 40)}, {"x-api-key", reader}} {
			got := c.call(t, way, "shop.v1.Orders/Cancel", md...)
			want := codes.Unauthenticated
			if md != nil && md[1] == reader {
				want = codes.PermissionDenied
			}
			if got.code != want {
				t.Errorf("%s with %q: %v", way, md, got)
			}
			g.explains(t, got.message)
		}
	}
	if got := c.call(t, "grpc", "grpc.health.v1.Health/Check"); got.code != codes.OK {
		t.Errorf("a public method: %v", got)
	}
	if got := c.call(t, "grpc", "grpc.health.v1.Health/Check", "x-api-key", strings.Repeat("k", 40)); got.code != codes.Unauthenticated {
		t.Errorf("a public method with a wrong key: %v", got)
	}
	now := culvert.now()
	write(t, file, "sha256:short ci-deploy\n")
	culvert.loggedSince(t, now, "keys of auth not read again", map[string]string{"cause": "line 1"})
	if got := c.call(t, "grpc", "shop.v1.Orders/Get", "x-api-key", key); got.code != codes.OK {
		t.Errorf("after a mistake in the file: %v", got)
	}
	now = culvert.now()
	write(t, file, string(lines))
	culvert.loggedSince(t, now, "solved", nil)
	culvert.logged(t, "call", map[string]string{"identity": "ci-deploy", "rule": "writers", "code": "OK"})

	late := regexp.MustCompile(`expires=\S+`).ReplaceAllString(string(lines), "expires=2020-07-01")
	for _, step := range []struct{ lines, message string }{
		{late, "the API key has expired: ask the operator of this server for a new one"},
		{"", "unknown API key: ask the operator of this server for one"},
	} {
		now := culvert.now()
		write(t, file, step.lines)
		culvert.loggedSince(t, now, "keys of auth read again", nil)
		got := c.call(t, "grpc", "shop.v1.Orders/Get", "x-api-key", key)
		if got.code != codes.Unauthenticated || got.message != step.message {
			t.Errorf("%v, want %q", got, step.message)
		}
		g.explains(t, got.message)
	}
	g.wasSeen(t)
	culvert.hides(t, key, reader)
}
