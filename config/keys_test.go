package config

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestErrorsHidePasswords: an error about a wrong value shows no user name or password
// in it, whatever the key, and wherever the value comes from.
func TestErrorsHidePasswords(t *testing.T) {
	values := []string{
		"http://hunter1:hunter2@localhost:3000", "https://hunter1:hunter2@localhost", "hunter1:hunter2@127.0.0.1:9000", "grpc://hunter1:hunter2@localhost", "hunter2@a b",
		"http://hunter1:a@hunter2@localhost", "http://hunter1:hunter2/x@localhost", "http://hunter1:a://hunter2@localhost", "hunter1:a://hunter2@localhost:1:2", "~https://hunter1:hunter2@(",
		"${NONE:-http://hunter1:hunter2@localhost:3000}", "${no name:-http://hunter1:hunter2@localhost}",
	}
	refused := 0
	var tables func(*table)
	tables = func(in *table) {
		for _, k := range in.keys {
			if k.entries != nil {
				tables(k.entries)
				continue
			}
			for _, value := range values {
				doc := document{lines: map[string]int{}, referred: map[string]bool{}}
				p := &reader{document: &doc, name: fileName, world: world{lookup: func(string) (string, bool) { return "", false }}}
				p.scalar(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}, target{k, k.Name})
				if err := k.Check(value); err != nil { // of a variable or a flag
					p.errs = append(p.errs, err)
				}
				for _, err := range p.errs {
					refused++
					if text := err.Error(); strings.Contains(text, "hunter") {
						t.Errorf("%s, which is %q: %v", k.Name, value, err)
					}
				}
			}
		}
	}
	tables(fileKeys)
	if refused < 1000 {
		t.Errorf("only %d values were refused", refused)
	}
	want := `"http://(hidden)@localhost:3000" … user name or a password … write a value such as "http://localhost:3000"`
	if err := fileKeys.key("fallback").Check(values[0]); err == nil || !says(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}
