package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"testing"
	"time"
)

type schema = map[string]any

func schemaFile(root entry, c *Config) []byte {
	s := sectionSchema(root.children, c)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "culvert"
	s["description"] = "Configuration of culvert. Generated from its struct; docs/reference/configuration.md explains the same keys."
	s["type"] = "object"
	s["$defs"] = schema{"reference": schema{
		"description": "${NAME} or ${NAME:-default} of the environment, or file:/path",
		"type":        "string",
		"pattern":     `\$\{|^file:`,
	}}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// sectionSchema describes a section of the struct that of points to.
func sectionSchema(entries []entry, of any) schema {
	properties, needed := schema{}, []string{}
	for _, e := range entries {
		var s schema
		if e.key == nil {
			s = sectionSchema(e.children, of)
		} else {
			s = keySchema(e, of)
			if e.key.needed {
				needed = append(needed, e.name)
			}
			if e.key.unset != "" {
				s["default"] = e.key.unset
			}
			if e.key.like != "" || e.key.needed { // another key has the default, or nothing
				delete(s, "default")
			}
		}
		s["description"] = oneLine(e.doc)
		properties[e.name] = s
	}
	s := schema{"type": []string{"object", "null"}, "additionalProperties": false, "properties": properties}
	if len(needed) > 0 {
		s["required"] = needed
		s["type"] = "object"
	}
	return s
}

// entriesSchema describes a list of sections: as a list, or as the single
// value, which may also be an entry.
func entriesSchema(e entry, of any) schema {
	item := sectionSchema(e.children, newEntry(e))
	item["type"] = "object"
	if e.key.short == "" {
		return schema{"type": []string{"array", "null"}, "items": item, "maxItems": maxEntries}
	}
	single := schema{"type": "string", "minLength": 1}
	s := schema{"oneOf": []schema{single, {"type": "array", "items": schema{"oneOf": []schema{single, item}}, "maxItems": maxEntries}}}
	if short, ok := e.key.shortForm(e.key.text(reflect.ValueOf(of).Elem()).([]section)); ok {
		s["default"] = short
	}
	return s
}

func keySchema(e entry, of any) schema {
	if e.key.entries != nil {
		return entriesSchema(e, of)
	}
	if e.key.List {
		item := schema{"type": "string", "minLength": 1}
		if e.key.words != nil {
			item = schema{"anyOf": []schema{{"$ref": "#/$defs/reference"}, {"enum": e.key.words}}}
		}
		return schema{"type": []string{"array", "null"}, "items": item, "default": e.key.text(reflect.ValueOf(of).Elem())}
	}
	value := reflect.ValueOf(of).Elem().FieldByIndex(e.key.index)
	forms := []schema{{"$ref": "#/$defs/reference"}}
	byDefault := value.Interface()
	switch {
	case e.key.words != nil:
		forms = append(forms, schema{"enum": e.key.words})
	case e.of == reflect.TypeFor[bool]():
		forms = append(forms, schema{"type": "boolean"})
	case e.of == reflect.TypeFor[int]():
		least := 0
		if _, err := e.key.kind.parse("0"); err != nil {
			least = 1
		}
		forms = append(forms, schema{"type": "integer", "minimum": least, "maximum": maxNumber})
	case e.of == reflect.TypeFor[Size]():
		forms = append(forms, schema{"type": "integer", "minimum": 1}, schema{"type": "string", "pattern": e.key.kind.pattern})
		byDefault = fmt.Sprint(byDefault)
	case e.of == reflect.TypeFor[Ratio]():
		forms = append(forms, schema{"type": "number", "minimum": 0, "maximum": 1})
	case e.of == reflect.TypeFor[time.Duration]():
		forms = append(forms, schema{"const": 0}, schema{"type": "string", "pattern": e.key.kind.pattern})
		byDefault = shortDuration(e.key, fmt.Sprint(byDefault))
	default:
		return schema{"type": "string", "default": byDefault}
	}
	return schema{"anyOf": forms, "default": byDefault}
}

// TestSchemaPatternsAgreeWithTheParsers: the patterns of the schema accept the
// same values as culvert.
func TestSchemaPatternsAgreeWithTheParsers(t *testing.T) {
	for of, texts := range map[reflect.Type][]string{
		reflect.TypeFor[Size](): {
			"1", "1B", "16MiB", "16mb", "16M", "1.5GiB", "64 KiB", "1k", "-1", "", "MiB", "16 MiB ", "16MiBs", "1e3", "0x10", "16iB", "1,5M",
		},
		reflect.TypeFor[time.Duration](): {
			"30s", "1h30m", "500ms", "1.5h", ".5s", "0", "0s", "1us", "1µs", "", "30", "s", "5 m", "1d", "-1s", "1h-1m",
		},
		reflect.TypeFor[Ratio](): {
			"0", "1", "0.01", ".5", "1.0", "0.", "1.", "00.5", "1.1", "-0", "", ".", "1e-3", "0x1p-2", "NaN", "2", "0.5 ", "+1",
		},
	} {
		k := kindsByType[of]
		form := regexp.MustCompile(k.pattern)
		for _, s := range texts {
			_, err := k.parse(s)
			if got, want := form.MatchString(s), err == nil; got != want {
				t.Errorf("%v %q: pattern says %v, parser %v (%v)", of, s, got, want, err)
			}
		}
	}
}
