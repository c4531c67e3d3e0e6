package descriptor

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// A MissingFileError reports that a file is missing that another one imports.
type MissingFileError struct {
	File, ImportedBy string
	Cause            error // why the source of descriptors didn't give it. It may be nil
}

func (e *MissingFileError) Error() string {
	text := fmt.Sprintf("%s imports %s, which is missing", e.ImportedBy, e.File)
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

func (e *MissingFileError) Unwrap() error { return e.Cause }

// A linker makes a Set of files.
type linker struct {
	given  map[string]*descriptorpb.FileDescriptorProto
	files  map[string]state // by their names
	walks  map[string]int   // the steps through what a file imports publicly, by its name
	linked *protoregistry.Files
	quota  *quota
}

// A state is how far the linker is with a file. The zero value: it hasn't begun.
type state int

const (
	begun state = iota + 1 // to link what it imports
	done
)

// newSet links files that are checked, each of which may come before those that it
// imports. Files of the same name count once.
func newSet(files []*descriptorpb.FileDescriptorProto, q *quota) (*Set, error) {
	l := &linker{
		given: make(map[string]*descriptorpb.FileDescriptorProto, len(files)), files: make(map[string]state),
		walks: make(map[string]int), linked: new(protoregistry.Files), quota: q,
	}
	for _, f := range files {
		if l.given[f.GetName()] != nil {
			continue
		}
		if err := ownTypes(f); err != nil {
			return nil, err
		}
		l.given[f.GetName()] = f
	}
	if err := q.takeWork(q.scopes * q.enums); err != nil {
		return nil, err
	}
	for path, f := range ownFiles {
		if f.Messages().Len() > 0 && special[f.Messages().Get(0).FullName()] != nil {
			delete(l.given, path)
		}
	}
	for _, f := range files {
		if err := l.link(f.GetName(), ""); err != nil {
			return nil, err
		}
	}
	if err := l.falseType(); err != nil {
		return nil, err
	}
	return &Set{files: l.linked, types: types{Types: dynamicpb.NewTypes(l.linked)}, size: q.memory}, nil
}

// falseType returns an error if something has the full name of a special type and isn't
// protobuf-go's. A message "protobuf" of the package google can have such types, too.
func (l *linker) falseType() error {
	for name, own := range special {
		if d, err := l.linked.FindDescriptorByName(name); err == nil && d.ParentFile() != own.ParentFile() {
			return &FalseTypeError{Type: string(name), File: readable(d.ParentFile().Path()), Cause: errors.New("it isn't at the top of the package " + wellKnown)}
		}
	}
	return nil
}

// link links a file after those that it imports. by is the file that imports it.
func (l *linker) link(path, by string) error {
	switch l.files[path] {
	case done:
		return nil
	case begun:
		return fmt.Errorf("%s imports itself", readable(path))
	}
	l.files[path] = begun
	f, own := l.given[path], ownFiles[path]
	switch {
	case f != nil:
	case own != nil:
		return l.linkOwn(own)
	default:
		return &MissingFileError{File: readable(path), ImportedBy: readable(by)}
	}
	steps := len(f.GetDependency())
	for _, name := range f.GetDependency() {
		if err := l.link(name, path); err != nil {
			return err
		}
		steps += l.walks[name]
	}
	// protobuf-go goes through public imports again for each way to them.
	if err := l.quota.takeWork(steps); err != nil {
		return err
	}
	l.walks[path] = len(f.GetDependency())
	for _, i := range f.GetPublicDependency() {
		if 0 <= i && int(i) < len(f.GetDependency()) {
			l.walks[path] += l.walks[f.GetDependency()[i]]
		}
	}
	linked, err := safely(f, l.linked)
	if err != nil {
		return fmt.Errorf("the descriptors contradict each other: %s: %w", readable(path), errors.New(withoutPrefix(err)))
	}
	return l.add(linked)
}

func (l *linker) linkOwn(f protoreflect.FileDescriptor) error {
	for i := range f.Imports().Len() {
		if err := l.link(f.Imports().Get(i).Path(), f.Path()); err != nil {
			return err
		}
	}
	l.walks[f.Path()] = f.Imports().Len()
	return l.add(f)
}

func (l *linker) add(f protoreflect.FileDescriptor) error {
	l.files[f.Path()] = done
	if err := l.linked.RegisterFile(f); err != nil {
		return fmt.Errorf("the descriptors contradict each other: %w", errors.New(withoutPrefix(err)))
	}
	return nil
}

// safely links a file. A defect of protobuf-go costs the file only.
func safely(f *descriptorpb.FileDescriptorProto, imports *protoregistry.Files) (linked protoreflect.FileDescriptor, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("protobuf-go can't read it: %v", p)
		}
	}()
	return protodesc.NewFile(f, imports)
}
