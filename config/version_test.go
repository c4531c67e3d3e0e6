package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestVersionAndChangedKeys(t *testing.T) {
	clearEnvironment(t)
	const base = "listen: [{address: \":1\"}, {address: \":2\", tls: {cert: /a.pem, key: /a.key}}]\nhosts: [a.example]\n"
	from := loadText(t, base)
	for _, c := range []struct{ name, text, changed string }{
		{"same", base, ""},
		{"comments, order and defaults", "# A comment\nhosts: [a.example] # b\n" + base[:strings.Index(base, "hosts")] + "errors: concise\n", ""},
		{"a word", base + "errors: detailed\n", "errors"},
		{"an entry of a list of words", strings.ReplaceAll(base, "a.example", "b.example"), "hosts"},
		{"a key of an entry", strings.ReplaceAll(base, "\":2\"", "\":3\""), "listen[1].address"},
		{"a key of a section of an entry", strings.ReplaceAll(base, "/a.key", "/b.key"), "listen[1].tls.key"},
		{"an inherited key", base + "trusted_proxies: [10.0.0.0/8]\n", "trusted_proxies"},
		{"an entry less", "listen: [{address: \":1\"}]\nhosts: [a.example]\n", "listen"},
		{"several", base + "errors: detailed\nlog: {level: debug}\n", "errors log.level"},
	} {
		to := loadText(t, c.text)
		if got := strings.Join(Changed(from, to), " "); got != c.changed {
			t.Errorf("%s: changed %q, want %q", c.name, got, c.changed)
		}
		if got, want := from.Version() == to.Version(), c.changed == ""; got != want {
			t.Errorf("%s: the same version: %v, want %v", c.name, got, want)
		}
	}
	const route = "backend: {address: \"b:1\"}\nroutes: [{name: a, backend: default}]\n"
	unset, empty := loadText(t, route), loadText(t, strings.Replace(route, "default}", "default, allow_origins: []}", 1))
	if got := Changed(unset, empty); !slices.Equal(got, []string{"routes[0].allow_origins"}) || unset.Version() == empty.Version() {
		t.Errorf("an empty list in place of none: changed %q; the same version: %v", got, unset.Version() == empty.Version())
	}
	if v := from.Version(); len(v) != versionDigits {
		t.Errorf("version %q has %d digits, want %d", v, len(v), versionDigits)
	}
}

// TestEveryKeyIsInTheVersion sets each key with a single value to another one.
func TestEveryKeyIsInTheVersion(t *testing.T) {
	clearEnvironment(t)
	seen := map[string]string{(&Loaded{Config: Defaults()}).Version(): "the defaults"}
	for _, k := range Keys() {
		if k.entries != nil && k.short == "" {
			continue // Changed names them, above
		}
		l := &Loaded{Config: Defaults(), origins: map[string]origin{}}
		value := any(k.example())
		switch {
		case k.List:
			value = []string{k.example()}
		case k.words != nil && k.words[len(k.words)-1] == k.Default():
			value = k.words[0]
		case k.Bool():
			value = map[string]string{"true": "false", "false": "true"}[k.Default()]
		}
		field := reflect.ValueOf(&l.Config).Elem()
		if err := k.set(field, value); err != nil {
			t.Fatalf("%s: %v", k.Name, err)
		}
		defaults := &Loaded{Config: Defaults(), origins: map[string]origin{}}
		if len(Changed(defaults, l)) == 0 {
			continue // the example is the default
		}
		if before, twice := seen[l.Version()]; twice {
			t.Errorf("%s: the version is that of %s", k.Name, before)
		}
		seen[l.Version()] = k.Name
	}
	if len(seen) < len(Keys())/2 {
		t.Errorf("only %d of %d keys were tried", len(seen), len(Keys()))
	}
}

