package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parseJSON reads a document in JSON. The parser of YAML doesn't know all of JSON, such
// as surrogate pairs ("\ud83d\ude00").
func (d *document) parseJSON() error {
	decoder := json.NewDecoder(bytes.NewReader(d.body))
	decoder.UseNumber()
	value, err := readJSON(decoder)
	if err != nil {
		return err
	}
	d.setRoot(&yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{value}})
	return nil
}

// readJSON reads one value as a tree.
func readJSON(from *json.Decoder) (*yaml.Node, error) {
	token, err := from.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if v == '{' {
			n = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		}
		for from.More() { // keys are values, too
			child, err := readJSON(from)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err := from.Token() // its end
		return n, err
	case string:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: v}, nil
	case json.Number:
		tag := "!!int"
		if strings.ContainsAny(v.String(), ".eE") {
			tag = "!!float"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: v.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(v)}, nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
}

// jsonIndent returns the blanks in front of the first key.
func jsonIndent(body []byte) string {
	lines := bytes.SplitN(body, []byte("\n"), 3)
	blanks := lines[1][:len(lines[1])-len(bytes.TrimLeft(lines[1], " \t"))]
	return string(blanks)
}

// writeJSON writes the tree of a JSON text. Numbers keep their digits.
func writeJSON(to *bytes.Buffer, n *yaml.Node) error {
	switch n.Kind {
	case yaml.MappingNode:
		to.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				to.WriteByte(',')
			}
			if err := writeString(to, n.Content[i].Value); err != nil {
				return err
			}
			to.WriteByte(':')
			if err := writeJSON(to, n.Content[i+1]); err != nil {
				return err
			}
		}
		to.WriteByte('}')
	case yaml.SequenceNode:
		to.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				to.WriteByte(',')
			}
			if err := writeJSON(to, item); err != nil {
				return err
			}
		}
		to.WriteByte(']')
	case yaml.ScalarNode:
		if n.ShortTag() == "!!str" {
			return writeString(to, n.Value)
		}
		to.WriteString(n.Value)
	default:
		return fmt.Errorf("line %d: JSON has no such value", n.Line)
	}
	return nil
}

func writeString(to *bytes.Buffer, s string) error {
	encoder := json.NewEncoder(to)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		return err
	}
	to.Truncate(to.Len() - 1) // the line break of Encode
	return nil
}
