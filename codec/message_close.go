package codec

import (
	"cmp"
	"encoding/json"
	"strings"
	"unicode/utf8"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The WebSockets of bare messages tell the end of a call by their close frame: 1000 is OK,
// and any other status is 4000 and its code. RFC 6455 §7.4.2 leaves 4000 to 4999 to
// applications. For some of its own statuses culvert sends a code of RFC 6455 instead:
// closing in bridge/transport_message.go.
const (
	closeOK    = 1000
	closeError = 4000

	// maxCloseReason is the most bytes of the text in a close frame. RFC 6455 §5.5.
	maxCloseReason = 123
)

// MessageClose returns the code and the text of the close frame for a status. The text is
// "REASON: message", cut to what a close frame can carry. If reason is empty, the name of
// the status is in its place.
func MessageClose(st *status.Status, reason string) (closeCode int, text string) {
	if st.Code() == codes.OK {
		return closeOK, ""
	}
	text = cmp.Or(reason, statusName(st.Code()))
	if m := st.Message(); m != "" {
		text += ": " + m
	}
	return closeError + int(min(st.Code(), 999)), cutText(text, maxCloseReason)
}

// MessageStatus returns the JSON text that is the last message before the close frame. Its
// only field, "@status", can't be the name of a field of a message.
func MessageStatus(st *status.Status) []byte {
	type told struct {
		Code    codes.Code      `json:"code"`
		Status  string          `json:"status"`
		Message string          `json:"message,omitempty"`
		Details []connectDetail `json:"details,omitempty"`
	}
	all := told{Code: st.Code(), Status: "OK"}
	if st.Code() != codes.OK {
		all = told{st.Code(), statusName(st.Code()), st.Message(), newConnectError(st).Details}
	}
	text, err := json.Marshal(map[string]any{"@status": all})
	if err != nil {
		panic("BUG: a status can't be JSON: " + err.Error())
	}
	return text
}

// ParseMessageClose returns the status in a close frame's code and text, as MessageClose writes
// them. ok is false if the code has none: then the WebSocket was closed for another reason.
func ParseMessageClose(closeCode int, text string) (st *status.Status, ok bool) {
	switch {
	case closeCode == closeOK:
		return status.New(codes.OK, ""), true
	case closeCode > closeError && closeCode <= closeError+999:
		return status.New(codes.Code(closeCode-closeError), text), true
	}
	return nil, false
}

// ParseMessageStatus returns the status in the last message of a call, as MessageStatus writes
// it. ok is false for any other text.
func ParseMessageStatus(text []byte) (st *status.Status, ok bool) {
	var told map[string]*struct {
		Code    *uint32         `json:"code"` // codes.Code reads only those that it knows
		Message string          `json:"message"`
		Details []connectDetail `json:"details"`
	}
	if json.Unmarshal(text, &told) != nil || len(told) != 1 {
		return nil, false
	}
	s := told["@status"]
	if s == nil || s.Code == nil {
		return nil, false
	}
	p := &spb.Status{Code: int32(*s.Code), Message: s.Message} // as grpc-go writes a code that large
	p.Details, _ = parseDetails(s.Details)                     // without those that can't be read
	return status.FromProto(p), true
}

// statusName returns the name of a status as google/rpc/code.proto has it.
func statusName(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	return strings.ToUpper(codeOf(code).name)
}

// cutText cuts a text to n bytes at the boundary of a character. Bytes that aren't UTF-8
// become U+FFFD.
func cutText(text string, n int) string {
	var cut []byte
	for _, r := range text {
		if len(cut)+utf8.RuneLen(r) > n {
			break
		}
		cut = utf8.AppendRune(cut, r)
	}
	return string(cut)
}
