package config

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"testing"
)

// TestWholeIsWhatWasLoaded: from the texts of then, with the sources of all values, though
// the files and variables have changed.
func TestWholeIsWhatWasLoaded(t *testing.T) {
	clearEnvironment(t)
	t.Chdir(t.TempDir())
	t.Setenv("ORDERS", "orders:9000")
	t.Setenv("CULVERT_LOG_LEVEL", "debug")
	writeHere(t, "calls", "77\n")
	writeHere(t, "proxy.yaml", `
backend: {address: "${ORDERS}"}
limits: {calls: "file:calls"}
not_yet_known: 1
routes:
- {name: a, match: {hosts: [a.example.com]}, backend: default, timeout: 3s}
- {name: b, match: {methods: [b.B/*]}, backend: default, retry: {attempts: 2}}
`)
	loaded, err := Load(Options{SkipUnknownKeys: true}, "proxy.yaml", map[string]any{"health.listen": "off"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove("calls"), os.Unsetenv("ORDERS")); err != nil {
		t.Fatal(err)
	}
	writeHere(t, "proxy.yaml", "nothing: of this\n")

	compact := loaded.Compact()
	if compact.Routes != nil || compact.IsSet("routes[0].timeout") || !compact.IsSet("routes") || compact.Backend != loaded.Backend || !compact.FileSets() {
		t.Errorf("the compact configuration has routes %v, origins %v", compact.Routes, compact.origins)
	}
	whole := compact.Whole()
	if !reflect.DeepEqual(whole.Config, loaded.Config) || whole.Version() != loaded.Version() || Changed(whole, loaded) != nil {
		t.Errorf("whole again: %+v\nwant %+v", whole.Config, loaded.Config)
	}
	if !reflect.DeepEqual(whole.Warnings, loaded.Warnings) || !reflect.DeepEqual(whole.Files(), loaded.Files()) || len(whole.Warnings) == 0 {
		t.Errorf("warnings %q of files %q, want %q of %q", whole.Warnings, whole.Files(), loaded.Warnings, loaded.Files())
	}
	var a, b bytes.Buffer
	if whole.Print(&a) != nil || loaded.Print(&b) != nil || a.String() != b.String() {
		t.Errorf("printed:\n%s\nwant:\n%s", &a, &b)
	}
	if loaded.Routes == nil {
		t.Error("Compact has changed what it was called on")
	}
}
