package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const pageHeader = `# Values of the Helm chart

For operators who install culvert with Helm. This page is generated from ` + "`deploy/kubernetes/chart/values.yaml`" + `.

` + "`helm install culvert deploy/kubernetes/chart --namespace culvert-system --create-namespace`" + ` installs the injector,
once in a cluster. For another gateway, install another release with ` + "`injector.enabled=false`" + `.

The pods of both have ` + "`podLabels`, `podAnnotations`, `priorityClassName`, `nodeSelector`, `tolerations`, `affinity` and `topologySpreadConstraints`" + `
as in Kubernetes. By default they run on Linux, prefer different nodes, and spread across zones where possible.

`

// ofPods are values that the head of the page explains.
var ofPods = []string{"podLabels", "podAnnotations", "priorityClassName", "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"}

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
	rows := rowWriter{}
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
		repeated, err := rows.write(&sections, key.Value, value)
		if err != nil {
			return nil, fmt.Errorf("%s:%w", file, err)
		}
		if repeated != nil {
			fmt.Fprintf(&sections, "\nAs the values of the same names above: `%s`.\n", strings.Join(repeated, "`, `"))
		}
	}
	return []byte(pageHeader + general.String() + sections.String() + pageFooter), nil
}

const tableHead = "| value | default | meaning |\n|---|---|---|\n"

// rowWriter has the rows of earlier sections, without the sections' names.
type rowWriter map[string]bool

// write writes a row for each value of a section, and of the sections in it. It returns
// the values that an earlier section has with the same default and meaning.
func (w rowWriter) write(out *bytes.Buffer, path string, section *yaml.Node) (repeated []string, err error) {
	for key, value := range entries(section) {
		about, name := comment(key), path+"."+key.Value
		switch {
		case about == "":
			return nil, fmt.Errorf("%d: %s has no comment", key.Line, name)
		case slices.Contains(ofPods, key.Value): // the head has them
		case documented(value):
			inner, err := w.section(out, name, about, value)
			if err != nil {
				return nil, err
			}
			repeated = append(repeated, inner...)
		case w.known(name, value, about):
			repeated = append(repeated, name)
		default:
			out.WriteString(row(name, value, about))
		}
	}
	return repeated, nil
}

// section writes the rows of a section in a section. It has a row of its own, unless its
// first value turns it on.
func (w rowWriter) section(out *bytes.Buffer, name, about string, section *yaml.Node) (repeated []string, err error) {
	first := section.Content[0]
	if first.Value != "enabled" {
		fmt.Fprintf(out, "| `%s` |  | %s |\n", name, about)
		return w.write(out, name, section)
	}
	about = strings.TrimSpace(about + strings.TrimPrefix(comment(first), "Make it."))
	if name += ".enabled"; w.known(name, section.Content[1], about) {
		repeated = []string{name}
	} else {
		out.WriteString(row(name, section.Content[1], about))
	}
	rest := *section
	rest.Content = section.Content[2:]
	others, err := w.write(out, strings.TrimSuffix(name, ".enabled"), &rest)
	return append(repeated, others...), err
}

// known reports whether an earlier section has this value, and notes it.
func (w rowWriter) known(name string, value *yaml.Node, about string) bool {
	_, inSection, _ := strings.Cut(name, ".")
	text := row(inSection, value, about)
	known := w[text]
	w[text] = true
	return known
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
