package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const routeHead = "backends: [{name: a, address: a:1}, {name: b, address: b:1}]\n"

func TestRoutesThatAreWrong(t *testing.T) {
	clearEnvironment(t)
	for _, c := range []struct{ file, want string }{
		{routeHead + "routes: [{backend: a}]", ":2: routes[0] has no name: write name: orders"},
		{routeHead + "routes: [{name: r, match: {hosts: [a.example:80]}, backend: a}]", `:2: routes[0].match.hosts: "a.example:80" has a port`},
		{routeHead + `routes: [{name: r, match: {hosts: ["[::1]:80"]}, backend: a}]`, `:2: routes[0].match.hosts: "[::1]:80" has a port`},
		{routeHead + `routes: [{name: r, match: {hosts: ["[::1"]}, backend: a}]`, `:2: routes[0].match.hosts: "[::1"`},
		{routeHead + `routes: [{name: r, match: {hosts: ["a.*"]}, backend: a}]`, `is not the first label: write "*.example.com"`},
		{routeHead + `routes: [{name: r, match: {hosts: [""]}, backend: a}]`, "is empty"},
		{routeHead + "routes: [{name: r, match: {path_prefix: /}, backend: a}]", "matches every path"},
		{routeHead + "routes: [{name: r, rewrite: {path_prefix: x}, backend: a}]", "doesn't begin with a slash"},
		{routeHead + "routes: [{name: r, match: {transports: [soap]}, backend: a}]", "is not one of connect, grpc, grpc-web"},
		{routeHead + "routes: [{name: r, match: {transports: [message]}, backend: a}]", "is not one of connect, grpc, grpc-web"},
		{routeHead + "routes: [{name: r, match: {listeners: [x]}, backend: a}]", ":2: routes[0].match.listeners: names no listener: the only listener has no name; set listen[0].name"},
		{routeHead + "listen: [{address: ':1', name: one}, ':2']\nroutes: [{name: r, match: {listeners: [x]}, backend: a}]", `:3: routes[0].match.listeners: names no listener: there is no "x"; use one of one, :2`},
		{routeHead + "metadata: {forward_cookies: true}\nroutes: [{name: r, allow_origins: ['*'], backend: a}]", ":3: routes[0].allow_origins: cookies don't pass"},
		{routeHead + "routes: [{name: r, split: [{backend: a}]}]", ":2: routes[0].split[0] has no weight"},
		{routeHead + "routes: [{name: r, split: [{backend: a, weight: -1}]}]", "is below zero"},
		{routeHead + "routes: [{name: r, backend: a, limits: {message_bytes: 3GiB}}]", ":2: routes[0].limits.message_bytes: is too large"},
		{routeHead + "routes: [{name: r, backend: a, retry: {attempts: 1}}]", "is out of range: write 2 to 5, or 0"},
		{routeHead + "routes: [{name: r, backend: a, retry: {attempts: 6}}]", "is out of range: write 2 to 5, or 0"},
		{routeHead + "routes: [{name: r, backend: a, retry: {attempts: 2, codes: [OK]}}]", "is not one of CANCELLED"},
		{routeHead + "routes: [{name: r, backend: a, metadata: {set: [{name: X-A, value: a}]}}]", "is not a metadata name"},
	} {
		_, err := Load(Options{}, write(t, "c.yaml", c.file), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\ngot %v, want %s", c.file, err, c.want)
		}
	}
}

