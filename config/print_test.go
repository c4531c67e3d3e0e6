package config

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPrintNamesEverySource: the output says where each value came from, hides
// secrets, and is a file of the same effect.
func TestPrintNamesEverySource(t *testing.T) {
	clearEnvironment(t)
	t.Chdir(t.TempDir())
	t.Setenv("ORDERS", "orders:9000")
	t.Setenv("CULVERT_LOG_LEVEL", "debug")
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("calls", "hunter1\n")
	write("limit", "77\n")
	write("proxy.yaml", `
listen:
- :8443
- address: unix:/run/x
  mode: "0660"
  tls: {enabled: false}
- address: :9443
  tls: {certificates: [{cert: /a, key: /b}]}
  trusted_proxies: []
tls:
  cert: /c
  key: /k
  acme:
    domains: [a.example.com]
    storage: /s
    eab: {key_id: me, hmac_key: hunter2}
    dns_provider: cloudflare
    dns_settings: [{name: token, value: hunter3}]
backend:
  address: ${ORDERS}
  tls: {ca: /ca}
trusted_proxies: [10.0.0.0/8]
allow_origins: ['~https://x\.example\.com$$']
metadata: {vouched: ["file:calls"]}
limits: {calls: "file:limit"}
`)
	flags := map[string]any{"health.listen": "off", "methods.allow": []string{"a.B/*", "a.C/*"}}
	l, err := Load(Options{}, "proxy.yaml", flags)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := l.Print(&out); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		`listen: # proxy.yaml:2 - address: ":8443" # proxy.yaml:3 # inherits tls.cert, tls.key, tls.min_version, trusted_proxies, trusted_header`,
		`- address: "unix:/run/x" # proxy.yaml:4 mode: 0660 # proxy.yaml:5 tls: enabled: false # proxy.yaml:6 # inherits tls.cert,`,
		`certificates: # proxy.yaml:8 - cert: "/a" # proxy.yaml:8 key: "/b" # proxy.yaml:8 trusted_proxies: [] # proxy.yaml:9 # inherits tls.min_version, trusted_header tls: cert:`,
		`key_id: me # proxy.yaml:16 hmac_key: "(hidden)" # proxy.yaml:16`,
		`- name: token # proxy.yaml:18 value: "(hidden)" # proxy.yaml:18`,
		`address: "(hidden)" # proxy.yaml:20`,
		`#enabled: true # derived: backend.tls.ca is set`,
		`#min_version: 1.2 # default`,
		`allow_origins: ["~https://x\\.example\\.com$$"] # proxy.yaml:23`,
		`vouched: ["(hidden)"] # proxy.yaml:24`,
		`calls: "(hidden)" # proxy.yaml:25`,
		`allow: ["a.B/*", "a.C/*"] # --allow-method`,
		`#slow_consumer_timeout: 5m # default`,
		`#drain_timeout: 20s # default #drain_spread: 5s # default health: listen:`,
		`listen: "" # --health-listen`,
		`level: debug # CULVERT_LOG_LEVEL`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the output lacks %s", want)
		}
	}
	if strings.Contains(text, "hunter") || strings.Contains(text, "77") || strings.Contains(text, "orders") {
		t.Error("the output has a secret")
	}
	if t.Failed() {
		t.Logf("the output:\n%s", &out)
	}
}

