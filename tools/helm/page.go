package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

const pageHeader = `# Values of the Helm chart

For operators who install culvert with Helm. This page is generated from ` + "`deploy/kubernetes/chart/values.yaml`" + `.

` + "`helm install culvert deploy/kubernetes/chart --namespace culvert-system --create-namespace`" + ` installs the injector. Install
it once in a cluster. The chart can also install a gateway. For a second gateway, install another release with ` + "`injector.enabled=false`" + `.

`

const pageFooter = `
Next: [Kubernetes](../guides/kubernetes.md), [configuration](configuration.md), [reload](../guides/reload.md).
`

// valuesPage makes the page about the values from their comments.
func valuesPage(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var general, sections bytes.Buffer
	general.WriteString(tableHead)
	for key, value := range entries(document.Content[0]) {
		about := comment(key)
		if about == "" {
			return nil, fmt.Errorf("%s:%d: %s has no comment", file, key.Line, key.Value)
		}
		if !documented(value) {
			general.WriteString(row(key.Value, value, about))
			continue
		}
		fmt.Fprintf(&sections, "\n## %s\n\n%s\n\n%s", key.Value, about, tableHead)
		if err := rows(&sections, key.Value, value); err != nil {
			return nil, fmt.Errorf("%s:%w", file, err)
		}
	}
	return []byte(pageHeader + general.String() + sections.String() + pageFooter), nil
}

const tableHead = "| value | default | meaning |\n|---|---|---|\n"

// rows writes a row for each value of a section, and of the sections in it.
func rows(out *bytes.Buffer, path string, section *yaml.Node) error {
	for key, value := range entries(section) {
		about, name := comment(key), path+"."+key.Value
		if about == "" {
			return fmt.Errorf("%d: %s has no comment", key.Line, name)
		}
		if !documented(value) {
			out.WriteString(row(name, value, about))
			continue
		}
		fmt.Fprintf(out, "| `%s` |  | %s |\n", name, about)
		if err := rows(out, name, value); err != nil {
			return err
		}
	}
	return nil
}

func row(name string, value *yaml.Node, about string) string {
	var v any
	_ = value.Decode(&v) // it was parsed
	text, _ := json.Marshal(v)
	return fmt.Sprintf("| `%s` | `%s` | %s |\n", name, text, about)
}

// entries yields the keys and values of a mapping.
func entries(mapping *yaml.Node) func(func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			if !yield(mapping.Content[i], mapping.Content[i+1]) {
				return
			}
		}
	}
}

// documented reports whether the value is a section, whose keys have comments of their
// own. Others, such as resources, are in one row.
func documented(value *yaml.Node) bool {
	if value.Kind != yaml.MappingNode {
		return false
	}
	for key := range entries(value) {
		if comment(key) != "" {
			return true
		}
	}
	return false
}

// comment returns the comment above a key, in one line. The file's own comment is apart
// from it by a blank line.
func comment(key *yaml.Node) string {
	paragraphs := strings.Split(key.HeadComment, "\n\n")
	var words []string
	for line := range strings.Lines(paragraphs[len(paragraphs)-1]) {
		words = append(words, strings.Fields(strings.TrimLeft(line, "#"))...)
	}
	return strings.ReplaceAll(strings.Join(words, " "), "|", `\|`)
}
