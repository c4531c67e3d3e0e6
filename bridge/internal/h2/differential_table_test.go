package h2

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Patterns of lines.
const (
	reset     = "S: RST_STREAM "
	goAway    = "connection: GOAWAY "
	closed    = "connection: closed"
	request   = "(S delivers: request" + anything + ")?" // it may wait for a place
	answered  = "S: header :status: "
	anything  = "[^\n]*\n?(S[^\n]*\n?)*" // about the stream
	brokenToo = "(S delivers: a broken body\n)?"
)

// differences is every one there is.
var differences = []difference{
	// Requests that are malformed.
	{
		name: "a field that is about the connection", rfc: "RFC 9113 §8.2.2",
		why:  "the request is malformed, so its stream is reset; net/http answers 400",
		when: block(aboutConnection),
		ours: reset + "PROTOCOL_ERROR", theirs: "(" + answered + "400" + anything + ")?", then: others,
	},
	{
		name: "a content-length that is none", rfc: "RFC 9113 §8.1.1, RFC 9110 §8.6",
		why:  "the request is malformed; net/http takes the first of several, and 0 for one that it can't read",
		when: block(noLength),
		ours: reset + "PROTOCOL_ERROR", theirs: request, then: others,
	},
	{
		name: "a content-length that isn't the content's", rfc: "RFC 9113 §8.1.1",
		why: "the request is malformed, so its stream is reset; net/http only breaks the body that the handler reads",
		when: func(c *comparison, st step) bool {
			declared, said := c.declared[st.h.stream]
			got := c.got[st.h.stream]
			return said && (got > declared || got < declared && st.end)
		},
		ours: brokenToo + reset + "PROTOCOL_ERROR", theirs: "(S" + anything + ")?", then: others,
	},
	{
		name: "hosts that are none or several", rfc: "RFC 9110 §7.2, RFC 9112 §3.2",
		why:  "whoever judges the request could take it for one to another host; net/http checks the host of HTTP/1 alone",
		when: block(noHost),
		ours: reset + "PROTOCOL_ERROR", theirs: request, then: others,
	},
	{
		name: "a path that is none", rfc: "RFC 9113 §8.3.1",
		why: "a path begins with a slash, or is the asterisk of OPTIONS; net/http takes any URI",
		when: block(func(st step) bool {
			return slices.ContainsFunc(st.values(":path"), func(path string) bool { return !strings.HasPrefix(path, "/") })
		}),
		ours: reset + "PROTOCOL_ERROR", theirs: request, then: others,
	},
	{
		name: "a method that is none", rfc: "RFC 9110 §9.1",
		why: "a method is a token; net/http checks the method of HTTP/1 alone",
		when: block(func(st step) bool {
			return slices.ContainsFunc(st.values(":method"), func(method string) bool { return !httpguts.ValidHeaderFieldName(method) })
		}),
		ours: reset + "PROTOCOL_ERROR", theirs: request, then: others,
	},
	{
		name: "a CONNECT with an empty path or scheme", rfc: "RFC 9113 §8.5",
		why: "these fields must be omitted; net/http only looks whether they are empty",
		when: block(func(st step) bool {
			return slices.Contains(st.values(":method"), "CONNECT") && slices.Contains(append(st.values(":path"), st.values(":scheme")...), "")
		}),
		ours: reset + "PROTOCOL_ERROR", theirs: request, then: others,
	},
	{
		name: "an empty :protocol", rfc: "RFC 9113 §8.3",
		why:  "there is no extended CONNECT, so the field is undefined; net/http only looks whether it is empty",
		when: block(func(st step) bool { return slices.Contains(st.values(":protocol"), "") }),
		ours: reset + "PROTOCOL_ERROR", theirs: request, then: others,
	},
	{
		name: "a malformed field and a CONTINUATION behind it", rfc: "RFC 9113 §8.1.1",
		why:  "a malformed request ends its stream; net/http ends the connection then",
		when: frames(http2.FrameHeaders, http2.FrameContinuation),
		ours: brokenToo + reset + "(PROTOCOL_ERROR|REFUSED_STREAM)", theirs: goAway + "PROTOCOL_ERROR", then: nothing, looser: true,
	},
	{
		name: "a malformed field and bad Huffman behind it", rfc: "RFC 9113 §4.3",
		why: "the strings behind a malformed field are not decoded, in culvert as in net/http, which finds fewer fields malformed before the block's end; the table is kept either way",
		when: func(c *comparison, st step) bool {
			return frames(http2.FrameHeaders, http2.FrameContinuation)(c, st) && !st.open && st.fields == nil
		},
		ours: "(" + brokenToo + reset + "(PROTOCOL_ERROR|REFUSED_STREAM))?", theirs: goAway + "COMPRESSION_ERROR", then: nothing, looser: true,
	},

	// Header blocks.
	{
		name: "a header block that is refused before its end", rfc: "RFC 9113 §4.3",
		why:  "culvert decodes a block when it is whole; net/http decodes each frame of it",
		when: func(_ *comparison, st step) bool { return st.whole && st.open },
		ours: "", theirs: goAway + "(COMPRESSION_ERROR|PROTOCOL_ERROR)", then: blockEnd,
	},
	{
		name: "a header block that is malformed and then no HPACK", rfc: "RFC 9113 §4.3",
		why:  "the code says that the block can't be decoded; net/http stops before",
		when: frames(http2.FrameContinuation),
		ours: goAway + "COMPRESSION_ERROR", theirs: goAway + "PROTOCOL_ERROR", then: all,
	},
	{
		name: "HEADERS on a stream of the server's", rfc: "RFC 9113 §5.1.1",
		why:  "culvert sees it at the first frame of the block; net/http at the last",
		when: func(_ *comparison, st step) bool { return st.whole && st.open && st.h.stream%2 == 0 },
		ours: goAway + "PROTOCOL_ERROR", theirs: "", then: nothing,
	},
	{
		name: "a header over the limit", rfc: "RFC 6585 §5",
		why:  "both answer 431, with words of their own",
		ours: answered + "431" + anything, theirs: answered + "431" + anything, then: others,
	},
	{
		name: "a header far over the limit", rfc: "RFC 6585 §5, RFC 9113 §10.5.1",
		why:  "the request is answered 431, or its trailers reset the stream, as long as a block is at most twice the limit; net/http ends the connection for one long string",
		when: block(large),
		ours: "(" + answered + "431" + anything + "|" + brokenToo + reset + "(ENHANCE_YOUR_CALM|PROTOCOL_ERROR|REFUSED_STREAM))?", theirs: goAway + "(COMPRESSION_ERROR|PROTOCOL_ERROR)", then: nothing, looser: true,
	},
	{
		name: "a header block of more than twice the limit", rfc: "RFC 9113 §10.5.1",
		why:  "that is a flood, and the code says so",
		when: frames(http2.FrameHeaders, http2.FrameContinuation),
		ours: goAway + "ENHANCE_YOUR_CALM", theirs: goAway + "(COMPRESSION_ERROR|PROTOCOL_ERROR)", then: all,
	},

	{
		name: "a header block of more than 256 frames", rfc: "RFC 9113 §10.5",
		why:  "that is a flood; net/http bounds the bytes of a block and not its frames",
		when: frames(http2.FrameContinuation),
		ours: goAway + "ENHANCE_YOUR_CALM", theirs: "", then: nothing,
	},
	{
		name: "half a frame out of place", rfc: "RFC 9113 §4.1",
		why:  "culvert looks at a frame when it is whole; net/http refuses it by its header",
		when: func(_ *comparison, st step) bool { return !st.whole },
		ours: "", theirs: goAway + "PROTOCOL_ERROR", then: nothing, looser: true,
	},

	// Requests of which net/http makes more.
	{
		name: "a field Host", rfc: "RFC 9113 §8.3.1",
		why:  "it is the authority of a request without one, and else says nothing; net/http shows it to handlers, although it doesn't over HTTP/1",
		ours: "", theirs: "S delivers: the field Host .*", then: all,
	},
	{
		name: "100 (Continue) for a request without content", rfc: "RFC 9110 §10.1.1",
		why:  "a client that has nothing to send doesn't wait for it",
		ours: "", theirs: answered + "100", then: all,
	},
	{
		name: "a body that was reset before it was read", rfc: "RFC 9113 §5.1, §8.1",
		why:  "what was not read of a request that is given up is dropped; net/http hands it out, and its end as if the request went on",
		ours: "(" + brokenBody + ")?", theirs: `S delivers: ("|\d+ bytes)` + anything, then: others,
	},

	// Streams.
	{
		name: "an answer before the request's end", rfc: "RFC 9113 §8.1",
		why:  "a server may reset the stream then; culvert waits, since some clients lose the answer with the reset (decision 0015)",
		ours: "", theirs: brokenToo + reset + "NO_ERROR", then: others,
	},
	{
		name: "more streams than are allowed", rfc: "RFC 9113 §5.1.2",
		why:  "either code may be; from culvert's the client learns that it may try again",
		when: frames(http2.FrameHeaders, http2.FrameContinuation),
		ours: reset + "REFUSED_STREAM", theirs: reset + "PROTOCOL_ERROR", then: others,
	},
	{
		name: "one stream fewer in net/http", rfc: "RFC 9113 §5.1.2",
		why:  "by a difference before, another stream is open in culvert alone, and so a new one has no place",
		when: apart,
		ours: reset + "REFUSED_STREAM", theirs: "(S" + anything + ")?", then: others,
	},
	{
		name: "one stream more in net/http", rfc: "RFC 9113 §5.1.2",
		why:  "by a difference before, another stream is open in net/http alone, and so a new one has no place",
		when: apart,
		ours: "(S" + anything + ")?", theirs: "(" + reset + "(REFUSED_STREAM|PROTOCOL_ERROR))?", then: others, looser: true,
	},
	{
		name: "a frame for a stream whose state differs", rfc: "RFC 9113 §5.1",
		why:  "by a difference before, the stream is over in net/http, which ends the connection for what still comes",
		when: apartHere,
		ours: "", theirs: goAway + "(PROTOCOL_ERROR|STREAM_CLOSED)", then: nothing, looser: true,
	},
	{
		name: "DATA behind a reset", rfc: "RFC 9113 §5.1",
		why:  "it may have been under way, and is ignored; net/http resets the stream again",
		when: cut,
		ours: "", theirs: reset + "STREAM_CLOSED", then: others,
	},
	{
		name: "a frame for a stream that was reset", rfc: "RFC 9113 §5.1",
		why:  "it may have been under way, and is ignored; net/http ends the connection, since it forgot the stream or never noted it",
		when: cut,
		ours: "", theirs: goAway + "PROTOCOL_ERROR", then: nothing, looser: true,
	},
	{
		name: "HEADERS for a stream that was reset", rfc: "RFC 9113 §5.1",
		why:  "they may have been under way, and are ignored; net/http never noted a stream that began with a malformed block, and begins it now",
		when: cut,
		ours: "", theirs: "(S: |S delivers: request)" + anything, then: others,
	},
	{
		name: "a frame for a stream below one that was malformed", rfc: "RFC 9113 §5.1.1",
		why:  "the number of a malformed request is used, and those below are closed; net/http never notes it",
		when: frames(http2.FrameData, http2.FrameWindowUpdate, http2.FrameRSTStream),
		ours: "(" + reset + "STREAM_CLOSED)?", theirs: goAway + "PROTOCOL_ERROR", then: nothing, looser: true,
	},
	{
		name: "a malformed block on a stream that no client begins", rfc: "RFC 9113 §5.1.1",
		why:  "the number ends the connection; net/http looks at the fields first, and resets the stream",
		when: frames(http2.FrameHeaders, http2.FrameContinuation),
		ours: brokenToo + goAway + "(PROTOCOL_ERROR|STREAM_CLOSED)", theirs: reset + "PROTOCOL_ERROR", then: nothing,
	},
	{
		name: "malformed HEADERS behind a stream's end", rfc: "RFC 9113 §5.1",
		why:  "culvert looks at the stream's state first; net/http at the fields",
		when: frames(http2.FrameHeaders, http2.FrameContinuation),
		ours: reset + "STREAM_CLOSED", theirs: reset + "PROTOCOL_ERROR", then: all,
	},
	{
		name: "no HPACK on a stream that no client begins", rfc: "RFC 9113 §5.1.1",
		why:  "culvert looks at the number first",
		when: frames(http2.FrameHeaders),
		ours: goAway + "PROTOCOL_ERROR", theirs: goAway + "COMPRESSION_ERROR", then: all,
	},
	{
		name: "HEADERS below a stream that was malformed", rfc: "RFC 9113 §5.1.1",
		why:  "the number of a malformed request is used, and numbers only go up; net/http never notes it",
		when: frames(http2.FrameHeaders, http2.FrameContinuation),
		ours: brokenToo + goAway + "PROTOCOL_ERROR", theirs: request + "(" + reset + "(REFUSED_STREAM|PROTOCOL_ERROR))?", then: nothing,
	},
	{
		name: "HEADERS on a stream that has ended", rfc: "RFC 9113 §5.1",
		why:  "the code says that the stream was closed; net/http has the one for numbers that go down, or decodes more of a malformed block",
		when: frames(http2.FrameHeaders, http2.FrameContinuation),
		ours: goAway + "STREAM_CLOSED", theirs: goAway + "(PROTOCOL_ERROR|COMPRESSION_ERROR)", then: all,
	},
	{
		name: "HEADERS on a stream that the client reset", rfc: "RFC 9113 §5.1",
		why:  "that is an error of the stream; net/http ends the connection",
		when: frames(http2.FrameHeaders, http2.FrameContinuation),
		ours: reset + "STREAM_CLOSED", theirs: goAway + "PROTOCOL_ERROR", then: nothing, looser: true,
	},

	// Frames.
	{
		name: "padding or priority without room", rfc: "RFC 9113 §4.2, §6.1, §6.2",
		why:  "the client is told why; net/http closes the connection without GOAWAY",
		when: frames(http2.FrameData, http2.FrameHeaders, http2.FramePushPromise),
		ours: goAway + "(FRAME_SIZE_ERROR|PROTOCOL_ERROR)", theirs: closed, then: nothing,
	},
	{
		name: "more padding than HEADERS have", rfc: "RFC 9113 §6.2",
		why:  "that is an error of the connection; net/http resets the stream and goes on without the block",
		when: frames(http2.FrameHeaders),
		ours: goAway + "(PROTOCOL_ERROR|FRAME_SIZE_ERROR)", theirs: "(" + reset + "PROTOCOL_ERROR)?", then: nothing,
	},
	{
		name: "PRIORITY of another size", rfc: "RFC 9113 §6.3",
		why:  "that is an error of the stream; net/http ends the connection",
		when: frames(http2.FramePriority),
		ours: "(" + brokenToo + reset + "FRAME_SIZE_ERROR)?", theirs: goAway + "FRAME_SIZE_ERROR", then: nothing, looser: true,
	},
	{
		name: "a stream that depends on itself before it began", rfc: "RFC 9113 §5.1, §6.4",
		why:  "no RST_STREAM may be sent for an idle stream; net/http does",
		when: frames(http2.FramePriority),
		ours: goAway + "PROTOCOL_ERROR", theirs: reset + "PROTOCOL_ERROR", then: nothing,
	},
	{
		name: "trailers that depend on their own stream", rfc: "RFC 9113 §5.3.2, RFC 7540 §5.3.1",
		why:  "a stream can't depend on itself; net/http looks at the priority of requests alone",
		when: func(_ *comparison, st step) bool { return st.onItself },
		ours: brokenToo + reset + "PROTOCOL_ERROR", theirs: "(S" + anything + ")?", then: others,
	},
	{
		name: "WINDOW_UPDATE of 0 for an idle stream", rfc: "RFC 9113 §5.1, §6.9",
		why:  "no RST_STREAM may be sent for an idle stream; net/http does",
		when: frames(http2.FrameWindowUpdate),
		ours: goAway + "PROTOCOL_ERROR", theirs: reset + "PROTOCOL_ERROR", then: nothing,
	},
	{
		name: "WINDOW_UPDATE of 0 for a stream that is over", rfc: "RFC 9113 §5.1",
		why:  "it may have been under way, and is ignored; net/http resets the stream again",
		when: frames(http2.FrameWindowUpdate),
		ours: "", theirs: reset + "PROTOCOL_ERROR", then: others,
	},
	{
		name: "a frame that breaks two rules", rfc: "RFC 9113 §5.4",
		why:  "its size and its stream may not be; either code is right",
		when: frames(http2.FramePing, http2.FrameSettings, http2.FrameGoAway, http2.FrameWindowUpdate, http2.FrameRSTStream),
		ours: goAway + "PROTOCOL_ERROR", theirs: goAway + "FRAME_SIZE_ERROR", then: all,
	},

	// Settings.
	{
		name: "a setting twice in a frame", rfc: "RFC 9113 §6.5.3",
		why:  "the values are taken in order; net/http ends the connection",
		when: frames(http2.FrameSettings),
		ours: "connection: SETTINGS acknowledged", theirs: goAway + "PROTOCOL_ERROR", then: nothing, looser: true,
	},
	{
		name: "more than 100 settings", rfc: "RFC 9113 §10.5",
		why:  "that is a flood, and the code says so",
		when: frames(http2.FrameSettings),
		ours: goAway + "ENHANCE_YOUR_CALM", theirs: goAway + "PROTOCOL_ERROR", then: all,
	},
	{
		name: "a window of a stream that is over in net/http alone", rfc: "RFC 9113 §6.9.2",
		why:  "by a difference before, culvert still has the stream, whose window gets too large",
		when: func(c *comparison, st step) bool { return st.h.kind == http2.FrameSettings && len(c.apart) > 0 },
		ours: goAway + "FLOW_CONTROL_ERROR", theirs: "connection: SETTINGS acknowledged", then: nothing,
	},
	{
		name: "SETTINGS_NO_RFC7540_PRIORITIES above 1", rfc: "RFC 9218 §2.1",
		why:  "that is an error of the connection; net/http doesn't know the setting",
		when: frames(http2.FrameSettings),
		ours: goAway + "PROTOCOL_ERROR", theirs: "connection: SETTINGS acknowledged", then: nothing,
	},
	{
		name: "SETTINGS that begin with an acknowledgement", rfc: "RFC 9113 §3.4",
		why:  "the first frame has to be the client's own settings",
		when: frames(http2.FrameSettings),
		ours: goAway + "PROTOCOL_ERROR", theirs: "", then: nothing,
	},
	{
		name: "no whole SETTINGS in time", rfc: "RFC 9113 §3.4",
		why:  "the client is told why; net/http waits, or closes the connection without GOAWAY",
		ours: goAway + "SETTINGS_TIMEOUT", theirs: "", then: nothing,
	},

	// Ends.
	{
		name: "a frame behind the client's GOAWAY", rfc: "RFC 9113 §6.8",
		why:  "with its last stream culvert shuts its side of the connection; net/http answers for a second more",
		when: func(c *comparison, _ step) bool { return c.saidGoodbye },
		ours: "", theirs: "(S|connection): " + anything, then: nothing,
	},
	{
		name: "an error behind the client's GOAWAY", rfc: "RFC 9113 §5.4.1, §6.8",
		why:  "it ends the connection with GOAWAY, and without one streams that began before go on; net/http tells nobody of an error then, takes nothing more and answers nothing",
		when: func(c *comparison, _ step) bool { return c.saidGoodbye }, anywhere: true,
		ours: "(?s:.+)", theirs: "", then: nothing, looser: true,
	},
}