// TestPrintedFileLoads: without secrets, the output loads to the same values,
// the same warnings and the same set keys, and with all its comments removed it
// has every key.
func TestPrintedFileLoads(t *testing.T) {
	clearEnvironment(t)
	for name, file := range map[string]string{
		"nothing":               "",
		"a socket":              "listen: [{address: 'unix:/run/x', mode: '0660'}]",
		"entries":               "listen: [':80', {address: ':443', trusted_proxies: [], tls: {self_signed: true}}]\nlimits: {methods: [{pattern: 'a.B/*', calls: 5}]}\nbackend: {resolve_interval: 2m}",
		"dollars":               `{path_prefix: /a, hosts: [a.example.com], tls: {cert: /a$$b, key: "/a\"b"}}`,
		"memory":                "limits: {memory: 96MiB}",
		"much memory":           "limits: {memory: 4GiB}",
		"little memory":         "limits: {memory: 33MiB}",
		"memory and bytes":      "limits: {memory: 96MiB, buffered_bytes: 32MiB}",
		"limit of calls":        "limits: {calls: 10}",
		"address limits":        "limits: {calls: 10, address: {calls: 20}}",
		"default address":       "listen: ':8080'",
		"health":                "health: {listen: '127.0.0.1:9901'}",
		"derived":               "backend: {tls: {ca: /ca}}",
		"empty lists":           "hosts: []\nlimits: {methods: []}\ntls: {acme: {}}",
		"text like a reference": "allow_origins: ['${NONE:-file:}//x']\nbackend: {address: '${NONE:-file:}9000'}",
		"deep section":          "metadata:\ntls: {acme: {eab: {key_id: me}, domains: [a.example.com], storage: /s}}",
	} {
		t.Run(name, func(t *testing.T) {
			first := loadText(t, file)
			var out bytes.Buffer
			if err := first.Print(&out); err != nil {
				t.Fatal(err)
			}
			again := loadText(t, out.String())
			if !reflect.DeepEqual(first.Config, again.Config) {
				t.Errorf("got  %+v\nwant %+v\nprinted as\n%s", again.Config, first.Config, &out)
			}
			if got, want := setKeys(again), setKeys(first); !slices.Equal(got, want) {
				t.Errorf("the output sets %q, want %q:\n%s", got, want, &out)
			}
			if got, want := warningsWithoutPlaces(again), warningsWithoutPlaces(first); !slices.Equal(got, want) {
				t.Errorf("the output has the warnings %q, want %q:\n%s", got, want, &out)
			}
			all, _ := parse(Options{}, fileKeys, fileName, []byte(uncommented(out.String())), small)
			for _, k := range fileKeys.keys {
				if _, ok := all.lines[k.Name]; !ok {
					t.Errorf("the output lacks %s:\n%s", k.Name, &out)
				}
			}
		})
	}
}

