package manifest

import (
	"errors"
	"fmt"
)

// An Object is one API object of a manifest, for reading.
type Object struct {
	Group, Kind     string
	Namespace, Name string // Namespace is empty if the object names none
	read            object
}

// String returns "Deployment shop/orders".
func (o Object) String() string { return o.read.String() }

// Decode reads the object into one of the API's types.
func (o Object) Decode(to any) error { return decode(o.read.node, to) }

// Objects returns the objects of a manifest, also those in lists. An error has a
// line for each document or list that can't be read.
func Objects(text []byte) ([]Object, error) {
	docs, err := parse(text)
	if err != nil {
		return nil, err
	}
	var all []Object
	var errs []error
	for _, d := range docs {
		for _, o := range d.objects() {
			errs = append(errs, o.unread())
			all = append(all, Object{Group: o.group, Kind: o.kind, Namespace: o.nameSpace, Name: o.name, read: o})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return all, nil
}

func parse(text []byte) ([]*document, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("the manifest has %d bytes, more than %d: split it", len(text), MaxSize)
	}
	var errs []error
	docs := split(text)
	for i, d := range docs {
		if err := d.parse(); err != nil {
			errs = append(errs, fmt.Errorf("document %d (line %d): %w", i+1, d.line, err))
		}
	}
	return docs, errors.Join(errs...)
}
