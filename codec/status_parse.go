package codec

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// ErrNoStatus reports trailers without a grpc-status: the call's end is unknown.
var ErrNoStatus = errors.New("the trailers have no grpc-status")

// ParseTrailers parses the end of a call, as Trailers writes it, from the fields of HTTP
// trailers or of a header block. It returns the status and the other fields.
//
// Details are left out if they aren't a google.rpc.Status of the same code. The error is
// ErrNoStatus, or says which field is malformed: then the call has failed, whatever else the
// trailers say.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses
func ParseTrailers(fields map[string][]string) (*status.Status, metadata.MD, error) {
	md, err := DecodeMetadata(fields)
	if err != nil {
		return nil, nil, err
	}
	code, message, details := md[statusKey], md[messageKey], md[detailsKey]
	delete(md, statusKey)
	delete(md, messageKey)
	delete(md, detailsKey)
	if len(code) == 0 {
		return nil, md, ErrNoStatus
	}
	n, err := strconv.ParseUint(code[0], 10, 32)
	if err != nil || slices.ContainsFunc(code, func(other string) bool { return other != code[0] }) {
		return nil, md, errors.New("grpc-status: not one number")
	}
	st := &spb.Status{Code: int32(uint32(n))} // as grpc-go writes a code that large
	if len(message) > 0 {
		st.Message = DecodeMessage(message[0])
	}
	if len(details) == 1 {
		came := new(spb.Status)
		if proto.Unmarshal([]byte(details[0]), came) == nil && came.GetCode() == st.GetCode() {
			st.Details = came.GetDetails()
		}
	}
	return status.FromProto(st), md, nil
}

// StatusName returns the name of a code as google/rpc/code.proto has it, such as NOT_FOUND,
// and "CODE(17)" for a code that gRPC doesn't define.
func StatusName(code codes.Code) string {
	switch {
	case code == codes.OK:
		return "OK"
	case code > maxCode:
		return fmt.Sprintf("CODE(%d)", uint32(code))
	}
	return statusName(code)
}
