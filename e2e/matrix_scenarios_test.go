package e2e

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
)

const (
	unicodeText = "naïve café, 100 % ☃ 日本語 🎉"

	// hostileText is a message that a careless relay takes for its own protocol,
	// or a careless client for markup.
	hostileText = "50% %zz %0A \"q\" <b>&amp;</b> \\ 'x', a=b; c\tt\r\ngrpc-status: 0\r\n\r\nend\x7f\u0000 ☃ 🎉"

	largeBytes = 8 * mib

	// anyMessage is for a status whose text is not ours to say.
	anyMessage = "*"
)

// passingDeadline is long enough for one reply on a machine that is slow and has other things
// to do.
const passingDeadline = 5 * time.Second

// scenarios is what every client must do, as far as it can.
var scenarios = append([]scenario{
	{
		name: "unary", method: "Unary", replies: 1,
		script: probe.Script{Echo: true}, requests: []jobRequest{{Text: "hello"}},
		check: func(v *verdict, o observation, _ probe.Record) { v.texts(o, "hello") },
	},
	{
		name: "server stream", method: "ServerStream", replies: 50,
		script: probe.Script{Replies: 50, ReplyBytes: 3000}, requests: []jobRequest{{}},
		check: func(v *verdict, o observation, _ probe.Record) { v.numbered(o, 3000) },
	},
	{
		name: "client stream", method: "ClientStream", replies: 1,
		requests: make([]jobRequest, 5),
		check:    func(v *verdict, o observation, r probe.Record) { v.readAll(o, r, 5) },
	},
	{
		name: "bidi, each request after a reply", method: "Bidi", replies: 4,
		script: probe.Script{Echo: true}, pingPong: true,
		requests: []jobRequest{{Text: "a"}, {Text: "b"}, {Text: "c"}, {Text: "d"}},
		check: func(v *verdict, o observation, r probe.Record) {
			v.texts(o, "a", "b", "c", "d")
			if !r.HalfClosed {
				v.errorf("the half-close has not reached the backend")
			}
		},
	},
	{
		name: "replies after the half-close", method: "Bidi", replies: 3,
		script: probe.Script{Replies: 3}, requests: make([]jobRequest, 2),
		check: func(v *verdict, o observation, r probe.Record) { v.readAll(o, r, 2) },
	},
	{
		name: "replies before any request", method: "Bidi", replies: 3,
		script: probe.Script{Replies: 3, RepliesFirst: true}, repliesFirst: 3, requests: make([]jobRequest, 2),
		check: func(v *verdict, o observation, r probe.Record) {
			if o.Replies[0].Received != 0 || r.Received != 2 || !r.HalfClosed {
				v.errorf("the backend had read %d requests before and %d at the end (half-close: %v), want 0 and 2", o.Replies[0].Received, r.Received, r.HalfClosed)
			}
		},
	},
	{
		name: "the header before any message", place: calm, method: "ServerStream", cancelOnHeader: true,
		script: probe.Script{HeaderEarly: true, Header: []probe.Field{{Name: "x-head", Value: "early"}}, Hang: true}, requests: []jobRequest{{}},
		code: codes.Canceled, message: anyMessage,
		check: func(v *verdict, o observation, r probe.Record) {
			v.equal("x-head", o.Header["x-head"], "early")
			v.cancelled(o, r)
		},
	},
	{
		name: "many replies in order", method: "ServerStream", replies: 3000,
		script: probe.Script{Replies: 3000, ReplyBytes: 20}, requests: []jobRequest{{}},
		check: func(v *verdict, o observation, _ probe.Record) { v.numbered(o, 20) },
	},
	{
		name: "many requests in order", method: "ClientStream", replies: 1,
		script: probe.Script{AnyPayload: true}, requests: many(2000, jobRequest{Bytes: 100}),
		check: func(v *verdict, o observation, r probe.Record) { v.readAll(o, r, 2000) },
	},
	{
		name: "many both ways at once", method: "Bidi", replies: 500,
		script: probe.Script{Echo: true, AnyPayload: true}, requests: many(500, jobRequest{Bytes: 1000}),
		check: func(v *verdict, o observation, r probe.Record) {
			for i, reply := range o.Replies {
				if reply.Sequence != uint64(i) || reply.SHA256 != sum(jobPayload(1000)) {
					v.errorf("reply %d is number %d with the sum %s", i, reply.Sequence, reply.SHA256)
					return
				}
			}
			v.readAll(o, r, 500)
		},
	},
	{
		name: "a stream of no replies", method: "ServerStream",
		script: probe.Script{Header: []probe.Field{{Name: "x-head", Value: "1"}}, Trailer: []probe.Field{{Name: "x-tail", Value: "2"}}}, requests: []jobRequest{{}},
		check: func(v *verdict, o observation, _ probe.Record) { v.equal("x-tail", o.Trailer["x-tail"], "2") },
	},
	{
		name: "a stream of no requests", method: "ClientStream", replies: 1,
		check: func(v *verdict, o observation, r probe.Record) { v.readAll(o, r, 0) },
	},
	{
		name: "empty messages", method: "ServerStream", replies: 3,
		script: probe.Script{Replies: 3, EmptyReplies: true}, requests: []jobRequest{{}},
		check: func(v *verdict, o observation, r probe.Record) {
			for _, reply := range o.Replies {
				if reply.Sequence != 0 || reply.Bytes != 0 || reply.Text != "" {
					v.errorf("a reply is not empty: %+v", reply)
				}
			}
			if r.Received != 1 {
				v.errorf("the backend read %d requests, want an empty one", r.Received)
			}
		},
	},
	{
		name: "8 MiB in a message, both ways", method: "Unary", replies: 1,
		script: probe.Script{Echo: true, AnyPayload: true}, requests: []jobRequest{{Bytes: largeBytes}},
		check: func(v *verdict, o observation, _ probe.Record) {
			if r := o.Replies[0]; r.Bytes != largeBytes || r.SHA256 != sum(jobPayload(largeBytes)) {
				v.errorf("%d bytes with the sum %s came back", r.Bytes, r.SHA256)
			}
		},
	},
	{
		name: "compressed requests and replies", method: "Unary", replies: 1, compress: true,
		script: probe.Script{Echo: true, AnyPayload: true}, requests: []jobRequest{{Bytes: 100 * kib}},
		check: func(v *verdict, o observation, r probe.Record) {
			if r := o.Replies[0]; r.Bytes != 100*kib || r.SHA256 != sum(jobPayload(100*kib)) {
				v.errorf("%d bytes with the sum %s came back", r.Bytes, r.SHA256)
			}
			if r.Encoding != "gzip" {
				v.errorf("the requests came to the backend in the encoding %q, want gzip", r.Encoding)
			}
		},
	},
	{
		name: "unicode in messages", method: "Unary", replies: 1,
		script: probe.Script{Echo: true}, requests: []jobRequest{{Text: unicodeText + hostileText}},
		check: func(v *verdict, o observation, _ probe.Record) { v.texts(o, unicodeText+hostileText) },
	},
	{
		name: "metadata of the request", method: "Unary", replies: 1,
		script:   probe.Script{EchoMetadata: true},
		metadata: []probe.Field{{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}, {Name: "x-b-bin", Bytes: []byte{0, 1, 2}}, {Name: "x-b-bin", Bytes: []byte{0xff, 0xee}}},
		requests: []jobRequest{{}},
		check: func(v *verdict, o observation, r probe.Record) {
			// A browser joins the values of a name; only "-bin" may be split again.
			v.equal("x-a", strings.Split(strings.Join(o.Metadata["x-a"], ", "), ", "), "1", "2")
			v.equal("x-b-bin", o.Metadata["x-b-bin"], "AAEC", "/+4")
			v.equal("x-b-bin at the backend", r.Values("x-b-bin"), "\x00\x01\x02", "\xff\xee")
		},
	},
	{
		name: "metadata of the response", method: "Unary", replies: 1,
		script: probe.Script{
			Header:  []probe.Field{{Name: "x-head", Value: "1"}, {Name: "x-head", Value: "2"}, {Name: "x-head-bin", Bytes: []byte{0, 1, 2}}, {Name: "x-head-bin", Bytes: []byte{0xff}}},
			Trailer: []probe.Field{{Name: "x-tail", Value: "3"}, {Name: "x-tail-bin", Bytes: []byte{0xfb, 0xff}}},
		},
		requests: []jobRequest{{}},
		check: func(v *verdict, o observation, _ probe.Record) {
			v.equal("x-head", o.Header["x-head"], "1", "2")
			v.equal("x-head-bin", o.Header["x-head-bin"], "AAEC", "/w")
			v.equal("x-tail", o.Trailer["x-tail"], "3")
			v.equal("x-tail-bin", o.Trailer["x-tail-bin"], "+/8")
		},
	},
	{
		name: "metadata with nothing in it", method: "Unary", replies: 1,
		script: probe.Script{
			EchoMetadata: true,
			Header:       []probe.Field{{Name: "x-head", Value: ""}, {Name: "x-head-bin", Bytes: []byte{}}},
			Trailer:      []probe.Field{{Name: "x-tail", Value: ""}, {Name: "x-tail-bin", Bytes: []byte{}}},
		},
		metadata: []probe.Field{{Name: "x-a", Value: ""}, {Name: "x-b-bin", Bytes: []byte{}}},
		requests: []jobRequest{{}},
		check: func(v *verdict, o observation, r probe.Record) {
			v.equal("x-a at the backend", r.Values("x-a"), "")
			v.equal("x-b-bin at the backend", r.Values("x-b-bin"), "")
			v.equal("x-head", o.Header["x-head"], "")
			v.equal("x-head-bin", o.Header["x-head-bin"], "")
			v.equal("x-tail", o.Trailer["x-tail"], "")
			v.equal("x-tail-bin", o.Trailer["x-tail-bin"], "")
		},
	},
	{
		name: "trailers with several values", method: "ServerStream", replies: 1,
		script:   probe.Script{Replies: 1, Trailer: []probe.Field{{Name: "x-tail", Value: "a"}, {Name: "x-tail", Value: "b"}, {Name: "x-tail-bin", Bytes: []byte("\x00end")}, {Name: "x-tail-bin", Bytes: []byte("\xff")}}},
		requests: []jobRequest{{}},
		check: func(v *verdict, o observation, _ probe.Record) {
			v.equal("x-tail", o.Trailer["x-tail"], "a", "b")
			v.equal("x-tail-bin", o.Trailer["x-tail-bin"], "AGVuZA", "/w")
		},
	},
	{
		name: "an error and nothing else", method: "ServerStream",
		script:   probe.Script{Code: uint32(codes.FailedPrecondition), Message: "not now", Trailer: []probe.Field{{Name: "x-tail", Value: "early"}}},
		requests: []jobRequest{{}},
		code:     codes.FailedPrecondition, message: "not now",
		check: func(v *verdict, o observation, _ probe.Record) { v.equal("x-tail", o.Trailer["x-tail"], "early") },
	},
	{
		name: "an error after replies", method: "ServerStream", replies: 3,
		script: probe.Script{
			Replies: 3, Code: uint32(codes.Aborted), Message: "lost", Details: []string{"LATE"},
			Trailer: []probe.Field{{Name: "x-tail", Value: "late"}},
		},
		requests: []jobRequest{{}},
		code:     codes.Aborted, message: "lost",
		check: func(v *verdict, o observation, _ probe.Record) {
			v.reasons(o, "probe", "LATE")
			v.equal("x-tail", o.Trailer["x-tail"], "late")
		},
	},
	{
		name: "an error while the client sends", method: "ClientStream",
		script:   probe.Script{Read: probe.ReadOne, AnyPayload: true, Code: uint32(codes.FailedPrecondition), Message: "enough"},
		requests: many(100, jobRequest{Bytes: 64 * kib}),
		code:     codes.FailedPrecondition, message: "enough",
	},
	{
		name: "rich details, byte by byte", method: "Unary",
		script:   probe.Script{Code: uint32(codes.InvalidArgument), Message: unicodeASCII, Details: []string{"FIRST", "SECOND"}, Rich: true},
		requests: []jobRequest{{}},
		code:     codes.InvalidArgument, message: unicodeASCII,
		check: func(v *verdict, o observation, r probe.Record) {
			v.reasons(o, "probe", "FIRST", "SECOND", "RICH")
			v.sameStatus(o, r.Status)
		},
	},
	{
		name: "a status message in unicode", method: "Unary",
		script:   probe.Script{Code: uint32(codes.NotFound), Message: unicodeText},
		requests: []jobRequest{{}},
		code:     codes.NotFound, message: unicodeText,
	},
	{
		name: "a hostile status message", method: "ServerStream", replies: 1,
		script:   probe.Script{Replies: 1, Code: uint32(codes.NotFound), Message: hostileText},
		requests: []jobRequest{{}},
		code:     codes.NotFound, message: hostileText,
	},
	{
		name: "a deadline passes", place: calm, method: "ServerStream", replies: 1, timeout: passingDeadline,
		script: probe.Script{Replies: 1, Hang: true}, requests: []jobRequest{{}},
		code: codes.DeadlineExceeded, message: anyMessage,
		check: func(v *verdict, o observation, r probe.Record) {
			if r.Timeout <= 0 || r.Timeout > passingDeadline {
				v.errorf("the backend got a deadline of %v, want up to %v", r.Timeout, passingDeadline)
			}
			if after := r.Cancelled.Sub(r.Began); after < 0 || after > 2*passingDeadline {
				v.errorf("the backend's call ended after %v, want about %v (%s)", after, passingDeadline, r.Cause)
			}
			// A browser that has much to do is late.
			if after := time.Duration(o.Millis) * time.Millisecond; after < passingDeadline*2/3 || after > 10*passingDeadline {
				v.errorf("the client's call ended after %v, want about %v", after, passingDeadline)
			}
		},
	},
	{
		name: "the client cancels", place: calm, method: "ServerStream", replies: 2, cancelAt: 2,
		script: probe.Script{Replies: 2, Hang: true}, requests: []jobRequest{{}},
		code: codes.Canceled, message: anyMessage,
		check: func(v *verdict, o observation, r probe.Record) { v.cancelled(o, r) },
	},
	{
		name: "the client cancels while it sends", place: calm, method: "Bidi", replies: 2, cancelAt: 2, pingPong: true,
		// Node's HTTP/2 half-closes before it resets: that alone must not end the call.
		script: probe.Script{Echo: true, Hang: true}, requests: make([]jobRequest, 5),
		code: codes.Canceled, message: anyMessage,
		check: func(v *verdict, o observation, r probe.Record) { v.cancelled(o, r) },
	},
	{
		name: "the client goes away", place: left, method: "ServerStream",
		script: probe.Script{Replies: 1, Hang: true}, requests: []jobRequest{{}},
	},
	{
		name: "the backend is killed", place: doomed, method: "ServerStream", replies: 1,
		script: probe.Script{Replies: 1, Hang: true}, requests: []jobRequest{{}},
		code: codes.Unavailable, message: anyMessage,
		check: func(v *verdict, o observation, _ probe.Record) { v.reasons(o, "culvert", "UPSTREAM_RESET") },
	},
	{
		name: "culvert is told to stop", place: drained, method: "ServerStream", replies: 1,
		script: probe.Script{Replies: 1, Hang: true}, requests: []jobRequest{{}},
		code: codes.Unavailable, message: anyMessage,
		check: func(v *verdict, o observation, _ probe.Record) { v.reasons(o, "culvert", "DRAINING") },
	},
	{
		name: "a request over culvert's limit", place: small, method: "Unary",
		script: probe.Script{AnyPayload: true}, requests: []jobRequest{{Bytes: 2 * mib}},
		code: codes.ResourceExhausted, message: anyMessage,
		check: func(v *verdict, o observation, _ probe.Record) { v.reasons(o, "culvert", "REQUEST_TOO_LARGE") },
	},
	{
		name: "a reply over culvert's limit", place: small, method: "ServerStream", replies: 0,
		script: probe.Script{Replies: 1, ReplyBytes: 2 * mib}, requests: []jobRequest{{}},
		code: codes.ResourceExhausted, message: anyMessage,
		check: func(v *verdict, o observation, _ probe.Record) { v.reasons(o, "culvert", "RESPONSE_TOO_LARGE") },
	},
	{
		name: "a method that isn't there", method: "Missing", requests: []jobRequest{{}},
		code: codes.Unimplemented, message: anyMessage,
	},
	{
		name: "a refused origin", place: foreign, method: "Unary", requests: []jobRequest{{}},
	},
	{
		// The pause is long enough to fill every buffer on the way on a busy machine,
		// and for the backend then to be seen waiting: clients that read on take half
		// a gigabyte meanwhile, all of them in one browser.
		name: "a slow reader stops the backend", place: slow, method: "ServerStream", replies: 96, pause: 25 * time.Second,
		script: probe.Script{Replies: 96, ReplyBytes: 256 * kib}, requests: []jobRequest{{}},
		check: func(v *verdict, o observation, r probe.Record) {
			v.numbered(o, 256*kib)
			if r.Blocked < time.Second {
				v.errorf("the backend never waited longer than %v, want a second", r.Blocked)
			}
		},
	},
}, everyStatus()...)

