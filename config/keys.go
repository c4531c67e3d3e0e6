package config

import (
	"fmt"
	"reflect"
	"strings"
)

// A Key is one setting.
type Key struct {
	Name string // its path in the file: "backend.tls.ca"
	Env  string // its variable; "" for a list, which a variable can't hold
	Flag string // its flag without dashes; "" if it has none
	List bool   // whether it holds any number of values

	kind  kind
	words []string // the only values, if they are words
	index []int    // its field in Config
	file  bool     // whether its value is a path
}

// Check says what is wrong with text as a value of k, nil if nothing is.
func (k Key) Check(text string) error {
	if _, err := k.kind.parse(text); err != nil {
		return fmt.Errorf("%q %w", text, err)
	}
	return nil
}

// Words returns the only values that k can have, nil if it isn't bound to a
// few words.
func (k Key) Words() []string { return k.words }

// Default returns the default as a flag's help shows it, "" for none.
func (k Key) Default() string {
	defaults := Defaults()
	if text, ok := k.text(&defaults).(string); ok {
		return text
	}
	return ""
}

// Bool says whether k is either true or false.
func (k Key) Bool() bool { return !k.List && k.kind.name == kindsByType[reflect.TypeFor[bool]()].name }

// Keys returns every key, in the order of the struct. The caller must not
// change it.
func Keys() []Key { return keys }

var (
	keys       = keysOf(reflect.TypeFor[Config](), "", nil)
	keysByName = byName(keys)
	sections   = sectionsOf(keys)
)

// keysOf walks the struct. That a field's tags are right is held by tests, so
// what can't be read is a bug.
func keysOf(t reflect.Type, prefix string, index []int) []Key {
	var all []Key
	for i := range t.NumField() {
		field := t.Field(i)
		name := join(prefix, field.Tag.Get("key"))
		at := append(index[:len(index):len(index)], i)
		if field.Type.Kind() == reflect.Struct { // a section: no value is one
			all = append(all, keysOf(field.Type, name, at)...)
		} else {
			all = append(all, keyOf(field, name, at))
		}
	}
	return all
}

func keyOf(field reflect.StructField, name string, index []int) Key {
	k := Key{
		Name:  name,
		Env:   variable(name),
		Flag:  field.Tag.Get("flag"),
		index: index,
		file:  field.Tag.Get("is") == "file",
	}
	t := field.Type
	if t.Kind() == reflect.Slice {
		k.List, k.Env, t = true, "", t.Elem()
	}
	switch words, is := field.Tag.Get("one"), field.Tag.Get("is"); {
	case words != "":
		k.words = strings.Split(words, ",")
		k.kind = oneOf(k.words)
	case is != "":
		k.kind = kindsByTag[is]
	default:
		k.kind = kindsByType[t]
	}
	if k.kind.parse == nil {
		panic("BUG: config: no kind for " + name)
	}
	return k
}

func byName(keys []Key) map[string]Key {
	m := make(map[string]Key, len(keys))
	for _, k := range keys {
		m[k.Name] = k
	}
	return m
}

// sectionsOf returns what stands before the dots of names.
func sectionsOf(keys []Key) map[string]bool {
	m := map[string]bool{"": true}
	for _, k := range keys {
		for i, c := range k.Name {
			if c == '.' {
				m[k.Name[:i]] = true
			}
		}
	}
	return m
}

// variable is the name of a key in the environment.
func variable(name string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}