func TestRoutesThatAreWarnedOf(t *testing.T) {
	clearEnvironment(t)
	for _, c := range []struct{ file, want string }{
		{routeHead + "routes: [{name: r, backend: a}]", ":1: backends[1]: gets no calls, because no route names it"},
		{routeHead + "routes: [{name: r, split: [{backend: a, weight: 1}, {backend: b, weight: 0}]}]", ""},
		{routeHead + `routes: [{name: r, match: {hosts: ["::1", "[2001:db8::1]", 192.0.2.1, "*"]}, backend: a}, {name: s, backend: b}]`, ""},
		{routeHead + "routes: [{name: r, match: {path_prefix: /team}, backend: a}, {name: s, backend: b}]", `:2: routes[0].match.path_prefix: matches only methods of the service "team"`},
		{routeHead + "routes: [{name: r, match: {path_prefix: /team}, rewrite: {path_prefix: /}, backend: a}, {name: s, backend: b}]", ""},
		{routeHead + "routes: [{name: r, match: {path_prefix: /a.B}, backend: a}, {name: s, backend: b}]", ""},
		{routeHead + "path_prefix: /api\nroutes: [{name: r, match: {path_prefix: /api/q}, rewrite: {path_prefix: /}, backend: a}, {name: s, backend: b}]", `:4: routes[0].match.path_prefix: matches only paths that begin with "/api/api/q", because culvert removes path_prefix first: write "/q"`},
		{routeHead + "path_prefix: /api\nroutes: [{name: r, match: {path_prefix: /api}, backend: a}, {name: s, backend: b}]", `:4: routes[0].match.path_prefix: matches only paths that begin with "/api/api", because culvert removes path_prefix first: remove it`},
		{routeHead + "path_prefix: /api\nroutes: [{name: r, match: {path_prefix: /apis/q}, rewrite: {path_prefix: /}, backend: a}, {name: s, backend: b}]", ""},
		{routeHead + "path_prefix: /api\nroutes: [{name: r, match: {path_prefix: /q/api}, rewrite: {path_prefix: /}, backend: a}, {name: s, backend: b}]", ""},
		{routeHead + "routes: [{name: r, allow_origins: ['*'], backend: a}, {name: s, backend: b}]", `:2: routes[0].allow_origins: "*" allows every page`},
		{routeHead + "routes: [{name: r, allow_origins: ['https://*.com'], backend: a}, {name: s, backend: b}]", `:2: routes[0].allow_origins: also allows https://culvertforeign.com`},
		{routeHead + "routes: [{name: r, allow_origins: ['https://*.example.com'], backend: a}, {name: s, backend: b}]\nmetadata: {forward_cookies: true}", `:4: metadata.forward_cookies: cookies pass only for exact origins in routes[0].allow_origins`},
		{routeHead + "routes: [{name: r, allow_origins: ['https://a.example.com'], backend: a}, {name: s, backend: b}]\nmetadata: {forward_cookies: true}", ""},
		{routeHead + "routes: [{name: r, backend: a, limits: {header_bytes: 1MiB}}, {name: s, backend: b}]", ":2: routes[0].limits.header_bytes: is more than limits.header_bytes"},
	} {
		l, err := Load(Options{}, write(t, "c.yaml", "listen: 127.0.0.1:0\n"+c.file), nil)
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		all := strings.Join(l.Warnings, "\n")
		if (c.want == "") != (all == "") || !strings.Contains(strings.ReplaceAll(all, ":3: ", ":2: "), strings.ReplaceAll(c.want, ":1: ", ":2: ")) {
			t.Errorf("%s: warned of %q, want %q", c.file, all, c.want)
		}
	}
}

