package docs

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// names are what the program knows, by kind.
type names struct {
	flags, keys, variables, reasons, targets []string
	attributes                               []string // of log lines
	metrics                                  []string // and their labels
	tests                                    map[string]bool
	literals                                 map[string]bool // the strings in the program's code, log messages among them
}

func readNames(t testing.TB) names {
	t.Helper()
	n := names{tests: map[string]bool{}, literals: map[string]bool{}}
	for _, command := range []string{"serve", "demo", "validate", "version", "healthcheck", "drain", "calls", "top", "dial", "call", "doctor", "routes explain", "keys new"} {
		help, err := output(t, root, append(append([]string{culvertProgram}, strings.Fields(command)...), "--help")...)
		if err != nil {
			t.Fatalf("%v\n%s", err, help)
		}
		n.flags = append(n.flags, regexp.MustCompile(`--[a-z-]+`).FindAllString(help, -1)...)
	}
	needKube(t, "culvert-kube")
	for _, command := range []string{"inject", "uninject", "check", "webhook"} {
		n.flags = append(n.flags, regexp.MustCompile(`--[a-z-]+`).FindAllString(wantOK(t, "culvert-kube "+command+" --help"), -1)...)
	}
	n.readKeys(t)
	attribute := regexp.MustCompile(`"([a-z_]+)":`)
	for _, p := range readPages(t) {
		for _, b := range p.blocks {
			if strings.HasPrefix(b.language, "json") { // log lines, each held to a real one, and the admin address' answers
				for _, m := range attribute.FindAllStringSubmatch(b.text, -1) {
					n.attributes = append(n.attributes, m[1])
				}
			}
		}
		if p.path == "docs/reference/metrics.md" || p.path == "docs/reference/culvert-kube.md" { // their tables have names
			for _, l := range p.prose {
				for _, m := range tableName.FindAllStringSubmatch(l.text, -1) {
					n.metrics = append(n.metrics, m[1])
				}
			}
		}
		if p.path == "docs/reference/log.md" { // held to the program by a test of telemetry
			for _, l := range p.prose {
				if cells := strings.Split(l.text, "|"); len(cells) > 2 {
					for _, m := range codeSpan.FindAllStringSubmatch(cells[1], -1) {
						n.attributes = append(n.attributes, m[1])
					}
				}
			}
		}
		if p.path == "docs/reference/errors.md" { // made from the program's table, and held to it
			for _, h := range p.headings {
				n.reasons = append(n.reasons, strings.ToUpper(h.anchor))
			}
		}
	}
	n.reasons = append(n.reasons, clientReasons(t)...)
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z0-9-]+):`).FindAllStringSubmatch(string(makefile), -1) {
		n.targets = append(n.targets, m[1])
	}
	n.readCode(t)
	return n
}

// clientReasons are the reasons of the statuses that package client makes.
func clientReasons(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "client", "internal", "webcall", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, file := range files {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`&fault\{[\w.]+, "([A-Z_]+)", `).FindAllStringSubmatch(string(code), -1) {
			reasons = append(reasons, m[1])
		}
	}
	if len(reasons) < 5 {
		t.Errorf("client/internal/webcall has the reasons %q: what is looked for has changed", reasons)
	}
	return reasons
}

// TestEveryReasonOfTheClientIsExplained holds the table of docs/clients/go-client.md to the
// code.
func TestEveryReasonOfTheClientIsExplained(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "clients", "go-client.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range clientReasons(t) {
		if !strings.Contains(string(page), "\n| `"+reason+"` | ") {
			t.Errorf("docs/clients/go-client.md has no row for %s", reason)
		}
	}
}

// readKeys takes the keys from the schema, which is made from the program's own
// struct and held to it.
func (n *names) readKeys(t testing.TB) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "proxy.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	type schema struct {
		Properties map[string]json.RawMessage
		Items      json.RawMessage // of a list
	}
	var walk func(prefix string, raw []byte)
	walk = func(prefix string, raw []byte) {
		var s schema
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		for name, inner := range s.Properties {
			n.keys = append(n.keys, prefix+name)
			n.variables = append(n.variables, "CULVERT_"+strings.ToUpper(strings.ReplaceAll(prefix+name, ".", "_")))
			walk(prefix+name+".", inner)
		}
		if s.Items != nil {
			walk(prefix, s.Items)
		}
	}
	walk("", text)
	n.variables = append(n.variables, "CULVERT_CONFIG", "CULVERT_", "CULVERT_DIAL", "CULVERT_BIN") // the last is the tests'
}

// readCode takes the names of all tests and fuzz targets, of the scenarios that every
// transport passes, and the strings in the program's code.
func (n *names) readCode(t testing.TB) {
	literal := regexp.MustCompile(`"((?:[^"\\\n]|\\.)*)"`)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)
	scenarios := regexp.MustCompile(`(?ms)^var \w+ = \[\]scenario\{$.*?^\}$`)
	scenario := regexp.MustCompile(`(?m)^\t\{"([^"]+)", `)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "node_modules":
			return fs.SkipDir
		case filepath.Ext(path) != ".go":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range function.FindAllStringSubmatch(string(text), -1) {
			n.tests[m[1]] = true
		}
		if !strings.HasSuffix(path, "_test.go") && !strings.HasPrefix(path, filepath.Join(root, "e2e")) {
			for _, m := range literal.FindAllStringSubmatch(string(text), -1) {
				n.literals[m[1]] = true
			}
		}
		if strings.Contains(path, "bridgetest") {
			for _, m := range scenario.FindAllStringSubmatch(strings.Join(scenarios.FindAllString(string(text), -1), "\n"), -1) {
				n.tests[m[1]] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// foreign are names of other programs that look like culvert's, and whose they are.
var foreign = map[string]string{
	"TCP_USER_TIMEOUT": "Linux", "TCP_INFO": "Linux", "TCP_RTO_MAX_MS": "Linux", "RST_STREAM": "HTTP/2", "REFUSED_STREAM": "HTTP/2",
	"x_forwarded_for": "CGI", "stop_grace_period": "Compose", "--no-healthcheck": "Docker", "--stop-timeout": "Docker", "--add-host": "Docker",
	"HTTPS_PROXY": "many", "HTTP_PROXY": "many", "NO_PROXY": "many", "SSL_CERT_FILE": "many", "NODE_USE_ENV_PROXY": "Node", "NODE_EXTRA_CA_CERTS": "Node",
	"LISTEN_FDS": "systemd", "LISTEN_PID": "systemd", "NOTIFY_SOCKET": "systemd", "SO_REUSEPORT": "Linux",
	"request_headers_to_remove": "OPA", "response_headers_to_add": "OPA",
	"instance_uid": "OpAMP", "rule_files": "Prometheus",
	"proxy_read_timeout": "nginx", "grpc_read_timeout": "nginx", "worker_shutdown_timeout": "nginx", "underscores_in_headers": "nginx", "ignore_invalid_headers": "nginx", "worker_connections": "nginx", "worker_rlimit_nofile": "nginx",
	"flush_interval": "Caddy", "stream_close_delay": "Caddy", "stream_timeout": "Caddy", "read_timeout": "Caddy", "read_body": "Caddy", "write_timeout": "Caddy",
	"--enable-ssl-passthrough": "ingress-nginx",

	"--enable-feature":            "Prometheus",
	"OTEL_EXPORTER_OTLP_ENDPOINT": "OpenTelemetry", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "OpenTelemetry", "OTEL_EXPORTER_OTLP_PROTOCOL": "OpenTelemetry",
	"OTEL_EXPORTER_OTLP_HEADERS": "OpenTelemetry", "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "OpenTelemetry", "OTEL_EXPORTER_OTLP_CERTIFICATE": "OpenTelemetry",
	"OTEL_EXPORTER_OTLP_COMPRESSION": "OpenTelemetry", "OTEL_EXPORTER_OTLP_TIMEOUT": "OpenTelemetry", "OTEL_METRIC_EXPORT_INTERVAL": "OpenTelemetry",
	"OTEL_TRACES_EXPORTER": "OpenTelemetry", "OTEL_METRICS_EXPORTER": "OpenTelemetry", "OTEL_LOGS_EXPORTER": "OpenTelemetry",
	"OTEL_SERVICE_NAME": "OpenTelemetry", "OTEL_RESOURCE_ATTRIBUTES": "OpenTelemetry", "OTEL_SDK_DISABLED": "OpenTelemetry",
	"OTEL_TRACES_SAMPLER": "OpenTelemetry", "OTEL_TRACES_SAMPLER_ARG": "OpenTelemetry", "always_on": "OpenTelemetry", "always_off": "OpenTelemetry",
	"grpc_proxy": "gRPC", "https_proxy": "many", "no_grpc_proxy": "gRPC", "no_proxy": "many",
	"use_downstream_protocol_config": "Envoy", "http_protocol_options": "Envoy", "stream_idle_timeout": "Envoy",
	"round_robin": "gRPC", "least_request": "gRPC", "pick_first": "gRPC",
	"--output":           "curl",
	"nf_conntrack_count": "Linux", "nf_conntrack_max": "Linux", "ip_local_port_range": "Linux",
	"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "gRPC", "REQUESTS_CA_BUNDLE": "Python", "CURL_CA_BUNDLE": "curl", "--cacert": "curl", "--cert": "curl", "--key": "curl",
}

// othersWords are the words in a page's configurations of other programs.
func othersWords(p page) map[string]bool {
	words := map[string]bool{}
	for _, b := range p.blocks {
		if slices.Contains([]string{"nginx", "haproxy", "caddyfile"}, b.language) {
			for _, word := range strings.Fields(b.text) {
				words[word] = true
			}
		}
	}
	return words
}

var (
	codeSpan   = regexp.MustCompile("`([^`]+)`")
	isFlag     = regexp.MustCompile(`^--[a-z][a-z0-9-]*$`)
	isVariable = regexp.MustCompile(`^CULVERT_\w*$`)
	isReason   = regexp.MustCompile(`^[A-Z]+(_[A-Z]+)+$`)
	isKey      = regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)+$`)
	isSnake    = regexp.MustCompile(`^[a-z]+(_[a-z]+)+$`)
	isTest     = regexp.MustCompile(`^(Test|Fuzz)[A-Z]\w*$`)
	tableName  = regexp.MustCompile("^\\| `([a-z_]+)` \\|")
	isTarget   = regexp.MustCompile(`^make ([a-z-]+)$`)
)

// gRPC's codes look like reasons.
var codeNames = []string{
	"INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "OUT_OF_RANGE", "DATA_LOSS",
}

// logged is a message of the log in a page.
var logged = regexp.MustCompile("\\b(?:logs?|log says|log lines?) `([^`]+)`")

// TestNamesExist holds what the documents name to what there is: culvert's flags,
// keys, variables, reasons and log messages, make's targets, and tests. The benchmarks
// read the log, too.
func TestNamesExist(t *testing.T) {
	known := readNames(t)
	used := map[string]bool{}
	for _, p := range readPages(t) {
		others := othersWords(p)
		for _, l := range p.prose {
			text := l.text
			if strings.HasPrefix(p.path, "docs/guides/from-") && strings.HasPrefix(text, "|") {
				_, text, _ = strings.Cut(text[1:], "|") // the first column is the other program's
			}
			for _, m := range logged.FindAllStringSubmatch(text, -1) {
				if !known.literals[m[1]] {
					t.Errorf("%s:%d: %s: no such log message", p.path, l.number, m[1])
				}
			}
			for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
				word, _, _ := strings.Cut(m[1], " ")
				if scenario, is := strings.CutPrefix(m[1], "TestConformance/"); is && !known.tests[scenario] {
					t.Errorf("%s:%d: %s: no such scenario", p.path, l.number, m[1])
				}
				if strings.HasPrefix(m[1], "make ") {
					word = m[1]
				}
				word, _, _ = strings.Cut(word, "=")
				if _, is := foreign[word]; is {
					used[word] = true
				} else if kind := known.lacks(word); kind != "" && !others[word] {
					t.Errorf("%s:%d: %s: no such %s", p.path, l.number, m[1], kind)
				}
			}
		}
	}
	code, err := os.ReadFile(filepath.Join(root, "e2e", "bench", "reload.go"))
	if err != nil {
		t.Fatal(err)
	}
	messages := regexp.MustCompile(`(?m)^\tlogged\w+ += "(.+)"$`).FindAllStringSubmatch(string(code), -1)
	if len(messages) == 0 {
		t.Error("e2e/bench/reload.go has no log messages")
	}
	for _, m := range messages {
		if !known.literals[m[1]] {
			t.Errorf("e2e/bench/reload.go: %s: no such log message", m[1])
		}
	}
	for word := range foreign {
		if !used[word] {
			t.Errorf("no page names %s: remove it from the foreign names", word)
		}
	}
}

// lacks returns what kind of name a word is, if the program doesn't have it.
func (n names) lacks(word string) string {
	missing := func(kind string, all []string, name string) string {
		if slices.Contains(all, name) {
			return ""
		}
		return kind
	}
	switch m := isTarget.FindStringSubmatch(word); {
	case m != nil:
		return missing("target", n.targets, m[1])
	case isFlag.MatchString(word):
		return missing("flag", n.flags, word)
	case isVariable.MatchString(word):
		return missing("variable", n.variables, word)
	case isReason.MatchString(word):
		return missing("reason", append(n.reasons, codeNames...), word)
	case isKey.MatchString(word) && slices.Contains(n.keys, word[:strings.IndexByte(word, '.')]):
		return missing("key", n.keys, word)
	case isSnake.MatchString(word):
		if slices.ContainsFunc(n.keys, func(k string) bool { return k == word || strings.HasSuffix(k, "."+word) }) {
			return ""
		}
		return missing("key, attribute, metric or label", slices.Concat(n.attributes, n.metrics), word)
	case isTest.MatchString(word) && !n.tests[word]:
		return "test"
	}
	return ""
}

var isCommandOfOurs = regexp.MustCompile(`^culvert(-kube)? `)

// TestCommandsInTheTextAreUnderstood holds each command of culvert's that stands in
// a line of text to what culvert takes: a wrong flag is told before its help is.
func TestCommandsInTheTextAreUnderstood(t *testing.T) {
	n := 0
	for _, p := range readPages(t) {
		for _, l := range p.prose {
			for _, m := range codeSpan.FindAllStringSubmatch(l.text, -1) {
				command := strings.Replace(m[1], "go run ./cmd/culvert ", "culvert ", 1)
				if !isCommandOfOurs.MatchString(command) {
					continue
				}
				n++
				needKube(t, command)
				if text, err := output(t, root, "bash", "-c", command+" --help"); err != nil {
					t.Errorf("%s:%d: %s: %v\n%s", p.path, l.number, m[1], err, text)
				}
			}
		}
	}
	if n == 0 {
		t.Error("no line has a command: what is looked for has changed")
	}
}
