package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
)

// A scenario is one call, written as data so that clients in other languages can
// run it, and what must come of it.
type scenario struct {
	name     string
	method   string
	script   probe.Script
	metadata []probe.Field
	requests []jobRequest
	pingPong bool // each request is sent after the reply to the one before
	timeout  time.Duration
	cancelAt int // the reply after which the client cancels; 0: never

	code    codes.Code
	message string
	replies int
	check   func(t *testing.T, o observation, r probe.Record) // may be nil
}

type jobRequest struct {
	Text  string `json:"text,omitempty"`
	Bytes int    `json:"bytes,omitempty"` // the payload's; see jobPayload
}

// A job is a scenario for one client. node/clients.js reads it.
type job struct {
	Client      string       `json:"client"`
	Scenario    string       `json:"scenario"`
	ID          string       `json:"id"`
	Method      string       `json:"method"`
	Metadata    []jobField   `json:"metadata"`
	Requests    []jobRequest `json:"requests"`
	PingPong    bool         `json:"ping_pong"`
	TimeoutMS   int64        `json:"timeout_ms"`
	CancelAfter int          `json:"cancel_after"`
}

type jobField struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	Bytes []byte `json:"bytes,omitempty"` // base64 in JSON, and so in a browser's headers
}

// An observation is what a client saw of a job.
type observation struct {
	Client    string              `json:"client"`
	Scenario  string              `json:"scenario"`
	ID        string              `json:"id"`
	Code      codes.Code          `json:"code"`
	Message   string              `json:"message"`
	Reasons   []string            `json:"-"` // of the ErrorInfos in the details
	Header    map[string][]string `json:"header"`
	Trailer   map[string][]string `json:"trailer"`
	Replies   []observedReply     `json:"replies"`
	Metadata  map[string][]string `json:"metadata"` // the request's, as the backend listed it
	Cancelled bool                `json:"cancelled"`
	Error     string              `json:"error"` // what went wrong beside the status
	Millis    int                 `json:"millis"`

	// How the details came, from clients that don't decode them.
	DetailsBin string           `json:"details_bin"`
	Details    []observedDetail `json:"details"`
}

type observedReply struct {
	Sequence uint64 `json:"sequence"`
	Text     string `json:"text"`
	Received uint64 `json:"received"`
	Bytes    int    `json:"bytes"`
	SHA256   string `json:"sha256"`
}

type observedDetail struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// jobPayload is the payload of a jobRequest. It must be what node/clients.js makes.
func jobPayload(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*31 + 7)
	}
	return b
}

const unicodeText = "naïve café, 100 % ☃ 日本語 🎉"

const largeBytes = 8 << 20

