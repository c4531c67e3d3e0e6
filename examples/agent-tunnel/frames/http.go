package frames

import (
	"net/http"
	"strings"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

// Fields returns a header as the fields of a frame.
func Fields(header http.Header) []*tunnelpb.Field {
	var fields []*tunnelpb.Field
	for name, values := range header {
		for _, value := range values {
			fields = append(fields, &tunnelpb.Field{Name: []byte(name), Value: []byte(value)})
		}
	}
	return fields
}

// Header returns the fields of a frame as a header. It is never nil.
func Header(fields []*tunnelpb.Field) http.Header {
	header := make(http.Header, len(fields))
	for _, f := range fields {
		header.Add(string(f.GetName()), string(f.GetValue()))
	}
	return header
}

// Names returns the names of announced trailers.
func Names(announced http.Header) [][]byte {
	var names [][]byte
	for name := range announced {
		names = append(names, []byte(name))
	}
	return names
}

// Announced returns announced trailers, without values yet. It is never nil.
func Announced(names [][]byte) http.Header {
	trailers := make(http.Header, len(names))
	for _, name := range names {
		trailers[http.CanonicalHeaderKey(string(name))] = nil
	}
	return trailers
}

// text returns an error's text for a string of protobuf, which is UTF-8.
func text(err error) string { return strings.ToValidUTF8(err.Error(), "?") }