// TestLoadAgainReadsOnlyWholeRegularFiles: a reload must neither hang nor take
// a file that is being written.
func TestLoadAgainReadsOnlyWholeRegularFiles(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	good := filepath.Join(dir, "good.yaml")
	if err := os.WriteFile(good, []byte("errors: detailed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Load(Options{RegularFiles: true}, good, nil); err != nil || l.Errors != "detailed" || !l.FileSets() {
		t.Errorf("a regular file: %v, %v", l.Errors, err)
	}
	reference := filepath.Join(dir, "reference.yaml")
	if err := os.WriteFile(reference, []byte("errors: file:.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{dir: "not a regular file", os.DevNull: "not a regular file", reference: "reference.yaml:1: errors: " + dir + ": not a regular file"} {
		if _, err := Load(Options{RegularFiles: true}, file, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}

// A grownFile grows when somebody reads it.
type grownFile struct {
	*os.File
	grow func()
}

func (f grownFile) Read(p []byte) (int, error) {
	f.grow()
	return f.File.Read(p)
}

func TestFileThatChangesWhileItIsRead(t *testing.T) {
	for name, change := range map[string]func(file string) error{
		"longer":  func(file string) error { return os.WriteFile(file, []byte("errors: concise\nhosts: []\n"), 0o600) },
		"shorter": func(file string) error { return os.Truncate(file, 1) },
		"as long": func(file string) error { return os.Chtimes(file, time.Time{}, time.Unix(1, 0)) },
		"":        func(string) error { return nil },
	} {
		file := write(t, "proxy.yaml", "errors: concise\n")
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }() // only read
		grow := func() {
			if err := change(file); err != nil {
				t.Fatal(err)
			}
		}
		if data, err := readStill(file, grownFile{f, grow}); (err == nil) != (name == "") || err != nil && !strings.Contains(err.Error(), "somebody wrote to the file") {
			t.Errorf("a file that becomes %q: %q, %v", name, data, err)
		}
	}
}

func TestFilesOfAConfiguration(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"a.yaml": "errors: file:errors\nlog: {level: file:level}\n", "errors": "concise", "level": "debug", "empty.yaml": "# nothing\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	l, err := Load(Options{}, at("a.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l.Files(), []string{at("a.yaml"), at("errors"), at("level")}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := os.Remove(at("level")); err != nil {
		t.Fatal(err)
	}
	if l, err := Load(Options{}, at("a.yaml"), nil); err == nil || !slices.Equal(l.Files(), []string{at("a.yaml"), at("errors"), at("level")}) {
		t.Errorf("with a file that is missing: %q, %v", l.Files(), err)
	}
	if l, err := Load(Options{}, at("empty.yaml"), nil); err != nil || l.FileSets() {
		t.Errorf("a file of comments sets keys: %v, %v", l.FileSets(), err)
	}
}

// TestUnknownKeysCanBeSkipped: an older version reads a newer file. It takes every
// key that it knows, and all other mistakes remain.
func TestUnknownKeysCanBeSkipped(t *testing.T) {
	clearEnvironment(t)
	file := write(t, "proxy.yaml", "errors: detailed\nfuture: {a: [1, {b: c}]}\nlimits: {calls: 7, futures: 3}\nlisten: [{address: \":1\", colour: red}]\n")
	if _, err := Load(Options{}, file, nil); err == nil || strings.Count(err.Error(), "unknown key") != 3 {
		t.Errorf("without the option: %v, want 3 unknown keys", err)
	}
	l, err := Load(Options{SkipUnknownKeys: true}, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.Errors != "detailed" || l.Limits.Calls != 7 || l.Listen[0].Address != ":1" {
		t.Errorf("known keys are lost: %+v", l.Config)
	}
	for i, want := range []string{":2: culvert ignores the unknown key \"future\"", ":3: culvert ignores the unknown key \"futures\"", ":4: culvert ignores the unknown key \"colour\""} {
		if !strings.HasPrefix(l.Warnings[i], file+want) {
			t.Errorf("warning %d is %q, want %q", i, l.Warnings[i], want)
		}
	}
	file = write(t, "wrong.yaml", "future: 1\nerrors: none\nlog: 3\n")
	l, err = Load(Options{SkipUnknownKeys: true}, file, nil)
	if err == nil || strings.Count(err.Error(), "\n") != 1 || len(l.Warnings) != 1 {
		t.Errorf("a wrong file: %v, warnings %q", err, l.Warnings)
	}
}

func TestKeysThatNeedARestart(t *testing.T) {
	for name, want := range map[string]bool{
		"log.level": false, "log.format": true, "listen": true, "listen[0].address": true, "listen[2].limits.calls": false, "listen[0].limits.calls_per_connection": false,
		"tls.cert": false, "tls.client_ca": true, "tls.certificates": false, "tls.certificates[1].cert": false, "listen[1].tls.certificates[0].client_ca": true,
		"tls.acme.domains": true, "tls.acme.eab.key_id": true, "tls.acme.dns_settings[0].value": true, "limits.methods[3].calls": false, "backends[1].tls.ca": false,
	} {
		if got := NeedsRestart(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