// scenarios is what every client must do, as far as it can.
var scenarios = []scenario{
	{
		name: "unary", method: "Unary", replies: 1,
		script: probe.Script{Echo: true}, requests: []jobRequest{{Text: "hello"}},
		check: func(t *testing.T, o observation, _ probe.Record) { wantTexts(t, o, "hello") },
	},
	{
		name: "server stream", method: "ServerStream", replies: 50,
		script: probe.Script{Replies: 50, ReplyBytes: 3000}, requests: []jobRequest{{}},
		check: func(t *testing.T, o observation, _ probe.Record) {
			for i, r := range o.Replies {
				if r.Sequence != uint64(i) || r.SHA256 != sum(probe.Payload(r.Sequence, 3000)) {
					t.Errorf("reply %d is number %d with the sum %s", i, r.Sequence, r.SHA256)
				}
			}
		},
	},
	{
		name: "client stream", method: "ClientStream", replies: 1,
		requests: []jobRequest{{}, {}, {}, {}, {}},
		check: func(t *testing.T, o observation, r probe.Record) {
			if o.Replies[0].Received != 5 || !r.HalfClosed {
				t.Errorf("the backend read %d requests (half-close: %v), want 5", o.Replies[0].Received, r.HalfClosed)
			}
		},
	},
	{
		name: "bidi", method: "Bidi", replies: 4,
		script: probe.Script{Echo: true}, pingPong: true,
		requests: []jobRequest{{Text: "a"}, {Text: "b"}, {Text: "c"}, {Text: "d"}},
		check: func(t *testing.T, o observation, r probe.Record) {
			wantTexts(t, o, "a", "b", "c", "d")
			if !r.HalfClosed {
				t.Error("the half-close has not reached the backend")
			}
		},
	},
	{
		name: "half-close, then replies", method: "Bidi", replies: 3,
		script: probe.Script{Replies: 3}, requests: []jobRequest{{}, {}},
		check: func(t *testing.T, o observation, _ probe.Record) {
			if got := o.Replies[0].Received; got != 2 {
				t.Errorf("the first reply came after %d requests, want 2", got)
			}
		},
	},
	{
		name: "metadata", method: "Unary", replies: 1,
		script: probe.Script{
			EchoMetadata: true,
			Header:       []probe.Field{{Name: "x-head", Value: "1"}, {Name: "x-head", Value: "2"}, {Name: "x-head-bin", Bytes: []byte{0, 1, 2}}, {Name: "x-head-bin", Bytes: []byte{0xff}}},
			Trailer:      []probe.Field{{Name: "x-tail", Value: "3"}, {Name: "x-tail-bin", Bytes: []byte{0xfb, 0xff}}},
		},
		metadata: []probe.Field{{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}, {Name: "x-b-bin", Bytes: []byte{0, 1, 2}}, {Name: "x-b-bin", Bytes: []byte{0xff, 0xee}}},
		requests: []jobRequest{{}},
		check: func(t *testing.T, o observation, r probe.Record) {
			want(t, "x-head", o.Header["x-head"], "1", "2")
			want(t, "x-head-bin", o.Header["x-head-bin"], "AAEC", "/w")
			want(t, "x-tail", o.Trailer["x-tail"], "3")
			want(t, "x-tail-bin", o.Trailer["x-tail-bin"], "+/8")
			// A browser joins the values of a name; only "-bin" may be split again.
			want(t, "x-a", strings.Split(strings.Join(o.Metadata["x-a"], ", "), ", "), "1", "2")
			want(t, "x-b-bin", o.Metadata["x-b-bin"], "AAEC", "/+4")
			want(t, "x-b-bin at the backend", r.Values("x-b-bin"), "\x00\x01\x02", "\xff\xee")
		},
	},
	{
		name: "status with details", method: "Unary",
		script:   probe.Script{Code: uint32(codes.FailedPrecondition), Message: "not now", Details: []string{"FIRST", "SECOND"}},
		requests: []jobRequest{{}},
		code:     codes.FailedPrecondition, message: "not now",
		check: func(t *testing.T, o observation, _ probe.Record) { want(t, "details", o.Reasons, "FIRST", "SECOND") },
	},
	{
		name: "status after replies", method: "ServerStream", replies: 3,
		script: probe.Script{
			Replies: 3, Code: uint32(codes.Aborted), Message: "lost", Details: []string{"LATE"},
			Trailer: []probe.Field{{Name: "x-tail", Value: "late"}},
		},
		requests: []jobRequest{{}},
		code:     codes.Aborted, message: "lost",
		check: func(t *testing.T, o observation, _ probe.Record) {
			want(t, "details", o.Reasons, "LATE")
			want(t, "x-tail", o.Trailer["x-tail"], "late")
		},
	},
	{
		name: "trailers", method: "ServerStream", replies: 1,
		script:   probe.Script{Replies: 1, Trailer: []probe.Field{{Name: "x-tail", Value: "end"}, {Name: "x-tail-bin", Bytes: []byte("\x00end")}}},
		requests: []jobRequest{{}},
		check: func(t *testing.T, o observation, _ probe.Record) {
			want(t, "x-tail", o.Trailer["x-tail"], "end")
			want(t, "x-tail-bin", o.Trailer["x-tail-bin"], "AGVuZA")
		},
	},
	{
		name: "unicode text", method: "Unary", replies: 1,
		script: probe.Script{Echo: true}, requests: []jobRequest{{Text: unicodeText}},
		check: func(t *testing.T, o observation, _ probe.Record) { wantTexts(t, o, unicodeText) },
	},
	{
		name: "unicode message", method: "Unary",
		script:   probe.Script{Code: uint32(codes.NotFound), Message: unicodeText},
		requests: []jobRequest{{}},
		code:     codes.NotFound, message: unicodeText,
	},
	{
		name: "deadline", method: "ServerStream", replies: 1, timeout: 700 * time.Millisecond,
		script: probe.Script{Replies: 1, Hang: true}, requests: []jobRequest{{}},
		code: codes.DeadlineExceeded, message: anyMessage,
		check: func(t *testing.T, o observation, r probe.Record) {
			if r.Timeout <= 0 || r.Timeout > 700*time.Millisecond {
				t.Errorf("the backend got a deadline of %v, want up to 700 ms", r.Timeout)
			}
			if after := r.Cancelled.Sub(r.Began); after < 0 || after > 2*time.Second {
				t.Errorf("the backend's call ended after %v, want about 700 ms (%s)", after, r.Cause)
			}
			if o.Millis < 500 || o.Millis > 3000 {
				t.Errorf("the client's call ended after %d ms, want about 700", o.Millis)
			}
		},
	},
	{
		name: "cancel", method: "ServerStream", replies: 2, cancelAt: 2,
		script: probe.Script{Replies: 2, Hang: true}, requests: []jobRequest{{}},
		code: codes.Canceled, message: anyMessage,
		check: func(t *testing.T, o observation, r probe.Record) {
			if !o.Cancelled {
				t.Error("the client has not cancelled")
			}
			if after := r.Cancelled.Sub(r.Began); after < 0 || after > 2*time.Second {
				t.Errorf("the backend's call was cancelled after %v, want at once (%s)", after, r.Cause)
			}
		},
	},
	{
		name: "large message", method: "Unary", replies: 1,
		script: probe.Script{Echo: true, AnyPayload: true}, requests: []jobRequest{{Bytes: largeBytes}},
		check: func(t *testing.T, o observation, _ probe.Record) {
			if r := o.Replies[0]; r.Bytes != largeBytes || r.SHA256 != sum(jobPayload(largeBytes)) {
				t.Errorf("%d bytes with the sum %s came back", r.Bytes, r.SHA256)
			}
		},
	},
	{
		name: "empty message", method: "Unary", replies: 1,
		requests: []jobRequest{{}},
	},
	{
		name: "unknown method", method: "Missing", requests: []jobRequest{{}},
		code: codes.Unimplemented, message: anyMessage,
	},
}

