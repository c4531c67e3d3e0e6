package codec

import (
	"iter"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Names of the trailers that carry the status, and of the one that keeps a code
// which browser clients don't know.
const (
	statusKey         = "grpc-status"
	messageKey        = "grpc-message"
	detailsKey        = "grpc-status-details-bin"
	originalStatusKey = "x-grpc-status-original"
)

// maxCode is the last code that gRPC defines.
const maxCode = codes.Unauthenticated

// Trailers yields the end of a call in the form for the wire: grpc-status,
// grpc-message unless it is empty, grpc-status-details-bin if there are details,
// then the Fields of trailer without these three names. A nil st is OK.
//
// Details keep their original bytes: those that trailer has under
// grpc-status-details-bin, as in grpc-go's ClientStream.Trailer. They are used if
// there is one value, it is a google.rpc.Status of st's code, and st has no other
// details; otherwise st is marshalled. Clients trust the code in the details more
// than grpc-status: a code of 0 would turn an error into success.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses
func Trailers(st *status.Status, trailer metadata.MD) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		code := st.Code()
		if yieldStatus(yield, st, code, detailsOf(st, code, trailer)) {
			yieldTrailer(yield, trailer, false)
		}
	}
}

// BrowserTrailers is Trailers for gRPC-Web clients, which take a code above 16 for
// their own error. It writes such a code as 2 (UNKNOWN), in details as well, and
// the original code in x-grpc-status-original.
func BrowserTrailers(st *status.Status, trailer metadata.MD) iter.Seq2[string, string] {
	if st.Code() <= maxCode {
		return Trailers(st, trailer)
	}
	return func(yield func(name, value string) bool) {
		details := detailsOf(st, codes.Unknown, trailer)
		if yieldStatus(yield, st, codes.Unknown, details) &&
			yield(originalStatusKey, codeText(st.Code())) {
			yieldTrailer(yield, trailer, true)
		}
	}
}

// yieldStatus yields the status, with the given code for its own. It reports
// whether to continue.
func yieldStatus(yield func(name, value string) bool, st *status.Status, code codes.Code, details string) bool {
	if !yield(statusKey, codeText(code)) {
		return false
	}
	if m := st.Message(); m != "" && !yield(messageKey, EncodeMessage(m)) {
		return false
	}
	return details == "" || yield(detailsKey, encodeBase64(details))
}

// yieldTrailer yields trailer without what yieldStatus wrote and, if replaced,
// without x-grpc-status-original.
func yieldTrailer(yield func(name, value string) bool, trailer metadata.MD, replaced bool) {
	for name, value := range Fields(trailer) {
		switch name {
		case statusKey, messageKey, detailsKey:
			continue
		case originalStatusKey:
			if replaced {
				continue
			}
		}
		if !yield(name, value) {
			return
		}
	}
}

// detailsOf returns st as a serialised google.rpc.Status of the given code. It is
// empty if st has no details.
func detailsOf(st *status.Status, code codes.Code, trailer metadata.MD) string {
	raw := trailer[detailsKey]
	if len(raw) == 0 && st.Code() == codes.OK {
		return "" // as status.WithDetails has it; saves the usual call a copy
	}
	p := st.Proto() // a copy; nil for a nil st
	has := len(p.GetDetails()) > 0
	if len(raw) == 1 {
		came := status.New(codes.OK, "").Proto() // to read into
		if proto.Unmarshal([]byte(raw[0]), came) == nil && codes.Code(came.GetCode()) == st.Code() &&
			(!has || proto.Equal(came, p)) {
			if code == st.Code() {
				return raw[0]
			}
			p, has = came, true
		}
	}
	if !has {
		return ""
	}
	p.Code = int32(code)
	p.Message = string([]rune(p.Message)) // proto.Marshal refuses what isn't UTF-8
	b, err := proto.Marshal(p)
	if err != nil {
		return "" // a detail's type URL isn't UTF-8: nobody could read it
	}
	return string(b)
}

// codeText returns a code in decimal. gRPC's grammar has no sign; grpc-go reads
// "-1" into the largest uint32, which is then the result.
func codeText(code codes.Code) string {
	return strconv.FormatUint(uint64(code), 10)
}

// CodeFromHTTP returns the code that a gRPC client gives to an HTTP answer without
// a grpc-status. A server never uses it to choose an HTTP status.
// https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
func CodeFromHTTP(httpStatus int) codes.Code {
	switch httpStatus {
	case 400:
		return codes.Internal
	case 401:
		return codes.Unauthenticated
	case 403:
		return codes.PermissionDenied
	case 404:
		return codes.Unimplemented
	case 429, 502, 503, 504:
		return codes.Unavailable
	}
	return codes.Unknown
}
