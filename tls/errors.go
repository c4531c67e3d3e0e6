package proxytls

import (
	"errors"
	"fmt"
	"io/fs"
)

// A KeyError is about a file that a configuration key names. Its text begins
// with the key; whoever knows the place of the key can put it there instead.
type KeyError struct {
	Key string // "tls.certificates[1].cert"
	Err error
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

func (e *KeyError) Unwrap() error { return e.Err }

func keyErrorf(key, format string, args ...any) error {
	return &KeyError{key, fmt.Errorf(format, args...)}
}

// cause drops the name of the file from an error that will be said with it.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// split returns the errors that were joined.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