// when is where a difference may come up.
type when = func(c *comparison, st step) bool

func frames(kinds ...http2.FrameType) when {
	return func(_ *comparison, st step) bool { return st.whole && slices.Contains(kinds, st.h.kind) }
}

// block selects whole header blocks for which the function returns true.
func block(holds func(st step) bool) when {
	return func(_ *comparison, st step) bool { return st.fields != nil && holds(st) }
}

// aboutConnection reports whether there are fields that HTTP/2 forbids, or allows
// with one value only.
func aboutConnection(st step) bool {
	if te := st.values("te"); len(te) > 1 || len(te) == 1 && te[0] != "trailers" && te[0] != "" {
		return true
	}
	return slices.ContainsFunc(st.fields, func(f hpack.HeaderField) bool { return forConnections[canonical(f.Name)] })
}

// noLength holds where a content-length can't be read, is another one twice, or is not
// that of the content that doesn't come.
func noLength(st step) bool {
	list := st.values("content-length")
	return slices.ContainsFunc(list, func(text string) bool {
		n, err := strconv.ParseUint(text, 10, 63)
		return err != nil || text != list[0] || st.end && n > 0
	})
}

// noHost holds where the host is none, or one of several.
func noHost(st step) bool {
	hosts := st.values("host")
	if len(hosts) > 1 {
		return true
	}
	authority := append(slices.DeleteFunc(st.values(":authority"), func(a string) bool { return a == "" }), hosts...)
	return len(authority) > 0 && (!httpguts.ValidHostHeader(authority[0]) || strings.Contains(authority[0], "@"))
}

// large reports whether there are fields over the limit.
func large(st step) bool {
	size := uint32(0)
	for _, f := range st.fields {
		size += f.Size()
	}
	return size > maxHeader
}

// apart is where a stream begins while the state of another one differs.
func apart(c *comparison, st step) bool {
	return frames(http2.FrameHeaders, http2.FrameContinuation)(c, st) && len(c.apart) > 0
}

// apartHere is where the state of the step's stream differs.
func apartHere(c *comparison, st step) bool { return c.apart[st.h.stream] != nil }

// cut is where culvert has reset the stream.
func cut(c *comparison, st step) bool { return c.reset[st.h.stream] }

func canonical(name string) string {
	var names nameCache
	return names.canonical(name)
}
