package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// versionDigits is the length of a version: enough to tell the files of one
// installation apart, and short enough to read aloud.
const versionDigits = 12

// Version returns a short hash of the value of every key. Two configurations
// with the same effect have the same version, whatever their sources, comments
// and order of keys.
func (l *Loaded) Version() string {
	h := sha256.New()
	writeValues(h, fileKeys, reflect.ValueOf(&l.Config).Elem(), "")
	return hex.EncodeToString(h.Sum(nil))[:versionDigits]
}

func writeValues(h io.Writer, t *table, of reflect.Value, at string) {
	for _, k := range t.keys {
		name := join(at, k.path)
		if k.entries == nil {
			fmt.Fprintf(h, "%s=%q\n", name, k.effect(of)) // a hash takes everything
			continue
		}
		for i := range of.FieldByIndex(k.index).Len() {
			fmt.Fprintf(h, "%s\n", Entry(name, i)) // or an entry without a value would be none
			writeValues(h, k.entries, of.FieldByIndex(k.index).Index(i), Entry(name, i))
		}
	}
}

// effect returns the key's value in a form to compare. In an entry, a list that is set
// to [] differs from one that isn't set, unless the entry inherits the list.
func (k Key) effect(of reflect.Value) any {
	if k.List && k.like == "" && of.FieldByIndex(k.index).IsNil() {
		return nil
	}
	return k.text(of)
}

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
		k := t.byPath[path]
		switch {
		case !inEntry:
			return k.restart != ""
		case k.restart == "yes":
			return true
		}
		t, name = k.entries, rest
	}
}

// FileSets reports whether the file sets a key.
func (l *Loaded) FileSets() bool {
	for _, o := range l.origins {
		if o.inFile {
			return true
		}
	}
	return false
}

// Files returns the files that Load read: the configuration file, and those
// that its values name with "file:", each once.
func (l *Loaded) Files() []string {
	var files []string
	if l.File != "" {
		files = append(files, l.File)
	}
	for _, r := range l.References {
		if !slices.Contains(files, r.File) {
			files = append(files, r.File)
		}
	}
	return files
}
