package probe

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf16"
)

// The request metadata that the backend reads.
const (
	ScriptKey = "probe-script" // a Script as JSON in ASCII
	IDKey     = "probe-id"     // the name of the call's Record
)

// A Script tells the backend how to behave in one call. Its steps happen in the
// order of its fields. The zero Script reads the requests to the half-close,
// sends one reply where the method wants one, and ends with OK.
type Script struct {
	Header      []Field `json:"header,omitempty"`
	HeaderEarly bool    `json:"header_early,omitempty"` // send the header before anything is read

	RepliesFirst bool   `json:"replies_first,omitempty"` // send the replies before anything is read
	Read         string `json:"read,omitempty"`          // one of the constants below; streams from the client only
	ReadEvery    Millis `json:"read_every_ms,omitempty"` // wait so long before each read
	Echo         bool   `json:"echo,omitempty"`          // answer each request with its own text and payload
	AnyPayload   bool   `json:"any_payload,omitempty"`   // the requests' payloads are not those of Payload

	Replies      int    `json:"replies,omitempty"`
	ReplyBytes   int    `json:"reply_bytes,omitempty"`
	ReplyEvery   Millis `json:"reply_every_ms,omitempty"` // wait so long before each reply
	KeepPace     bool   `json:"keep_pace,omitempty"`      // a reply is due ReplyEvery after the one before was due, however late that was sent
	HoldAfter    int    `json:"hold_after,omitempty"`     // the replies behind so many wait for Control.Release, and for nothing else; 0: none
	HoldAll      bool   `json:"hold_all,omitempty"`       // all replies do
	EchoMetadata bool   `json:"echo_metadata,omitempty"`  // the first reply lists the request's metadata
	EmptyReplies bool   `json:"empty_replies,omitempty"`  // the replies are messages of no bytes

	Hang bool `json:"hang,omitempty"` // then wait until the call is cancelled

	Trailer []Field  `json:"trailer,omitempty"`
	Code    uint32   `json:"code,omitempty"`
	Message string   `json:"message,omitempty"`
	Details []string `json:"details,omitempty"` // a google.rpc.ErrorInfo of domain "probe" for each reason
	Rich    bool     `json:"rich,omitempty"`    // further details, of types and with bytes of many kinds
}

// What Script.Read may say.
const (
	ReadAll  = ""     // to the half-close
	ReadOne  = "one"  // one message, then go on
	ReadNone = "none" // never, so that the client is stopped by flow control
)

// A Field is one metadata entry. The value of a "-bin" key is base64 in JSON.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	Bytes []byte `json:"bytes,omitempty"`
}

// Raw returns the value as gRPC's metadata holds it.
func (f Field) Raw() string {
	if f.Bytes != nil {
		return string(f.Bytes)
	}
	return f.Value
}

// Millis is a duration that is written in milliseconds.
type Millis int64

// Duration returns m as a duration.
func (m Millis) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

// String returns the script as the value of ScriptKey: JSON in ASCII, whatever
// text it holds.
func (s Script) String() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("BUG: a script that is no JSON: " + err.Error())
	}
	var out []byte
	for _, unit := range utf16.Encode([]rune(string(b))) { // which is how JSON escapes text
		if unit < 0x7f {
			out = append(out, byte(unit))
		} else {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return string(out)
}

// ParseScript reads what String wrote. An empty text is the zero Script.
func ParseScript(text string) (Script, error) {
	var s Script
	if text == "" {
		return s, nil
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, fmt.Errorf("%s: %w", ScriptKey, err)
	}
	return s, nil
}