// anyMessage is for a status whose text is not ours to say.
const anyMessage = "*"

// job makes the scenario's job for a client.
func (s scenario) job(t testing.TB, client string) job {
	j := job{
		Client: client, Scenario: s.name, ID: newID(t), Method: s.method,
		Requests: s.requests, PingPong: s.pingPong, TimeoutMS: s.timeout.Milliseconds(), CancelAfter: s.cancelAt,
	}
	j.Metadata = []jobField{{Name: probe.IDKey, Value: j.ID}, {Name: probe.ScriptKey, Value: s.script.String()}}
	for _, f := range s.metadata {
		j.Metadata = append(j.Metadata, jobField(f))
	}
	return j
}

// needsRequestStream reports whether a client must stream its request.
func (s scenario) needsRequestStream() bool {
	return s.method == "ClientStream" || s.method == "Bidi"
}

// judge checks what a client saw, and what the backend saw of it.
func (s scenario) judge(t *testing.T, o observation, b *backend) {
	t.Helper()
	if o.Error != "" {
		t.Errorf("the client failed: %s", o.Error)
		return
	}
	if o.Code != s.code {
		t.Errorf("status %v %q, want %v", o.Code, o.Message, s.code)
	}
	if s.message != anyMessage && o.Message != s.message {
		t.Errorf("message %q, want %q", o.Message, s.message)
	}
	if len(o.Replies) != s.replies {
		t.Fatalf("%d replies, want %d", len(o.Replies), s.replies)
	}
	if s.method == "Missing" {
		return // the backend has no record of it
	}
	r := b.record(t, o.ID, probe.Ended, 5*time.Second)
	if r.Attempts != 1 {
		t.Errorf("the call began %d times at the backend", r.Attempts)
	}
	if r.Fault != "" {
		t.Errorf("at the backend %s", r.Fault)
	}
	if s.check != nil {
		s.check(t, o, r)
	}
}

func wantTexts(t *testing.T, o observation, want ...string) {
	t.Helper()
	var got []string
	for _, r := range o.Replies {
		got = append(got, r.Text)
	}
	if !slices.Equal(got, want) {
		t.Errorf("texts %q, want %q", got, want)
	}
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// table prints the results, clients in rows and scenarios in columns.
func table(clients []string, result map[string]map[string]string) string {
	var b bytes.Buffer
	for i, s := range scenarios {
		fmt.Fprintf(&b, "%3d %s\n", i+1, s.name)
	}
	fmt.Fprintf(&b, "\n%-32s", "")
	for i := range scenarios {
		fmt.Fprintf(&b, "%5d", i+1)
	}
	for _, client := range clients {
		fmt.Fprintf(&b, "\n%-32s", client)
		for _, s := range scenarios {
			fmt.Fprintf(&b, "%5s", result[client][s.name])
		}
	}
	return b.String()
}
