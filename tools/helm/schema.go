package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	// schemaSource is the part of the schema that is written by hand.
	schemaSource = "values.schema.json"
	// proxySchema is about culvert's configuration, which is the value gateway.config.
	proxySchema = "../../docs/proxy.schema.json"
)

// valuesSchema makes the schema that Helm checks values with. It adds two things to the
// part that is written by hand.
//
//   - culvert's configuration, so that Helm refuses a mistake before a pod does.
//   - No key of values.yaml may be missing. Somebody who sets a key to null, or who
//     upgrades with --reuse-values, would get a broken manifest.
func valuesSchema() ([]byte, error) {
	root, err := readTree(schemaSource)
	if err != nil {
		return nil, err
	}
	proxy, err := readTree(proxySchema)
	if err != nil {
		return nil, err
	}
	definitions := root["definitions"].(map[string]any)
	for name, d := range proxy["$defs"].(map[string]any) {
		definitions[name] = bare(d)
	}
	definitions["proxy"] = map[string]any{
		"type": "object", "additionalProperties": false, "properties": bareEach(proxy["properties"].(map[string]any)),
	}
	values, err := readTree(chart + "/values.yaml")
	if err != nil {
		return nil, err
	}
	if err := require(root, root, values); err != nil {
		return nil, fmt.Errorf("%s%w", schemaSource, err)
	}
	return encode(root)
}

// encode returns the schema as people can compare it.
func encode(root map[string]any) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(root)
	return text.Bytes(), err
}

func readTree(file string) (tree map[string]any, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return tree, nil
}

var errUnknown = errors.New("the schema doesn't know this key of values.yaml")

// require requires the keys of the values, and of the sections in them, unless the
// schema itself says what is required. An object without keys in the schema is the
// operator's own.
func require(root, node, values map[string]any) error {
	node = resolve(root, node)
	properties, ok := node["properties"].(map[string]any)
	if !ok || len(values) == 0 {
		return nil
	}
	_, says := node["required"]
	for key, value := range values {
		property, ok := properties[key].(map[string]any)
		if !ok {
			return fmt.Errorf(".%s: %w", key, errUnknown)
		}
		if section, ok := value.(map[string]any); ok {
			if err := require(root, property, section); err != nil {
				return fmt.Errorf(".%s%w", key, err)
			}
		}
	}
	if !says {
		node["required"] = slices.Sorted(maps.Keys(values))
	}
	return nil
}

// resolve returns the definition that a node refers to, or the node.
func resolve(root, node map[string]any) map[string]any {
	name, ok := node["$ref"].(string)
	if !ok {
		return node
	}
	return root["definitions"].(map[string]any)[strings.TrimPrefix(name, "#/definitions/")].(map[string]any)
}

// bare returns a schema without what only people read: Helm keeps the schema in the
// cluster with each release. Its references lead to definitions, as those of the chart.
func bare(schema any) any {
	switch schema := schema.(type) {
	case []any:
		all := make([]any, len(schema))
		for i, s := range schema {
			all[i] = bare(s)
		}
		return all
	case map[string]any:
		b := map[string]any{}
		for keyword, value := range schema {
			switch keyword {
			case "description", "default":
			case "properties":
				b[keyword] = bareEach(value.(map[string]any))
			case "$ref":
				b[keyword] = strings.Replace(value.(string), "$defs", "definitions", 1)
			default:
				b[keyword] = bare(value)
			}
		}
		return b
	}
	return schema
}

// bareEach makes the schemas of properties bare, whatever names these have.
func bareEach(properties map[string]any) map[string]any {
	b := make(map[string]any, len(properties))
	for name, s := range properties {
		b[name] = bare(s)
	}
	return b
}
