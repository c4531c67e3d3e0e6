package descriptor

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// MaxSetBytes is the most that a set of descriptors may have, not compressed. The
// descriptors of all of Google's public APIs have about 20 MiB.
const MaxSetBytes = 64 << 20

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
		return nil, errTooLarge
	}
	all := &descriptorpb.FileDescriptorSet{}
	// An image of Buf is a set with more fields in each file, which are unknown here.
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, all); err != nil {
		return nil, errors.New("not a FileDescriptorSet or a Buf image: write one with protoc --include_imports --descriptor_set_out=FILE, or buf build -o FILE")
	}
	if len(all.GetFile()) == 0 {
		return nil, errors.New("has no descriptors: write the set with protoc --include_imports --descriptor_set_out=FILE, or buf build -o FILE")
	}
	s, err := newSet(all.GetFile())
	if err != nil {
		return nil, fmt.Errorf("%w: write the set with its imports (protoc --include_imports)", err)
	}
	return s, nil
}

var errTooLarge = fmt.Errorf("larger than %d MiB", MaxSetBytes>>20)

func unzipped(data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("not gzip: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, MaxSetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("not gzip: %w", err)
	}
	return plain, nil
}