// TestValuesOfRoutesAreHidden, those that come from the environment, too.
func TestValuesOfRoutesAreHidden(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("TOKEN", "s3cret")
	l, err := Load(Options{}, write(t, "c.yaml", "backend: {address: a:1}\nroutes: [{name: r, backend: default, metadata: {set: [{name: authorization, value: 'Bearer ${TOKEN}'}]}}]"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Routes[0].Metadata.Set[0].Value; got != "Bearer s3cret" {
		t.Errorf("the value is %q", got)
	}
	var out strings.Builder
	if err := l.Print(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "s3cret") || !strings.Contains(out.String(), `value: "(hidden)"`) || !strings.Contains(out.String(), "name: authorization") {
		t.Errorf("printed:\n%s", out.String())
	}
}

func TestTooManyEntriesInAll(t *testing.T) {
	clearEnvironment(t)
	file := "routes:\n- &r {name: r, backend: a, split: &s [" + strings.Repeat("{backend: a, weight: 1},", 9000) + "]}\n" + strings.Repeat("- {name: r, split: *s}\n", 20)
	if _, err := Load(Options{}, write(t, "c.yaml", file), nil); err == nil || !strings.Contains(err.Error(), "more than 100000 entries") {
		t.Errorf("got %v", err)
	}
}

// TestRoutesByGetNeedHosts, where a page could reach them by a name of its own.
func TestRoutesByGetNeedHosts(t *testing.T) {
	clearEnvironment(t)
	const routes = "\nbackend: {address: a:1}\nroutes: [{name: r, backend: default, message: {path: /r, method: a.B/C, framing: %s}}, {name: s, match: {listeners: [one]}, backend: default, message: {path: /s, method: a.B/C, framing: %[1]s}}]"
	const two = "listen: [{name: one, address: '127.0.0.1:1'}, {name: two, address: '10.0.0.1:2'}]"
	for _, c := range []struct {
		file, framing string
		warned        []bool
	}{
		{"listen: [{name: one, address: ':8080', tls: {enabled: false}}]", "sse", []bool{true, true}},
		{"listen: [{name: one, address: ':8080', tls: {enabled: false}}]", "ndjson", []bool{true, true}},
		{"listen: [{name: one, address: ':8080', tls: {enabled: false}}]", "json", []bool{false, false}},
		{"hosts: [grpc.example.com]\nlisten: [{name: one, address: ':8080', tls: {enabled: false}}]", "sse", []bool{false, false}},
		{"listen: [{name: one, address: 'unix:/run/x'}]", "sse", []bool{false, false}},
		{"tls: {self_signed: true}\nlisten: [{name: one, address: ':8080'}]", "sse", []bool{false, false}},
		{two, "sse", []bool{true, false}},
		{"trusted_proxies: [10.0.0.9]\n" + two, "sse", []bool{true, false}},
	} {
		l := loadText(t, c.file+fmt.Sprintf(routes, c.framing))
		got := make([]bool, len(c.warned))
		for _, w := range l.Warnings {
			for i := range got {
				got[i] = got[i] || strings.Contains(w, fmt.Sprintf(": routes[%d].message.framing: takes GET over plaintext", i)) && strings.Contains(w, "hosts")
			}
		}
		if !slices.Equal(got, c.warned) {
			t.Errorf("%s, %s: warned of the routes %v, want %v: %q", c.file, c.framing, got, c.warned, l.Warnings)
		}
	}
}

// TestConnectByGetNeedsHosts, as routes do.
func TestConnectByGetNeedsHosts(t *testing.T) {
	clearEnvironment(t)
	const get = "\nconnect: {get: [a.B/C]}"
	for file, want := range map[string]string{
		"listen: [{address: ':8080', tls: {enabled: false}}]" + get:                            "p.yaml:2: connect.get: … GET over plaintext … p.yaml:1: listen … hosts",
		"listen: ['127.0.0.1:1', {address: '10.0.0.1:2', trusted_proxies: [10.0.0.9]}]" + get:  "p.yaml:2: connect.get: … GET over plaintext … p.yaml:1: listen[1].address … hosts",
		"hosts: [grpc.example.com]\nlisten: [{address: ':8080', tls: {enabled: false}}]" + get: "",
		"listen: '127.0.0.1:8080'" + get:                                                       "",
		"tls: {self_signed: true}\nlisten: ':8080'" + get:                                      "",
		"listen: [{address: ':8080', tls: {enabled: false}}]\nconnect: {get: []}":              "",
	} {
		var warnings []string
		if want != "" {
			warnings = []string{want}
		}
		loadSays(t, "p.yaml", file, nil, warnings)
	}
}

// TestOddHostsOfRoutes: brackets stand in pairs, the zone of an address may be anything,
// and a port is none even if it is empty.
func TestOddHostsOfRoutes(t *testing.T) {
	const star, port, none = "not the first label", "has a port", "is not a host name"
	for host, want := range map[string]string{
		"*": "", "A.Example.": "", "*.A.": "", "a..b": "", "192.0.2.1": "", "[192.0.2.1]": "", "192.0.2.1.": "", "*.192.0.2.1": "",
		"::1": "", "[::1]": "", "[2001:DB8::1]": "", "fe80::1%eth0": "", "fe80::1%*": "", "[fe80::1%*]": "", "fe80::1%a*": "",
		"": "is empty", "*.": "is empty",
		"**": star, "a.*": star, "*a": star, "*.*": star, "*:80": star, "a*:80": star, "*[::1]": star, "*.fe80::1%*": star,
		"a:": port, "a:80": port, "A.:80": port, "[::1]:80": port, "[::1]:": port, "[::1": port, "fe80::1%": port, "*.a:80": port,
		"::1]": none, "[[::1]]": none, "[a]": none, "[]": none, "a:]": none, ".": none, ".a": none, "-a": none, "a%eth0": none,
	} {
		if err := checkRouteHost(host); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", host, err, want)
		}
	}
}
