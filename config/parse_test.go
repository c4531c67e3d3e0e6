package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func writeHere(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// small is a world that holds little.
var small = world{
	lookup: func(name string) (string, bool) {
		value, ok := map[string]string{"LEVEL": "warn", "EMPTY": "", "SECRET": "hunter2", "NESTED": "${LEVEL}", "REF": "file:level"}[name]
		return value, ok
	},
	read: func(file string) ([]byte, error) {
		content, ok := map[string]string{"/etc/culvert/level": "warn\n", "/run/level": "warn\r\n", "/run/two": "a\n\n"}[file]
		if !ok {
			return nil, errors.New(file + ": no such file or directory")
		}
		return []byte(content), nil
	},
}

const fileName = "/etc/culvert/proxy.yaml"

// problems parses data and returns what is wrong, without the file's name.
func problems(data string) string {
	_, errs := parse(Options{}, fileKeys, fileName, []byte(data), small)
	lines := make([]string, len(errs))
	for i, err := range errs {
		lines[i] = strings.TrimPrefix(err.Error(), fileName)
	}
	return strings.Join(lines, "\n")
}

func TestMistakesInTheFileAreNamedByLine(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"unknown key":        {"listen: :80\n\nlimts:\n  calls: 5\n", `:3: … "limts" … "limits"`},
		"unknown key inside": {"limits:\n  message_size: 1MiB\n", `:2: … "message_size" … "message_bytes"`},
		"camel case":         {"allowOrigins: []\n", `:1: … "allowOrigins" … "allow_origins"`},
		"other case":         {"Listen: :80\n", `:1: … "Listen" … "listen"`},
		"other level":        {"message_bytes: 1MiB\n", `:1: … "message_bytes" … "limits.message_bytes"`},
		"nothing near":       {"log:\n  xyzzy: 1\n", `:2: … "xyzzy" … level … format`},
		"merge key":          {"log: {<<: {level: info}}\n", `:1: … "<<" … level … format`},
		"dotted key":         {"backend.tls.ca: x\n", `:1: … "backend.tls.ca" … tls.ca … backend`},
		"empty key":          {"\"\": 1\n", `:1: … "" … listen … tls … backend … allow_origins … enforce_origins … hosts … path_prefix … methods … trusted_proxies … trusted_header … proxy_protocol … metadata … errors … limits … http2_server … drain_timeout … health … log`},
		"twice":              {"listen: :80\nlog: {}\nlisten: :81\n", `:3: … "listen" … line 1 … remove`},
		"section twice":      {"log: {level: info}\nlog: {format: json}\n", `:2: … "log" … line 1 … remove`},
		"key of a mapping":   {"? {a: b}\n: c\n", `:1: … key`},
		"section is a value": {"limits: 5\n", `:1: limits … keys … indented`},
		"value is a section": {"drain_timeout:\n  port: 80\n", `:2: drain_timeout … single value … drain_timeout: 30s`},
		"list is a section":  {"listen:\n  port: 80\n", `:2: listen … list … dash … listen: ":8080"`},
		"value is a list":    {"drain_timeout: [5s]\n", `:1: drain_timeout … single value … drain_timeout: 30s`},
		"list is a value":    {"allow_origins: https://a.example\n", `:1: allow_origins … list … ["https://a.example"]`},
		"list in a list":     {"hosts: [[a]]\n", `:1: … hosts … single value … "grpc.example.com"`},
		"no value":           {"listen:\nlog: {level: ~}\n", ":1: listen … value … remove\n:2: log.level … value … remove"},
		"no value in list":   {"hosts: [~]\n", `:1: hosts … value … remove`},
		"file is a list":     {"- listen\n", `:1: … keys … "listen: :8080"`},
		"file is a word":     {"listen\n", `:1: … keys … "listen: :8080"`},
		"two documents":      {"listen: :80\n---\nlisten: :81\n", `:2: … document … "---"`},
		"own tag":            {"listen: !secret x:1\n", `:1: … tag … !secret … remove`},
		"a tab":              {"backend:\n\taddress: x:1\n", `:2: … tab … blanks`},
		"a tab further down": {"listen: :80\nlog:\n  level: info\n\tformat: json\n", `:4: … tab … blanks`},
		"no YAML":            {"listen: :80\n  log: {\n", `:2: … YAML … mapping values are not allowed in this context`},
		"no text":            {"listen: \x01\n", `: … YAML … control characters are not allowed`},
		"alias of itself":    {"backend: &b\n  tls: *b\n", `:2: … "tls" … enabled … ca … cert … key … server_name`},
		"unset variable":     {"log:\n  level: ${LEVLE}\n", `:2: log.level: … ${LEVLE} … environment … ${LEVLE:-default}`},
		"open reference":     {"log: {level: '${LEVEL'}\n", `:1: log.level: … "${" … "}" … ${NAME} … $$`},
		"bad reference":      {"log: {level: '${A B}'}\n", `:1: log.level: … ${A B} … ${NAME} … ${NAME:-default}`},
		"missing file":       {"log: {level: file:nothing}\n", `:1: log.level: /etc/culvert/nothing: no such file or directory`},
		"secret isn't shown": {"log: {level: '${SECRET}'}\n", `:1: log.level: "${SECRET}" … debug … info … warn … error`},
		"reference's value is not expanded": {
			"log: {level: '${NESTED}'}\nerrors: ${REF}\n",
			":1: log.level: \"${NESTED}\" … debug … info … warn … error\n:2: errors: \"${REF}\" … concise … detailed",
		},
		"all at once": {
			"listen: 8080\nlimits:\n  calls: -1\n  message_bytes: 16 apples\nlog: {level: warning}\nbackend: {keepalive: 30}\n",
			`:1: listen: "8080" … colon … ":8080"
:3: limits.calls: "-1" … 0
:4: limits.message_bytes: "16 apples" … 64KiB … 16MiB
:5: log.level: "warning" … debug … info … warn … error … "warn"
:6: backend.keepalive: "30" … unit … 30s`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problems(c.file); !sayLines(got, c.want) || strings.Contains(got, "hunter2") {
				t.Errorf("%s\ngot  %s\nwant %s", c.file, got, c.want)
			}
		})
	}
}

