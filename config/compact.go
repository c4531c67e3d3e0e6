package config

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// A source is what Load took the configuration from.
type source struct {
	options   Options
	flags     map[string]any
	texts     map[string][]byte // of the files, by name
	variables map[string]string // that the file refers to and are set
}

// first returns the world of the first load. It keeps what it finds.
func (s *source) first() world {
	read := readBounded
	if s.options.RegularFiles {
		read = readRegular
	}
	return world{
		lookup: func(name string) (string, bool) {
			value, ok := os.LookupEnv(name)
			if ok {
				s.variables[name] = value
			}
			return value, ok
		},
		read: func(name string) ([]byte, error) {
			text, err := read(name)
			if err == nil {
				s.texts[name] = text
			}
			return text, err
		},
	}
}

// again returns the world of the first load, as it was then. So nobody reads a file
// again, and a variable may have gone.
func (s *source) again() world {
	return world{
		lookup: func(name string) (string, bool) {
			value, ok := s.variables[name]
			return value, ok
		},
		read: func(name string) ([]byte, error) {
			text, ok := s.texts[name]
			if !ok {
				return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
			}
			return text, nil
		},
	}
}

// Compact returns the configuration without its routes, for a program that runs for
// long. There may be thousands of routes with many small values, which the garbage
// collector would look at again and again.
func (l *Loaded) Compact() *Loaded {
	if l.compact {
		return l
	}
	c := *l
	c.compact, c.Routes, c.origins = true, nil, make(map[string]origin)
	for name, o := range l.origins {
		if !strings.HasPrefix(name, "routes[") {
			c.origins[name] = o
		}
	}
	return &c
}

// Whole returns the configuration as Load returned it, also if l is compact. It loads it
// once more from the texts of then.
func (l *Loaded) Whole() *Loaded {
	if !l.compact {
		return l
	}
	whole, err := l.source.load(l.File, l.source.again())
	if err != nil {
		panic("BUG: config: a configuration that was right isn't any more: " + err.Error())
	}
	return whole
}