// unicodeASCII is a message that needs no escapes: what becomes of those has a
// row of its own.
const unicodeASCII = "these fields are wrong"

// everyStatus has a scenario for each code but OK.
func everyStatus() []scenario {
	var out []scenario
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		out = append(out, scenario{
			name: fmt.Sprintf("status %v", code), row: "every status code", method: "Unary",
			script: probe.Script{Code: uint32(code), Message: "as told"}, requests: []jobRequest{{}},
			code: code, message: "as told",
		})
	}
	return out
}

func many(n int, r jobRequest) []jobRequest {
	out := make([]jobRequest, n)
	for i := range out {
		out[i] = r
	}
	return out
}

// readAll checks that the last reply came after all requests and the half-close.
func (v *verdict) readAll(o observation, r probe.Record, n int64) {
	if got := int64(o.Replies[len(o.Replies)-1].Received); got != n || r.Received != n || !r.HalfClosed {
		v.errorf("the backend read %d requests, %d before the last reply (half-close: %v), want %d", r.Received, got, r.HalfClosed, n)
	}
}

// cancelled checks that the client has cancelled, and that the backend saw it soon.
func (v *verdict) cancelled(o observation, r probe.Record) {
	if !o.Cancelled {
		v.errorf("the client has not cancelled")
	}
	if after := r.Cancelled.Sub(r.Began); after < 0 || after > soon(o.Client) {
		v.errorf("the backend's call was cancelled after %v, want at once (%s)", after, r.Cause)
	}
}

// soon is how long the end of a client's call may take to reach the backend.
//
// Chromium may keep the connection of a request that was aborted between two
// reads for another 5 s, to see whether the response ends by itself
// (HttpResponseBodyDrainer in net/http/http_response_body_drainer.cc).
func soon(client string) time.Duration {
	if strings.HasPrefix(client, "chromium") && !strings.HasSuffix(client, "websocket") && !strings.HasSuffix(client, "culvert-web") {
		return 7 * time.Second
	}
	return 2 * time.Second
}