func TestWhatTheFileMaySay(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		want map[string]any
	}{
		"nothing":            {"", map[string]any{}},
		"comments":           {"# nothing\n", map[string]any{}},
		"section of nothing": {"backend:\n  # address: x\nallow_origins:\n", map[string]any{"backend": map[string]any{}, "allow_origins": []string{}}},
		"variable":           {"log: {level: '${LEVEL}'}", map[string]any{"log": map[string]any{"level": "warn"}}},
		"default":            {"log: {level: '${NONE:-warn}'}", map[string]any{"log": map[string]any{"level": "warn"}}},
		"default of empty":   {"log: {level: '${EMPTY:-warn}'}", map[string]any{"log": map[string]any{"level": "warn"}}},
		"empty variable":     {"path_prefix: ${EMPTY}", map[string]any{"path_prefix": ""}},
		"in the middle":      {"path_prefix: /a/${LEVEL}.${LEVEL}", map[string]any{"path_prefix": "/a/warn.warn"}},
		"file":               {"log: {level: file:level}", map[string]any{"log": map[string]any{"level": "warn"}}},
		"absolute file":      {"log: {level: file:/run/level}", map[string]any{"log": map[string]any{"level": "warn"}}},
		"dollar signs":       {"backend: {tls: {ca: /a$$b$c$$}}", map[string]any{"backend": map[string]any{"tls": map[string]any{"ca": "/a$b$c$"}}}},
		"path by the file":   {"backend: {tls: {ca: tls/ca.pem}}", map[string]any{"backend": map[string]any{"tls": map[string]any{"ca": "/etc/culvert/tls/ca.pem"}}}},
		"alias":              {"hosts: [&h grpc.example.com]\nbackend: {authority: *h}", map[string]any{"hosts": []string{"grpc.example.com"}, "backend": map[string]any{"authority": "grpc.example.com"}}},
		"one empty document": {"---\n", map[string]any{}},
	} {
		t.Run(name, func(t *testing.T) {
			doc, errs := parse(Options{}, fileKeys, fileName, []byte(c.file), small)
			if len(errs) > 0 || !reflect.DeepEqual(doc.values, c.want) {
				t.Errorf("%s\ngot  %#v %v\nwant %#v", c.file, doc.values, errs, c.want)
			}
		})
	}
}

