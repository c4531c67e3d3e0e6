package descriptor

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"
)

// A Source gives descriptors as server reflection does: serialised
// FileDescriptorProtos. Each answer has the file that was asked for, and may have files
// that it imports.
type Source interface {
	// FilesOf returns the file that defines a service, a message type or an extension.
	FilesOf(ctx context.Context, symbol string) ([][]byte, error)

	// FilesOfExtension returns the file that defines an extension of a message type.
	FilesOfExtension(ctx context.Context, message string, number int32) ([][]byte, error)

	// File returns the file of that name.
	File(ctx context.Context, name string) ([][]byte, error)
}

// The bounds of a fetch. A service with more is read from a file.
const (
	maxFetchedFiles  = 2000
	maxFetchedBytes  = 16 << 20
	maxFetchedMemory = 128 << 20
	maxFetchedWork   = 4_000_000
)

// Fetch returns the Set of the files that define the symbols, with all that they
// import. The source may be a backend that nobody trusts, so Fetch bounds the
// questions, the bytes and their memory. reserve may be nil.
func Fetch(ctx context.Context, from Source, reserve Reserve, symbols ...string) (*Set, error) {
	f := newFetch(from, reserve)
	for _, symbol := range symbols {
		if err := f.take(from.FilesOf(ctx, symbol)); err != nil {
			return nil, fmt.Errorf("the descriptors of %s: %w", symbol, err)
		}
	}
	return f.whole(ctx)
}

// FetchUnknown is Fetch for a type or an extension that a message uses. The error wraps ErrUnknown if the
// answer doesn't have it.
func FetchUnknown(ctx context.Context, from Source, reserve Reserve, u Unknown) (*Set, error) {
	f := newFetch(from, reserve)
	var err error
	if u.Extends != "" {
		err = f.take(from.FilesOfExtension(ctx, u.Extends, u.Number))
	} else {
		err = f.take(from.FilesOf(ctx, u.Name))
	}
	if err != nil {
		return nil, fmt.Errorf("the descriptors of %s: %w", u, err)
	}
	s, err := f.whole(ctx)
	if err == nil && !s.types.has(u) {
		return nil, fmt.Errorf("%s: %w", u, ErrUnknown)
	}
	return s, err
}

func newFetch(from Source, reserve Reserve) *fetch {
	return &fetch{from: from, known: make(map[string]bool), quota: quota{maxMemory: maxFetchedMemory, maxWork: maxFetchedWork, reserve: reserve}}
}

// whole fetches what the files import, and links them.
func (f *fetch) whole(ctx context.Context) (*Set, error) {
	for i := 0; i < len(f.files); i++ { // taking a file may add others
		for _, name := range f.files[i].GetDependency() {
			if f.known[name] {
				continue
			}
			answer, missing := f.from.File(ctx, name)
			if err := f.take(answer, nil); err != nil {
				return nil, fmt.Errorf("the descriptors of the file %s: %w", readable(name), err)
			}
			switch {
			case f.known[name]:
			case ownFiles[name] != nil:
				f.known[name] = true // few servers have protobuf's own files
			default:
				return nil, &MissingFileError{readable(name), readable(f.files[i].GetName()), cmp.Or(missing, errors.New("the answer doesn't have it"))}
			}
		}
	}
	return newSet(f.files, &f.quota)
}

type fetch struct {
	from  Source
	files []*descriptorpb.FileDescriptorProto
	known map[string]bool // by name
	bytes int
	quota quota
}

// take adds the files of an answer that are new.
func (f *fetch) take(answer [][]byte, err error) error {
	if err != nil {
		return err
	}
	for _, data := range answer {
		if f.bytes += len(data); f.bytes > maxFetchedBytes {
			return fmt.Errorf("more than %d MiB", maxFetchedBytes>>20)
		}
		name := nameOf(data)
		if f.known[name] {
			continue
		}
		if len(f.files) == maxFetchedFiles {
			return fmt.Errorf("more than %d files", maxFetchedFiles)
		}
		file, err := f.quota.readFile(data)
		if err != nil {
			return err
		}
		f.known[file.GetName()] = true
		f.files = append(f.files, file)
	}
	return nil
}

// nameOf returns the name of a file in its wire form.
func nameOf(data []byte) (name string) {
	for f, err := range WireFields(data) {
		if err == nil && f.Number == 1 && f.Kind == protowire.BytesType {
			name = string(f.Value)
		}
	}
	return name
}
