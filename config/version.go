package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"reflect"
	"slices"
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
