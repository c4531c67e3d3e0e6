package codec

import (
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
)

// binSuffix ends the names of metadata whose values are bytes, not text.
const binSuffix = "-bin"

// fieldOverhead is the size that HTTP/2 adds for a field to its name and value.
const fieldOverhead = 32

// DecodeMetadata makes metadata from header fields. It puts names in lower case, in
// ASCII only. It splits the value of a -bin name at its commas, since HTTP may join
// fields of one name, trims blanks around each part, and decodes it from base64,
// padded or not: an MD has raw bytes there. Other values stay whole and unchanged.
// It leaves out nothing, not even reserved names and values that aren't ASCII; that
// is the job of the caller's table, or of Fields.
//
// Names that differ in case only are joined in their byte order. The MD shares h's
// value slices, but appending to one of its values doesn't change h. An error names
// the key. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests
func DecodeMetadata(h map[string][]string) (metadata.MD, error) {
	md := make(metadata.MD, len(h))
	for name, values := range h {
		if err := decodeField(md, lower(name), values); err != nil {
			return nil, err
		}
	}
	if len(md) == len(h) {
		return md, nil
	}
	// Some names differed in case only: repeat this in an order that doesn't depend
	// on the map's.
	clear(md)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if err := decodeField(md, lower(name), h[name]); err != nil {
			return nil, err
		}
	}
	return md, nil
}

func decodeField(md metadata.MD, name string, values []string) error {
	if strings.HasSuffix(name, binSuffix) {
		var err error
		if values, err = DecodeBinary(name, values); err != nil {
			return err
		}
	}
	if old, ok := md[name]; ok {
		values = append(old, values...)
	}
	md[name] = slices.Clip(values)
	return nil
}

// DecodeBinary decodes each comma-separated part of each value of a -bin name, as DecodeMetadata
// does.
func DecodeBinary(name string, values []string) ([]string, error) {
	parts := len(values)
	for _, v := range values {
		parts += strings.Count(v, ",")
	}
	decoded := make([]string, 0, parts)
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			raw, err := decodeBase64(strings.Trim(part, " \t"))
			if err != nil {
				return nil, fmt.Errorf("metadata %.64q: %w", name, err)
			}
			decoded = append(decoded, raw)
		}
	}
	return decoded, nil
}

var errNotBase64 = errors.New("not base64")

func decodeBase64(s string) (string, error) {
	// Package base64 skips line ends; in a header they are an attack.
	if strings.ContainsAny(s, "\r\n") {
		return "", errNotBase64
	}
	enc := base64.RawStdEncoding
	if len(s)%4 == 0 {
		enc = base64.StdEncoding // padded, or nothing to pad
	}
	var buf [96]byte // ids, trace contexts; spares the heap
	raw, err := enc.AppendDecode(buf[:0], []byte(s))
	if err != nil {
		return "", errNotBase64
	}
	return string(raw), nil
}

func encodeBase64(raw string) string {
	var buf [128]byte
	return string(base64.RawStdEncoding.AppendEncode(buf[:0], []byte(raw)))
}

// Fields yields md in the form for the wire: names in byte order, the values of a
// name in their order, -bin values as unpadded base64. It leaves out fields that
// would break their header block: names that ValidName refuses, such as
// ":authority", and values of other than -bin names that ValidValue refuses. The md
// must not change while the sequence is used; it can be used again.
func Fields(md metadata.MD) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		var buf [16]string // most calls' names; spares the heap
		names := buf[:0]
		for name := range md {
			if ValidName(name) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			bin := strings.HasSuffix(name, binSuffix)
			for _, value := range md[name] {
				if bin {
					value = encodeBase64(value)
				} else if !ValidValue(value) {
					continue
				}
				if !yield(name, value) {
					return
				}
			}
		}
	}
}

// ValidName reports whether name may name metadata on the wire: one or more of
// 0-9 a-z _ . - and nothing else.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests, "Header-Name".
func ValidName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return name != ""
}

// ValidValue reports whether v may be the value of metadata whose name doesn't
// end in -bin: bytes 0x20–0x7E only. An empty v is valid.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests, "ASCII-Value".
func ValidValue(v string) bool {
	for i := range len(v) {
		if v[i] < 0x20 || v[i] > 0x7E {
			return false
		}
	}
	return true
}

// EncodeValue returns a value that may be that of such metadata, for one that may not: each
// byte outside 0x20–0x7E, each % and a blank at either end is written as % and two
// hexadecimal digits. A valid value without such a blank stays as it is. A peer may take the
// blanks away, or refuse the field for them. RFC 9113 §8.2.1.
func EncodeValue(v string) string {
	if ValidValue(v) && strings.Trim(v, " ") == v {
		return v
	}
	return percentEncoded(v)
}

// FieldBytes returns the size of a field as HTTP/2 counts it for limits: name,
// value as on the wire and 32 more. RFC 9113 §6.5.2, SETTINGS_MAX_HEADER_LIST_SIZE.
func FieldBytes(name, value string) int {
	return len(name) + len(value) + fieldOverhead
}

// lower returns s with the letters A-Z in lower case. strings.ToLower would also
// turn the Kelvin sign into a k, and so an illegal name into a legal one.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if c := b[i]; 'A' <= c && c <= 'Z' {
					b[i] = c + ('a' - 'A')
				}
			}
			return string(b)
		}
	}
	return s
}
