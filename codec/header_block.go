package codec

import (
	"errors"
	"fmt"
	"iter"
	"strings"
)

// ErrMalformedBlock is wrapped by the errors of ParseHeaderBlock.
var ErrMalformedBlock = errors.New("malformed header block")

// ParseHeaderBlock parses a header block: lines of "key: value", as in the payload
// of a gRPC-Web trailers frame and in the first message of a grpc-websockets call.
// Names are returned in lower case, and the values of a name in the order of their
// lines, unsplit and still encoded (see DecodeMetadata).
//
// It accepts more than AppendHeaderBlock writes: names of any case, LF for CRLF,
// any blanks around a value, no end on the last line, empty lines after it. An
// error wraps ErrMalformedBlock and has the line's number: no colon, a name that
// ValidName refuses in lower case, a CR or NUL in the value, an empty line with
// others after it.
//
// Memory is in proportion to len(b), whatever its contents; many short lines cost
// the most, some 50 times their length. b isn't kept.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md#protocol-differences-vs-grpc-over-http2
func ParseHeaderBlock(b []byte) (map[string][]string, error) {
	rest := string(b) // names and values are parts of it
	lines := strings.Count(rest, "\n") + 1
	h := make(map[string][]string, min(lines, 16))
	values := make([]string, lines) // a part of it for each name
	ended := false
	for i := 0; rest != ""; i++ {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			ended = true
			continue
		}
		name, value, err := parseHeaderLine(line)
		if ended {
			err = errors.New("follows an empty line")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrMalformedBlock, i+1, err)
		}
		if old, ok := h[name]; ok {
			h[name] = append(old, value)
			continue
		}
		values[i] = value
		h[name] = values[i : i+1 : i+1]
	}
	return h, nil
}

func parseHeaderLine(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return "", "", errors.New("no colon")
	}
	name = lower(name)
	if !ValidName(name) {
		return "", "", errors.New("invalid name")
	}
	value = strings.Trim(value, " \t")
	if strings.ContainsAny(value, "\r\x00") {
		return "", "", errors.New("CR or NUL in value")
	}
	return name, value, nil
}

// AppendHeaderBlock appends fields to b as lines of "key: value", each with its
// CRLF and without an empty line at the end. It leaves out a field whose name or
// value isn't valid on the wire (ValidName, ValidValue), so that no value can begin
// a line of its own.
func AppendHeaderBlock(b []byte, fields iter.Seq2[string, string]) []byte {
	for name, value := range fields {
		if !ValidName(name) || !ValidValue(value) {
			continue
		}
		b = append(b, name...)
		b = append(b, ": "...)
		b = append(b, value...)
		b = append(b, "\r\n"...)
	}
	return b
}
