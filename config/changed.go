package config

import (
	"reflect"
	"regexp"
	"strings"
)

// Changed returns the names of the keys whose values differ, in the order of
// the struct: "log.level", "listen[1].tls.cert". It names a list of sections
// if the lists differ in length. It doesn't name a key of an entry that
// inherits its value, because it names the key of the file.
func Changed(a, b *Loaded) []string {
	return changed(fileKeys, [2]*Loaded{a, b}, [2]reflect.Value{reflect.ValueOf(&a.Config).Elem(), reflect.ValueOf(&b.Config).Elem()}, "")
}

func changed(t *table, of [2]*Loaded, values [2]reflect.Value, at string) []string {
	var names []string
	for _, k := range t.keys {
		name := join(at, k.path)
		a, b := values[0].FieldByIndex(k.index), values[1].FieldByIndex(k.index)
		switch {
		case k.like != "" && !of[0].IsSet(name) && !of[1].IsSet(name): // inherited
		case k.entries == nil:
			if !reflect.DeepEqual(k.effect(values[0]), k.effect(values[1])) {
				names = append(names, name)
			}
		case a.Len() != b.Len():
			names = append(names, name)
		default:
			for i := range a.Len() {
				names = append(names, changed(k.entries, of, [2]reflect.Value{a.Index(i), b.Index(i)}, Entry(name, i))...)
			}
		}
	}
	return names
}

var entryNumber = regexp.MustCompile(`\[[0-9]+\]`)

// NeedsRestart reports whether a program can't change a key while it runs. The name
// is one of Changed.
func NeedsRestart(name string) bool {
	t := fileKeys
	for {
		path, rest, inEntry := strings.Cut(entryNumber.ReplaceAllString(name, "[]"), "[].")
		k := t.key(path)
		switch {
		case !inEntry:
			return k.restart != ""
		case k.restart == "yes":
			return true
		}
		t, name = k.entries, rest
	}
}
