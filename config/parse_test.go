package config

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
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
	_, errs := parse(fileName, []byte(data), small)
	lines := make([]string, len(errs))
	for i, err := range errs {
		lines[i] = strings.TrimPrefix(err.Error(), fileName)
	}
	return strings.Join(lines, "\n")
}

func TestMistakesInTheFileAreNamedByLine(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"unknown key":        {"listen: :80\n\nlimts:\n  calls: 5\n", `:3: unknown key "limts": did you mean "limits"?`},
		"unknown key inside": {"limits:\n  message_size: 1MiB\n", `:2: unknown key "message_size": did you mean "message_bytes"?`},
		"camel case":         {"allowOrigins: []\n", `:1: unknown key "allowOrigins": did you mean "allow_origins"?`},
		"other case":         {"Listen: :80\n", `:1: unknown key "Listen": did you mean "listen"?`},
		"other level":        {"message_bytes: 1MiB\n", `:1: unknown key "message_bytes": did you mean "limits.message_bytes"?`},
		"nothing near":       {"log:\n  xyzzy: 1\n", `:2: unknown key "xyzzy": level, format can stand here`},
		"merge key":          {"log: {<<: {level: info}}\n", `:1: unknown key "<<": level, format can stand here`},
		"dotted key":         {"backend.tls.ca: x\n", `:1: key "backend.tls.ca" holds a dot: write tls.ca below backend, indented`},
		"empty key":          {"\"\": 1\n", `:1: unknown key "": listen, tls, backend, allow_origins, enforce_origins, hosts, path_prefix, methods, trusted_proxies, trusted_header, proxy_protocol, metadata, errors, limits, http2_server, drain_timeout, health, log can stand here`},
		"twice":              {"listen: :80\nlog: {}\nlisten: :81\n", `:3: key "listen" stands twice, first in line 1: remove one`},
		"section twice":      {"log: {level: info}\nlog: {format: json}\n", `:2: key "log" stands twice, first in line 1: remove one`},
		"key of a mapping":   {"? {a: b}\n: c\n", `:1: a key is no word`},
		"section is a value": {"limits: 5\n", `:1: limits holds keys of its own, not a value: write them below it, indented`},
		"value is a section": {"drain_timeout:\n  port: 80\n", `:2: drain_timeout is one value: write drain_timeout: 30s`},
		"list is a section":  {"listen:\n  port: 80\n", `:2: listen is a list: begin each entry with a dash, its keys indented below, or write one value: listen: ":8080"`},
		"value is a list":    {"drain_timeout: [5s]\n", `:1: drain_timeout is one value: write drain_timeout: 30s`},
		"list is a value":    {"allow_origins: https://a.example\n", `:1: allow_origins is a list: write ["https://app.example.com"]`},
		"list in a list":     {"hosts: [[a]]\n", `:1: an entry of hosts is one value: write "grpc.example.com"`},
		"no value":           {"listen:\nlog: {level: ~}\n", ":1: listen has no value: write one, or remove the line\n:2: log.level has no value: write one, or remove the line"},
		"no value in list":   {"hosts: [~]\n", `:1: hosts has no value: write one, or remove the line`},
		"file is a list":     {"- listen\n", `:1: the file holds no keys: write "listen: :8080"`},
		"file is a word":     {"listen\n", `:1: the file holds no keys: write "listen: :8080"`},
		"two documents":      {"listen: :80\n---\nlisten: :81\n", `:2: a second document begins here: keep one, without "---"`},
		"own tag":            {"listen: !secret x:1\n", `:1: the tag !secret means nothing here: remove it`},
		"a tab":              {"backend:\n\taddress: x:1\n", `:2: a tab indents this line, which YAML doesn't allow: use blanks`},
		"a tab further down": {"listen: :80\nlog:\n  level: info\n\tformat: json\n", `:4: a tab indents this line, which YAML doesn't allow: use blanks`},
		"no YAML":            {"listen: :80\n  log: {\n", `:2: no YAML: mapping values are not allowed in this context`},
		"no text":            {"listen: \x01\n", `: no YAML: control characters are not allowed`},
		"alias of itself":    {"backend: &b\n  tls: *b\n", `:2: unknown key "tls": enabled, ca, cert, key, server_name can stand here`},
		"unset variable":     {"log:\n  level: ${LEVLE}\n", `:2: log.level: ${LEVLE} is not set in the environment: set it, or write ${LEVLE:-default}`},
		"open reference":     {"log: {level: '${LEVEL'}\n", `:1: log.level: "${" lacks its "}": write ${NAME}, or $$ for a dollar sign`},
		"bad reference":      {"log: {level: '${A B}'}\n", `:1: log.level: ${A B} is no name of a variable: write ${NAME} or ${NAME:-default}`},
		"missing file":       {"log: {level: file:nothing}\n", `:1: log.level: /etc/culvert/nothing: no such file or directory`},
		"secret isn't shown": {"log: {level: '${SECRET}'}\n", `:1: log.level: "${SECRET}" is none of debug, info, warn, error`},
		"reference's value is not expanded": {
			"log: {level: '${NESTED}'}\nerrors: ${REF}\n",
			":1: log.level: \"${NESTED}\" is none of debug, info, warn, error\n:2: errors: \"${REF}\" is none of concise, detailed",
		},
		"all at once": {
			"listen: 8080\nlimits:\n  calls: -1\n  message_bytes: 16 apples\nlog: {level: warning}\nbackend: {keepalive: 30}\n",
			`:1: listen: "8080" lacks a colon: write ":8080"
:3: limits.calls: "-1" is below zero: write 0 or more
:4: limits.message_bytes: "16 apples" is no size: write a number with its unit, as 64KiB or 16MiB
:5: log.level: "warning" is none of debug, info, warn, error: did you mean "warn"?
:6: backend.keepalive: "30" lacks its unit: write 30s for seconds`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problems(c.file); got != c.want {
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
			doc, errs := parse(fileName, []byte(c.file), small)
			if len(errs) > 0 || !reflect.DeepEqual(doc.values, c.want) {
				t.Errorf("%s\ngot  %#v %v\nwant %#v", c.file, doc.values, errs, c.want)
			}
		})
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
	f.Add("trusted_proxies: [::1]\nlisten:\n- :80\n- {address: unix:/run/x, name: in, trusted_proxies: []}\n- &a {address: 'a$$b:1'}\n- *a\n")
	f.Add("a: &a [*a]\n---\n? - b\n")
	f.Add("path_prefix: !!binary L2E=\n\"null\": ~\n")
	root := readStruct(f)
	f.Fuzz(func(t *testing.T, data string) {
		first, ok := parsed(t, data)
		if !ok {
			return
		}
		again := exampleFile(root, &first)
		if bytes.Contains(again, []byte(`: "file:`)) {
			return // only ${X:-file:…} can mean such a text, and nothing writes that
		}
		if second, ok := parsed(t, string(again)); !ok || !reflect.DeepEqual(first, second) {
			t.Errorf("%q is %+v\nwritten as\n%s\nit is %+v", data, first, again, second)
		}
	})
}

func parsed(t *testing.T, data string) (Config, bool) {
	doc, errs := parse(fileName, []byte(data), small)
	for _, err := range errs {
		if !strings.HasPrefix(err.Error(), fileName+":") {
			t.Errorf("%q: an error doesn't name the file: %v", data, err)
		}
	}
	if len(errs) > 0 {
		return Config{}, false
	}
	l := Loaded{File: fileName, origins: map[string]origin{}}
	if err := l.merge(doc, nil); err != nil {
		t.Errorf("%q: %v", data, err)
	}
	return l.Config, true
}
