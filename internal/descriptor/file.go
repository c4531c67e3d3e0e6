package descriptor

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"
)

// MaxSetBytes is the most that a set of descriptors may have, not compressed. The
// descriptors of all of Google's public APIs have about 20 MiB.
const MaxSetBytes = 64 << 20

// The bounds of a set's memory, and of the names that are looked up in it.
const (
	maxSetMemory = 1 << 30
	maxSetWork   = 20_000_000
)

// Parse returns the Set of a file: a FileDescriptorSet as protoc and buf write it
// with all imports, or a Buf image, also compressed with gzip.
func Parse(data []byte) (*Set, error) {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		var err error
		if data, err = unzipped(data); err != nil {
			return nil, err
		}
	}
	if len(data) > MaxSetBytes {
		return nil, fmt.Errorf("larger than %d MiB", MaxSetBytes>>20)
	}
	q := &quota{maxMemory: maxSetMemory, maxWork: maxSetWork}
	var files []*descriptorpb.FileDescriptorProto
	for f, err := range WireFields(data) {
		if err != nil || f.Number == 1 && f.Kind != protowire.BytesType {
			return nil, errNoSet
		}
		if f.Number != 1 {
			continue
		}
		// An image of Buf is a set with more fields in each file, which are unknown here.
		file, err := q.readFile(f.Value)
		if errors.Is(err, errNoFile) {
			return nil, errNoSet
		}
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		return nil, errors.New("has no descriptors: write the set with protoc --include_imports --descriptor_set_out=FILE, or buf build -o FILE")
	}
	s, err := newSet(files, q)
	if _, ok := errors.AsType[*MissingFileError](err); ok {
		return nil, fmt.Errorf("%w: write the set with its imports (protoc --include_imports)", err)
	}
	return s, err
}

var errNoSet = errors.New("not a FileDescriptorSet or a Buf image: write one with protoc --include_imports --descriptor_set_out=FILE, or buf build -o FILE")

func unzipped(data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(z, MaxSetBytes+1))
	}
	if err != nil {
		return nil, fmt.Errorf("not gzip: %w", err)
	}
	return data, nil
}
