package proxytls

import (
	"errors"
	"fmt"
	"io/fs"
)

// A KeyError is about a file in a configuration key. Its text begins with the key;
// a caller that knows the key's position can replace it.
type KeyError struct {
	Key string // "tls.certificates[1].cert"
	Err error
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

func (e *KeyError) Unwrap() error { return e.Err }

func keyErrorf(key, format string, args ...any) error {
	return &KeyError{key, fmt.Errorf(format, args...)}
}

// cause removes the file's name from an error that will be reported with it.
func cause(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
