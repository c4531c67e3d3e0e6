package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// A section has the values that a source sets in one entry of a list of
// sections, by their paths in the table. A value is a string, a []string or a
// []section. An unset key has no value; an empty list is a value.
type section map[string]any

// maxEntries limits a list of sections, and maxAllEntries all lists of a file: with
// aliases, a small file could have more entries than fit into memory.
const (
	maxEntries    = 10_000
	maxAllEntries = 100_000
)

// Entry returns the name of an entry in a list, for IsSet and Errorf:
// "listen[1]".
func Entry(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

// shortForm returns the single value that stands for the whole list, if there
// is one.
func (k Key) shortForm(list []section) (text string, ok bool) {
	if k.short == "" || len(list) != 1 || len(list[0]) != 1 {
		return "", false
	}
	text, ok = list[0][k.short].(string)
	return text, ok
}

// longForm returns the value of a source as a list of sections.
func (k Key) longForm(value any) ([]section, error) {
	switch v := value.(type) {
	case []section:
		return v, nil
	case string:
		if k.short != "" {
			return []section{{k.short: v}}, nil
		}
	}
	return nil, fmt.Errorf("%T is no list of sections", value)
}

func (k Key) setEntries(field reflect.Value, list []section) error {
	if len(list) == 0 && k.path == k.Name { // an empty list stays nil, as in Defaults
		field.SetZero()
		return nil
	}
	entries := reflect.MakeSlice(field.Type(), len(list), len(list))
	for i, given := range list {
		k.entries.setDefaults(entries.Index(i))
		for _, e := range k.entries.keys {
			value, ok := given[e.path]
			if !ok {
				continue
			}
			if err := e.set(entries.Index(i), value); err != nil {
				return fmt.Errorf("%s.%s: %w", Entry(k.path, i), e.path, err)
			}
		}
	}
	field.Set(entries)
	return nil
}

// setDefaults gives a new entry the defaults of the file's keys that mean the same.
func (t *table) setDefaults(entry reflect.Value) {
	defaults := Defaults()
	of := reflect.ValueOf(&defaults).Elem()
	for _, e := range t.keys {
		if e.same != "" {
			entry.FieldByIndex(e.index).Set(of.FieldByIndex(fileKeys.key(e.same).index))
		}
	}
}

// entriesText is the inverse of setEntries and inherit. It returns the values
// of each entry that are neither defaults nor inherited.
func (k Key) entriesText(of reflect.Value) []section {
	field := of.FieldByIndex(k.index)
	list := make([]section, field.Len())
	for i := range list {
		entry, inherited := field.Index(i), func(e Key) reflect.Value { return of.FieldByIndex(fileKeys.key(e.like).index) }
		own := map[string]bool{} // groups: what sets one of its keys inherits none of the others
		for _, e := range k.entries.keys {
			if e.group != "" && !sameValue(entry.FieldByIndex(e.index), inherited(e)) {
				own[e.group] = true
			}
		}
		list[i] = section{}
		unset := reflect.New(entry.Type()).Elem()
		k.entries.setDefaults(unset)
		for _, e := range k.entries.keys {
			value := entry.FieldByIndex(e.index)
			byItself := unset.FieldByIndex(e.index)
			if e.like != "" && !own[e.group] {
				byItself = inherited(e)
			}
			if !sameValue(value, byItself) {
				list[i][e.path] = e.text(entry)
			}
		}
	}
	return list
}

func sameValue(a, b reflect.Value) bool { return reflect.DeepEqual(a.Interface(), b.Interface()) }

// entryOrigins sets the origins of the entries and keys in a list of sections.
// A single value has the origin of the list.
func (l *Loaded) entryOrigins(k Key, o origin, doc document) {
	inside := false
	for name, line := range doc.lines {
		if o.inFile && strings.HasPrefix(name, k.Name+"[") {
			l.origins[name] = origin{place: l.File + ":" + strconv.Itoa(line), inFile: true, secret: doc.referred[name]}
			inside = true
		}
	}
	if !inside && k.short != "" {
		o.name = k.Name
		l.origins[Entry(k.Name, 0)] = o
		l.origins[join(Entry(k.Name, 0), k.short)] = o
	}
}

// inherit copies values of the file to the entries that don't set them. A list
// that an entry sets to [] stays empty.
func (l *Loaded) inherit() {
	whole := reflect.ValueOf(&l.Config).Elem()
	for _, k := range fileKeys.keys {
		if k.entries == nil {
			continue
		}
		field := whole.FieldByIndex(k.index)
		for i := range field.Len() {
			l.inheritEntry(k.entries, Entry(k.Name, i), field.Index(i), whole)
		}
	}
}

func (l *Loaded) inheritEntry(t *table, name string, entry, whole reflect.Value) {
	for _, e := range t.keys {
		field := entry.FieldByIndex(e.index)
		switch {
		case e.like == "" || l.IsSet(join(name, e.path)):
		case !l.setsGroup(t, name, e.group):
			field.Set(whole.FieldByIndex(fileKeys.key(e.like).index))
		case field.Kind() == reflect.Slice: // not nil, since the entry sets the group
			field.Set(reflect.MakeSlice(field.Type(), 0, 0))
		}
	}
}

// Source returns the key that gives a key its value: if an entry inherits it,
// the key of the file. For "listen[1].tls.certificates[0].cert" that may be
// "tls.certificates[0].cert".
func (l *Loaded) Source(key string) string {
	list, rest, _ := strings.Cut(key, "[")
	index, path, _ := strings.Cut(rest, "].")
	path, inner, deep := strings.Cut(path, "[")
	k := fileKeys.key(list)
	if k.entries == nil {
		return key
	}
	entry := list + "[" + index + "]"
	e := k.entries.key(path)
	switch {
	case e.like == "" || l.IsSet(join(entry, path)) || l.setsGroup(k.entries, entry, e.group):
		return key
	case deep:
		return e.like + "[" + inner
	default:
		return e.like
	}
}

func (l *Loaded) setsGroup(t *table, entry, group string) bool {
	return group != "" && slices.ContainsFunc(t.keys, func(k Key) bool { return k.group == group && l.IsSet(join(entry, k.path)) })
}