// TestErrorsHideReferences: an error about a reference shows neither its value
// nor a part of it.
func TestErrorsHideReferences(t *testing.T) {
	secrets := []string{
		"hunter2", "hunter2/a", "https://hunter2", "https://hunter2/", "https://hunter2/x", "http://hunter2:80", "https://HUNTER2", "https://hünter2",
		"~hunter2", "~(hunter2", "~https://hunter2)", "~https://hunter2.a", "~https://[z-a]hunter2", "/hunter2/", "hunter2/", "fe80::4242", "4242", "-4242", "4242.5", "4242:4242:4242",
		"10.42.42.1/8", "::ffff:10.42.42.1/99", "::ffff:10.42.0.0/112", "hunter2:hunter2", ":hunter2", ":4242", "unix:hunter2", "a,hunter2", "hunter2@", "99999999999994242B", "99999999999999424242",
		"co.uk",
	}
	leak := regexp.MustCompile(`(?i)hunter|h.nter|42|co\.uk|z-a`)
	refused := 0
	var tables func(*table)
	tables = func(in *table) {
		for _, k := range in.keys {
			if k.entries != nil {
				tables(k.entries)
				continue
			}
			for _, secret := range secrets {
				for _, reference := range []string{"file:tok", "${TOK}"} {
					w := world{
						lookup: func(string) (string, bool) { return secret, true },
						read:   func(string) ([]byte, error) { return []byte(secret), nil },
					}
					p := &reader{document: &document{lines: map[string]int{}, referred: map[string]bool{}}, name: fileName, world: w}
					p.scalar(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: reference}, target{k, k.Name})
					for _, err := range p.errs {
						refused++
						if text := strings.ReplaceAll(err.Error(), fmt.Sprintf("%q", k.example()), ""); leak.MatchString(text) {
							t.Errorf("%s of %s, which is %q: %v", k.Name, reference, secret, err)
						}
					}
				}
			}
		}
	}
	tables(fileKeys)
	if refused < 1000 {
		t.Errorf("only %d values were refused", refused)
	}
}

// What parses, written again, must parse to the same.
func FuzzParse(f *testing.F) {
	f.Add("listen: 127.0.0.1:0\nbackend: {address: 'unix:///run/x', tls: {ca: \"a$$b\\u0007\", server_name: x}}\n")
	f.Add("allow_origins: [\"http://localhost:*\"]\ntrusted_proxies: [10.0.0.0/8]\nlimits: {calls: ${NONE:-7}}\n")
	f.Add("tls: {cert: a, key: b, client_ca: c, client_auth: optional, certificates: [{cert: f, key: g}]}\nlisten: [{address: ':1', mode: 660, tls: {cert: d, key: e}}, {address: ':2', tls: {enabled: false, client_auth: none, min_version: '1.3'}}]\n")
	f.Add("tls: {cert: a, key: b, certificates: [{cert: f, key: g}]}\nlisten: [{address: ':1', tls: {cert: a, key: b}}]\n")
	f.Add("log: &l {level: file:level}\nhealth: *l\n")
	f.Add("listen: :80\nlisten: :80\n")
	f.Add("future: {a: 1}\nlisten: [{address: ':1', colour: red}, {colour: blue}]\nlimits: {futures: [1]}\n")
	f.Add("trusted_proxies: [::1]\nlisten:\n- :80\n- {address: unix:/run/x, name: in, trusted_proxies: []}\n- &a {address: 'a$$b:1'}\n- *a\n")
	f.Add("a: &a [*a]\n---\n? - b\n")
	f.Add("path_prefix: !!binary L2E=\n\"null\": ~\n")
	root := readStruct(f)
	f.Fuzz(func(t *testing.T, data string) {
		first, ok := parsed(t, data)
		strict, errs := parse(Options{}, fileKeys, fileName, []byte(data), small)
		skipped, others := parse(Options{SkipUnknownKeys: true}, fileKeys, fileName, []byte(data), small)
		if len(others) == 0 && len(skipped.warnings) != len(errs) {
			t.Errorf("%q: %d mistakes, but %d keys to skip: %v, %q", data, len(errs), len(skipped.warnings), errs, skipped.warnings)
		}
		if ok && !reflect.DeepEqual(strict.values, skipped.values) {
			t.Errorf("%q is %v, and without unknown keys %v", data, strict.values, skipped.values)
		}
		if !ok {
			return
		}
		var printed bytes.Buffer
		if err := first.Print(&printed); err != nil {
			t.Fatal(err)
		}
		for _, again := range []string{uncommented(string(defaultsFile(root, &first.Config))), printed.String()} {
			if strings.Contains(again, hidden) {
				continue
			}
			if second, ok := parsed(t, again); !ok || !reflect.DeepEqual(first.Config, second.Config) {
				t.Errorf("%q is %+v\nwritten as\n%s\nit is %+v", data, first.Config, again, second.Config)
			}
		}
	})
}

