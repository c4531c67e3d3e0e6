package config

import (
	"fmt"
	"io/fs"
	"maps"
	"strings"
)

// A source is what Load took the configuration from.
type source struct {
	options Options
	flags   map[string]any
	texts   map[string][]byte // of the files, by name
}

// record reads a file for the first time.
func (s *source) record(name string) ([]byte, error) {
	read := readBounded
	if s.options.RegularFiles {
		read = readRegular
	}
	text, err := read(name)
	if err == nil {
		s.texts[name] = text
	}
	return text, err
}

// Compact returns the configuration without its routes, for a program that runs for
// long. There may be thousands of routes with many small values, which the garbage
// collector would look at again and again.
func (l *Loaded) Compact() *Loaded {
	c := *l
	c.Routes = nil
	c.origins = maps.Collect(func(yield func(string, origin) bool) {
		for name, o := range l.origins {
			if !strings.HasPrefix(name, "routes[") && !yield(name, o) {
				return
			}
		}
	})
	return &c
}

// Whole returns the configuration as Load returned it, also if l is compact. It takes the
// files' contents of then, and reads no file.
func (l *Loaded) Whole() *Loaded {
	whole, err := l.source.load(l.File, func(name string) ([]byte, error) {
		text, ok := l.source.texts[name]
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		return text, nil
	})
	if err != nil {
		panic("BUG: config: a configuration that was right isn't any more: " + err.Error())
	}
	return whole
}