// loadText loads a file with the text, which must be valid.
func loadText(t *testing.T, text string) *Loaded {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Load(Options{}, path, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return l
}

func setKeys(l *Loaded) []string { return slices.Sorted(maps.Keys(l.origins)) }

var placeOfWarning = regexp.MustCompile(`\S*proxy\.yaml:[0-9]+: `)

func warningsWithoutPlaces(l *Loaded) []string {
	var warnings []string
	for _, w := range l.Warnings {
		warnings = append(warnings, placeOfWarning.ReplaceAllString(w, ""))
	}
	return warnings
}

// TestPrintShowsTheBytesInEffect: under a memory limit, the default of
// limits.buffered_bytes isn't in effect.
func TestPrintShowsTheBytesInEffect(t *testing.T) {
	clearEnvironment(t)
	for file, want := range map[string]string{
		"":                               "#buffered_bytes: 256MiB # default; lower if GOMEMLIMIT or the container limits the memory",
		"limits: {memory: 120MiB}":       "#buffered_bytes: 33280KiB # default, lowered to what limits.memory allows",
		"limits: {buffered_bytes: 1GiB}": "buffered_bytes: 1GiB # ",
	} {
		var out bytes.Buffer
		if err := loadText(t, file).Print(&out); err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(text, " "+want) {
			t.Errorf("%q is printed without %q:\n%s", file, want, &out)
		}
	}
}

// TestPrintedPathsAreAbsolute: the file may be saved in another directory.
func TestPrintedPathsAreAbsolute(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("CULVERT_TLS_CERT", "file:/run/c.pem")
	file := "tls: {key: sub/k.pem, client_ca: ca.pem, crls: [a.crl, /b.crl]}\nlisten: [{address: ':1', tls: {cert: own.pem, key: own.key}}]\n"
	if err := os.WriteFile("proxy.yaml", []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := Load(Options{}, "proxy.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := first.Print(&out); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CULVERT_TLS_CERT", "")
	again := loadText(t, out.String())
	for got, want := range map[string]string{
		again.TLS.Cert:           "file:/run/c.pem",
		again.TLS.Key:            "sub/k.pem",
		again.TLS.ClientCA:       "ca.pem",
		again.TLS.CRLs[0]:        "a.crl",
		again.Listen[0].TLS.Cert: "own.pem",
		again.Listen[0].TLS.Key:  "own.key",
	} {
		if want = filepath.Join(dir, want); got != want {
			t.Errorf("the output names %s, want %s:\n%s", got, want, &out)
		}
	}
	if got := again.TLS.CRLs[1]; got != "/b.crl" {
		t.Errorf("the output names %s, want /b.crl", got)
	}
}

func TestPrintHidesSecretsInEveryForm(t *testing.T) {
	clearEnvironment(t)
	for name, c := range map[string]struct {
		file  string
		flags map[string]any
		want  string
	}{
		"a single value for a list":  {"listen: file:SECRET", nil, `listen: "(hidden)"`},
		"the single entry of a list": {"listen: ['file:SECRET']", nil, `listen: "(hidden)"`},
		"an entry":                   {"listen: [{address: 'file:SECRET', name: a}]", nil, `address: "(hidden)"`},
		"a flag replaces the file":   {"listen: file:SECRET", map[string]any{"listen": ":2"}, `listen: ":2" # --listen`},
		"a query": {
			"tls: {acme: {domains: [a.example.com], storage: /s, directory: 'https://ca.example.com/dir?token=10.77.0.1'}}", nil,
			`directory: "https://ca.example.com/dir?(hidden)"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"SECRET": "10.77.0.1:80\n", "proxy.yaml": c.file} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l, err := Load(Options{}, filepath.Join(dir, "proxy.yaml"), c.flags)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := l.Print(&out); err != nil {
				t.Fatal(err)
			}
			if text := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(text, c.want) || strings.Contains(text, "10.77") {
				t.Errorf("the output has a secret, or lacks %s:\n%s", c.want, &out)
			}
		})
	}
}

// TestPrintCommentsOutBytes: YAML reads "\xff" as the character U+00FF.
func TestPrintCommentsOutBytes(t *testing.T) {
	clearEnvironment(t)
	l, err := Load(Options{}, "", map[string]any{"tls.cert": "/a\xff", "tls.key": "/k"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := l.Print(&out); err != nil {
		t.Fatal(err)
	}
	if text, want := strings.Join(strings.Fields(out.String()), " "), `#cert: "/a\xff" # --tls-cert, not UTF-8, so a file can't hold it`; !strings.Contains(text, want) {
		t.Errorf("the output lacks %s:\n%s", want, &out)
	}
}

// TestReferencesAreHidden: what comes from a variable or a file may be a secret, in every
// place that a value can have.
func TestReferencesAreHidden(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("s3cret.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SECRET", "s3cret.example")
	t.Setenv("EMPTY", "")
	for _, reference := range []string{"${SECRET}", "${SECRET:-other.example}", "file:secret", "file:${SECRETS_NAME}"} {
		t.Setenv("SECRETS_NAME", "secret")
		for name, file := range map[string]string{
			"a value":                  "backend: {address: a:1, authority: '@'}",
			"a part of a value":        "backend: {address: 'dns:///@:9000'}",
			"a list":                   "hosts: [grpc.example.com, '@']",
			"metadata of a condition":  "backend: {address: a:1}\nroutes: [{name: r, backend: default, match: {metadata: [{name: x-key, value: '@'}]}}, {name: s, backend: default}]",
			"metadata that is set":     "backend: {address: a:1}\nroutes: [{name: r, backend: default, metadata: {set: [{name: x-key, value: 'Bearer @'}]}}]",
			"a list of a route":        "backend: {address: a:1}\nroutes: [{name: r, backend: default, match: {hosts: ['@']}}]",
			"an entry of a list":       "backends: [{name: a, address: a:1, tls: {server_name: '@'}}]",
			"a URL":                    "fallback: 'http://@:80'",
			"an only entry in short":   "listen: 'unix:/@'",
			"an entry in short":        "listen: ['127.0.0.1:1', 'unix:/@']",
			"an only entry, in a list": "listen: ['unix:/@']",
			"a file":                   "backend: {address: a:1, descriptors: '/run/@'}",
		} {
			if strings.HasPrefix(reference, "file:") && !strings.Contains(file, "'@'") {
				continue // it must be the whole value
			}
			path := filepath.Join(dir, "proxy.yaml")
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(file, "@", reference)), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := Load(Options{}, path, nil)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for what, l := range map[string]*Loaded{"as loaded": l, "compact": l.Compact().Whole()} {
				var out bytes.Buffer
				if err := l.Print(&out); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(out.String(), "s3cret") || !strings.Contains(out.String(), hidden) {
					t.Errorf("%s by %s, %s:\n%s", name, reference, what, &out)
				}
			}
		}
	}
	var out bytes.Buffer
	if err := loadText(t, "hosts: ['${NONE:-a.example}', '${EMPTY:-b.example}']").Print(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "hosts: [a.example, b.example") {
		t.Errorf("defaults are in the file itself, and hidden:\n%s", &out)
	}
}