func parsed(t *testing.T, data string) (Loaded, bool) {
	doc, errs := parse(Options{}, fileKeys, fileName, []byte(data), small)
	for _, err := range errs {
		if !strings.HasPrefix(err.Error(), fileName+":") {
			t.Errorf("%q: an error doesn't name the file: %v", data, err)
		}
	}
	if len(errs) > 0 {
		return Loaded{}, false
	}
	l := Loaded{File: fileName, origins: map[string]origin{}, derived: map[string]string{}}
	if err := l.merge(doc, nil); err != nil {
		t.Errorf("%q: %v", data, err)
	}
	return l, true
}

// TestUnknownKeysOfItsKind: the suggestion fits the value, and what culvert doesn't have is
// said.
func TestUnknownKeysOfItsKind(t *testing.T) {
	for data, want := range map[string]string{
		"backned:\n- name: a\n  address: a:1\n":          `unknown key "backned": did you mean "backends"?`,
		"backned: {address: a:1}\n":                      `unknown key "backned": did you mean "backend"?`,
		"backned: a:1\n":                                 `unknown key "backned": did you mean "backend"?`,
		"backnd:\n- a:1\n":                               `did you mean "backends"?`,
		"jwt: {issuer: x}\n":                             `unknown key "jwt": list the issuers`,
		"JWKS: x\n":                                      "auth.issuers",
		"tracing: {provider: x}\n":                       `unknown key "tracing": set otlp.endpoint`,
		"open_telemetry: {}\n":                           "set otlp.endpoint",
		"statsd: {listen: x}\n":                          "/metrics of health.listen",
		"cors: {origins: [x]}\n":                         "allow_origins",
		"rate_limits: {}\n":                              "limits has all limits",
		"rate-limit: {}\n":                               "limits has all limits",
		"clusters: []\n":                                 "backends",
		"http_filters: []\n":                             "no plugins",
		"cache: true\n":                                  "neither caches nor compresses",
		"routes: [{name: a, jwt: {issuer: x}}]\n":        "auth.issuers",
		"listen: [{address: ':1', access_log: true}]\n":  "a line in the log",
		"backend: {address: a:1, circuit_breaker: {}}\n": "no such thing",
		"listeners: [':1']\n":                            "in listen",
		"backend_tls: {}\n":                              `did you mean "backend.tls"?`,
		"admin_listen: a\n":                              `did you mean "admin.listen"?`,
		"jwtAuth: {}\n":                                  "auth.issuers",
		"limts: {}\n":                                    `did you mean "limits"?`,
	} {
		_, errs := parse(Options{}, fileKeys, fileName, []byte(data), small)
		if err := errors.Join(errs...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", data, err, want)
		}
	}
	for word := range wishes() {
		for _, k := range fileKeys.keys {
			if first, _, _ := strings.Cut(k.path, "."); plain(first) == word || plain(first) == word+"s" {
				t.Errorf("%s is said not to be, and is a key", word)
			}
		}
	}
}
