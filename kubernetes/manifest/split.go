package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
)

// A document is one document of a stream, with the marker before it.
type document struct {
	line    int    // of its first byte in the stream
	marker  []byte // the line with ---, and what stands before it; empty in front of the first
	body    []byte
	json    bool       // it is JSON, which is read and written as such
	root    *yaml.Node // nil: it has no content
	changed bool
}

// split splits a stream at the lines that begin with "---". In YAML such a line is
// never part of a text: https://yaml.org/spec/1.2.2/#912-document-markers
// The documents, joined, are the stream.
func split(text []byte) []*document {
	docs := []*document{{line: 1}}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if marker, rest := isMarker(line); marker {
			docs = append(docs, &document{line: n})
			d := docs[len(docs)-1]
			if rest {
				d.body = append(d.body, line...)
			} else {
				d.marker = line
			}
			continue
		}
		d := docs[len(docs)-1]
		d.body = append(d.body, line...)
	}
	return docs
}

// Join returns manifests as one: the documents of each, in order.
func Join(texts ...[]byte) []byte {
	var all bytes.Buffer
	for i, text := range texts {
		if i > 0 {
			if b := all.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
				all.WriteByte('\n')
			}
			line, _, _ := bytes.Cut(text, []byte("\n"))
			if marker, _ := isMarker(line); !marker {
				all.WriteString("---\n")
			}
		}
		all.Write(text)
	}
	return all.Bytes()
}

// isMarker reports whether a document begins in the line, and whether the line has
// content of it.
func isMarker(line []byte) (marker, content bool) {
	rest, found := bytes.CutPrefix(line, []byte("---"))
	if !found || len(rest) > 0 && !bytes.ContainsRune([]byte(" \t\r\n"), rune(rest[0])) {
		return false, false
	}
	rest = bytes.TrimSpace(rest)
	return true, len(rest) > 0 && rest[0] != '#'
}

// blank reports whether there is nothing but comments and directives.
func blank(body []byte) bool {
	for line := range bytes.Lines(body) {
		line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte("\ufeff")))
		if len(line) > 0 && line[0] != '#' && line[0] != '%' && !bytes.Equal(line, []byte("...")) {
			return false
		}
	}
	return true
}

func (d *document) parse() error {
	if blank(d.body) {
		return nil
	}
	if d.json = json.Valid(d.body); d.json {
		return d.parseJSON()
	}
	var root yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(d.body))
	if err := decoder.Decode(&root); err != nil {
		return err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end: begin each document with ---")
	}
	d.setRoot(&root)
	return nil
}

func (d *document) setRoot(root *yaml.Node) {
	if len(root.Content) == 1 && root.Content[0].Kind == yaml.MappingNode {
		d.root = root
	}
}

// write writes the document: the bytes that came, or the changed tree. The tree has
// the comments, and each value as it was spelled.
func (d *document) write(to *bytes.Buffer) error {
	to.Write(d.marker)
	if !d.changed {
		to.Write(d.body)
		return nil
	}
	if content, _ := isMarker(d.body); content {
		to.WriteString("---\n")
	}
	out, err := d.encoded()
	if err != nil {
		return fmt.Errorf("document at line %d: %w", d.line, err)
	}
	if !bytes.HasSuffix(d.body, []byte("\n")) {
		out = bytes.TrimRight(out, "\n")
	}
	if bytes.Contains(d.body, []byte("\r\n")) {
		out = bytes.ReplaceAll(out, []byte("\n"), []byte("\r\n"))
	}
	to.Write(out)
	return nil
}

// encoded returns the changed tree as text, which has the same values when it is read.
func (d *document) encoded() ([]byte, error) {
	var text bytes.Buffer
	if err := d.encode(&text); err != nil {
		return nil, err
	}
	if d.reads(text.Bytes()) == nil {
		return text.Bytes(), nil
	}
	// The encoder makes mistakes in folded texts with indented lines.
	unfold(d.root)
	text.Reset()
	if err := d.encode(&text); err != nil {
		return nil, err
	}
	return text.Bytes(), d.reads(text.Bytes())
}

// reads returns an error unless the text has the values of the tree.
func (d *document) reads(text []byte) error {
	again := &document{body: text}
	if err := again.parse(); err != nil {
		return fmt.Errorf("it can't be changed safely as it is written: %w", err)
	}
	var want, got any
	if err := errors.Join(d.root.Decode(&want), again.root.Decode(&got)); err != nil {
		return err
	}
	if !reflect.DeepEqual(got, want) {
		return errors.New("it can't be changed safely as it is written: write texts in quotes or behind |, and aliases out")
	}
	return nil
}

// unfold writes folded texts (>) in the literal form (|).
func unfold(n *yaml.Node) {
	if n.Style&yaml.FoldedStyle != 0 {
		n.Style = n.Style&^yaml.FoldedStyle | yaml.LiteralStyle
	}
	for _, c := range n.Content {
		unfold(c)
	}
}

func (d *document) encode(to *bytes.Buffer) error {
	if d.json {
		var text bytes.Buffer
		if err := writeJSON(&text, d.root.Content[0]); err != nil {
			return err
		}
		if bytes.Contains(bytes.TrimSpace(d.body), []byte("\n")) {
			second := bytes.SplitN(d.body, []byte("\n"), 3)[1]
			blanks := second[:len(second)-len(bytes.TrimLeft(second, " \t"))] // in front of the first key
			return errors.Join(json.Indent(to, text.Bytes(), "", string(blanks)), to.WriteByte('\n'))
		}
		to.Write(append(text.Bytes(), '\n'))
		return nil
	}
	encoder := yaml.NewEncoder(to)
	encoder.SetIndent(2)
	if compactLists(d.root) {
		encoder.CompactSeqIndent()
	}
	return errors.Join(encoder.Encode(d.root), encoder.Close())
}

// compactLists reports whether the lists of a document begin at the column of their
// keys. The first list decides.
func compactLists(n *yaml.Node) bool {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if value.Kind == yaml.SequenceNode && value.Style&yaml.FlowStyle == 0 && value.Line > key.Line {
				return value.Column == key.Column
			}
		}
	}
	return slices.ContainsFunc(n.Content, compactLists)
}
