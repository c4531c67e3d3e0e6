package descriptor

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// A Source gives descriptors as server reflection does: serialised
// FileDescriptorProtos. Each answer has the file that was asked for, and may have files
// that it imports.
type Source interface {
	// FilesOf returns the file that defines a service or a message type.
	FilesOf(ctx context.Context, symbol string) ([][]byte, error)

	// File returns the file of that name.
	File(ctx context.Context, name string) ([][]byte, error)
}

// The bounds of a fetch. A service with more is read from a file.
const (
	maxFetchedFiles = 2000
	maxFetchedBytes = 16 << 20
)

// Fetch returns the Set of the files that define the symbols, with all that they
// import. The source may be a backend that nobody trusts, so the number of questions and
// of bytes is bounded.
func Fetch(ctx context.Context, from Source, symbols ...string) (*Set, error) {
	f := fetch{known: make(map[string]bool)}
	for _, symbol := range symbols {
		answer, err := from.FilesOf(ctx, symbol)
		if err == nil {
			err = f.take(answer)
		}
		if err != nil {
			return nil, fmt.Errorf("the descriptors of %s: %w", symbol, err)
		}
	}
	for i := 0; i < len(f.files); i++ { // taking a file may add others
		for _, name := range f.files[i].GetDependency() {
			if f.known[name] {
				continue
			}
			answer, err := from.File(ctx, name)
			if err == nil {
				err = f.take(answer)
			}
			if err == nil && !f.known[name] {
				err = errors.New("the answer doesn't have it")
			}
			if err != nil {
				return nil, fmt.Errorf("the descriptors of the file %s: %w", name, err)
			}
		}
	}
	return newSet(f.files)
}

type fetch struct {
	files []*descriptorpb.FileDescriptorProto
	known map[string]bool // by name
	bytes int
}

// take adds the files of an answer that are new.
func (f *fetch) take(answer [][]byte) error {
	for _, data := range answer {
		if f.bytes += len(data); f.bytes > maxFetchedBytes {
			return fmt.Errorf("more than %d MiB", maxFetchedBytes>>20)
		}
		file := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(data, file); err != nil {
			return fmt.Errorf("can't be read: %w", err)
		}
		if f.known[file.GetName()] {
			continue
		}
		if len(f.files) == maxFetchedFiles {
			return fmt.Errorf("more than %d files", maxFetchedFiles)
		}
		f.known[file.GetName()] = true
		f.files = append(f.files, file)
	}
	return nil
}
