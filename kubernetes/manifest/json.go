package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parseJSON reads a document in JSON. The parser of YAML doesn't know all of JSON, such as
// surrogate pairs ("\ud83d\ude00"), and folds some characters that JSON keeps (U+0085).
func (d *document) parseJSON() error {
	r := &jsonReader{decoder: json.NewDecoder(bytes.NewReader(d.body)), body: d.body, line: 1}
	r.decoder.UseNumber()
	value, err := r.read()
	if err != nil {
		return err
	}
	d.setRoot(&yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{value}})
	return nil
}

// A jsonReader reads values as trees, with their lines.
type jsonReader struct {
	decoder *json.Decoder
	body    []byte
	offset  int // up to where line counts
	line    int
}

func (r *jsonReader) read() (*yaml.Node, error) {
	token, err := r.decoder.Token()
	if err != nil {
		return nil, err
	}
	end := int(r.decoder.InputOffset())
	r.line += bytes.Count(r.body[r.offset:end], []byte("\n"))
	r.offset = end
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: r.line}
	switch v := token.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if v == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		for r.decoder.More() { // keys are values, too
			child, err := r.read()
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err := r.decoder.Token() // its end
		return n, err
	case string:
		n.Tag, n.Style, n.Value = "!!str", yaml.DoubleQuotedStyle, v
	case json.Number:
		n.Tag, n.Value = "!!int", v.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", fmt.Sprint(v)
	default:
		n.Tag, n.Value = "!!null", "null"
	}
	return n, nil
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
