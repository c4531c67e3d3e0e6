package e2e

import (
	"regexp"
	"slices"
	"strings"
)

// A difference is something that culvert does otherwise than improbable-eng's
// wrapper. Its change makes the two transcripts of a script alike in that point,
// and in no other; it returns them as they are where the point doesn't come up.
type difference struct {
	what   string // what theirs does and ours doesn't, or the other way round
	why    string // ours does otherwise
	in     string // a pattern for the scripts where it may come up
	change func(ours, theirs transcript) (transcript, transcript)
}

// without takes the lines that one side alone has, and that match its pattern,
// away from it.
func without(oursPattern, theirsPattern string) func(ours, theirs transcript) (transcript, transcript) {
	drop := func(from, other transcript, pattern string) transcript {
		if pattern == "" {
			return from
		}
		re := regexp.MustCompile(`^(` + pattern + `)$`)
		return slices.DeleteFunc(slices.Clone(from), func(l string) bool { return re.MatchString(l) && !slices.Contains(other, l) })
	}
	return func(ours, theirs transcript) (transcript, transcript) {
		return drop(ours, theirs, oursPattern), drop(theirs, ours, theirsPattern)
	}
}

// their changes what improbable-eng's wrapper has done.
func their(change func(transcript) transcript) func(ours, theirs transcript) (transcript, transcript) {
	return func(ours, theirs transcript) (transcript, transcript) { return ours, change(slices.Clone(theirs)) }
}

// trailersFrame puts a status that came in the header where ours has it: in a
// last frame, with the metadata beside it.
func trailersFrame(tr transcript) transcript {
	isStatus := func(l string) bool { return strings.HasPrefix(l, "header grpc-status: ") }
	if !slices.ContainsFunc(tr, isStatus) || slices.Contains(tr, "frame of trailers") {
		return tr
	}
	http := regexp.MustCompile(`^header (content-type|vary|allow|access-control-[a-z-]+|x-content-type-options): `)
	var rest, moved transcript
	for _, l := range tr {
		if name, ok := strings.CutPrefix(l, "header "); ok && !http.MatchString(l) {
			moved = append(moved, "trailer "+name)
		} else {
			rest = append(rest, l)
		}
	}
	slices.SortStableFunc(moved, func(a, b string) int { return strings.Compare(fieldName(a), fieldName(b)) })
	at := slices.IndexFunc(rest, func(l string) bool {
		return strings.HasPrefix(l, "backend:") || strings.HasPrefix(l, "close ") || strings.HasPrefix(l, "cut after ") || strings.HasPrefix(l, "silence after ")
	})
	return slices.Concat(rest[:at], transcript{"frame of trailers"}, moved, rest[at:])
}

// fieldName is what comes before the colon.
func fieldName(line string) string {
	name, _, _ := strings.Cut(line, ": ")
	return name
}

// lowerCase is the names of a WebSocket's frames in lower case, in order.
func lowerCase(tr transcript) transcript {
	for i, l := range tr {
		name, value, ok := strings.Cut(l, ": ")
		if ok && strings.HasPrefix(name, "header ") {
			tr[i] = strings.ToLower(name) + ": " + value
		}
	}
	first := slices.IndexFunc(tr, isHeader)
	if first < 0 {
		return tr
	}
	n := 0
	for n = first; n < len(tr) && isHeader(tr[n]); n++ {
	}
	slices.SortStableFunc(tr[first:n], func(a, b string) int { return strings.Compare(fieldName(a), fieldName(b)) })
	return tr
}

func isHeader(l string) bool { return strings.HasPrefix(l, "header ") }

// differences is every one there is, in the order in which they are taken away.
var differences = []difference{
	// The frame of all messages.
	{
		what: "a frame's prefix and its payload are two WebSocket messages",
		why:  "their own client can read it, and one message a frame is half the work",
		in:   "^grpc-websockets", change: without("", "a frame that is not one WebSocket message"),
	},
	{
		what: "names in the header frame of a WebSocket are in canonical case",
		why:  "PROTOCOL-WEB wants lower case, and clients look them up so",
		in:   "^grpc-websockets", change: their(lowerCase),
	},
	{
		what: "the header frame of a WebSocket lists the trailers to come",
		why:  "Trailer is HTTP's, and no metadata",
		in:   "^grpc-websockets", change: without("", "header trailer: .*"),
	},
	{
		what: "the content type on a WebSocket is native gRPC's",
		why:  "what is sent is gRPC-Web",
		in:   "^grpc-websockets", change: without(`header content-type: application/grpc-web\+proto`, `header content-type: application/grpc(\+proto)?`),
	},
	{
		what: `a WebSocket is closed with the reason "request body closed"`,
		why:  "the status was told",
		in:   "^grpc-websockets", change: their(func(tr transcript) transcript {
			if i := slices.Index(tr, `close 1000 "request body closed"`); i >= 0 {
				tr[i] = `close 1000 ""`
			}
			return tr
		}),
	},
	{
		what: "a status that comes without a message is in the HTTP header, and the body is empty",
		why:  "middleboxes and CORS drop headers; a status in the body is read by every client",
		in:   "^grpc-web", change: their(trailersFrame),
	},
	{
		what: "a WebSocket's first frame holds the status of a call without messages",
		why:  "with a header frame before it, every answer is read alike",
		in:   "^grpc-websockets", change: without("frame of headers", ""),
	},
	// What each answer and each call has.
	{
		what:   "an answer has no x-request-id",
		why:    "it finds the call in the log",
		change: without("header x-request-id: [0-9a-f]{16}", ""),
	},
	{
		what: "an answer may be cached, buffered and guessed at by a proxy or a browser",
		why:  "it is a stream, and of no type that a browser shows",
		in:   "^grpc-web", change: without("header (cache-control: no-store, no-transform|x-accel-buffering: no|x-content-type-options: nosniff)", ""),
	},
	{
		what: "an answer exposes names also where no page asked",
		why:  "only a page's browser looks at them",
		in:   "^grpc-web", change: func(ours, theirs transcript) (transcript, transcript) {
			if slices.ContainsFunc(theirs, func(l string) bool { return strings.HasPrefix(l, "header access-control-allow-origin: "+oracleOrigin) }) {
				return ours, theirs
			}
			return without("", "header access-control-expose-headers: .*")(ours, theirs)
		},
	},
	{
		what: "an answer varies by Origin alone",
		why:  "where Origin is absent, Sec-Fetch-Site says whether it was a page",
		in:   "^grpc-web", change: without("header vary: Origin, Sec-Fetch-Site", "header vary: Origin"),
	},
	{
		what: "an answer to a page exposes the names of all headers but grpc-status-details-bin",
		why:  "those of metadata are enough, and the details are what an error has to say",
		in:   "page", change: without("header access-control-expose-headers: .*grpc-status, grpc-message, grpc-status-details-bin, x-request-id", "header access-control-expose-headers: .*grpc-status, grpc-message"),
	},
	{
		what:   "the backend isn't told who calls, over what, and by which id",
		why:    "it is a proxy's to tell",
		change: without(`backend: metadata (via: "[12] culvert|x-forwarded-for: "127.0.0.1|x-forwarded-proto: "http|x-forwarded-host: "127.0.0.1:\d+|x-request-id: "[0-9a-f]{16}|via: "1.1 culvert|x-forwarded-user-agent: "oracle)"`, ""),
	},
	{
		what:   "the backend may not compress its answers",
		why:    "culvert expands them",
		change: without(`backend: metadata grpc-accept-encoding: "gzip"`, ""),
	},
	{
		what:   "the backend gets headers that are between the browser and the server",
		why:    "they are no metadata",
		change: without("", `backend: metadata (x-grpc-web: "1"|origin: .*)`),
	},

	// What can't be read.
	{
		what: "a request that can't be read ends INTERNAL or UNAVAILABLE",
		why:  "INVALID_ARGUMENT says whose fault it is, and UNAVAILABLE has clients try again",
		in:   ": (request cut|reserved flag|trailers of the client|compressed without|text that|text as a request)",
		change: without("trailer (grpc-status: 3|reason: BAD_REQUEST)",
			"trailer (grpc-status: 1[34]|grpc-message: (unexpected EOF|illegal base64 data.*|websocket frame was not a binary frame|grpc: received unexpected payload format.*|grpc: compressed flag set.*))"),
	},
	{
		what: "a call whose metadata can't be read is answered with HTTP 400, and bytes of a frame in its text",
		why:  "it is a call, and its client looks for a status in the body",
		in:   "^grpc-web.*: (time-out of|bytes that aren't)",
		change: without("HTTP 200|header content-type: application/grpc-web(-text)?[+]proto|frame of trailers|trailer (grpc-status: 3|reason: BAD_REQUEST)",
			`HTTP 400|header content-type: text/plain; charset=utf-8|body ".*"`),
	},
	{
		what:   "on a WebSocket its text comes without a prefix, and then nothing more",
		why:    "its client waits for ever",
		in:     "^grpc-websockets: (time-out of|bytes that aren't)",
		change: without(`frame of trailers|trailer (grpc-status: 3|reason: BAD_REQUEST)|close 1000 ""`, `header (content-type: text/plain; charset=utf-8|x-content-type-options: nosniff)|silence after \d+ bytes of a frame`),
	},
	{
		what: "a WebSocket message that isn't the protocol's is data, or is met with silence",
		why:  "an off-by-one in a client would be a broken message at the backend, or a wait without end",
		in:   ": (an unknown marker|a message without a marker|a half-close with more|text as the first message|metadata without a colon)",
		change: without(`frame of trailers|trailer (grpc-status: 3|reason: BAD_REQUEST)|close 1000 ""|backend: no request`,
			`silence after 0 bytes of a frame|backend: Bidi read 1 requests [(]half-close: false[)], sent 0, was cancelled|backend: metadata .*`),
	},
	{
		what: "bytes that a browser has joined with a comma are refused",
		why:  "browsers and their clients join the values of a name",
		in:   ": (bytes|metadata) joined",
		change: without(`HTTP 200|header content-type: application/grpc-web(-text)?[+]proto|message 2801|frame of trailers|trailer grpc-status: 0|close 1000 ""|backend: .*`,
			`HTTP 400|header (content-type: text/plain; charset=utf-8|x-content-type-options: nosniff)|body ".*"|silence after \d+ bytes of a frame|backend: no request`),
	},
	{
		what: "text with padding in the middle is refused",
		why:  "a client that encodes message by message pads each",
		in:   ": text padded in the middle",
		change: without(`message 1a10[0-9a-f]*|trailer grpc-status: 0|backend: .*`,
			`trailer grpc-(status: 14|message: illegal base64 data.*)|backend: no request`),
	},
	{
		what: "compressed messages are refused",
		why:  "gzip is in every gRPC library; their proxy doesn't import it",
		in:   ": gzip$",
		change: without(`message 2801|trailer grpc-status: 0|backend: .*`,
			`trailer grpc-(status: 12|message: grpc: Decompressor is not installed for grpc-encoding "gzip")|backend: no request`),
	},
	{
		what: "a status of the proxy's own has grpc-go's text and no details",
		why:  "a reason and a remedy are what a program and a person can use",
		in:   ": (deadline that passes|length over the limit|unknown coding)",
		// At the deadline, the backend's own end may be first.
		change: without("trailer (reason: (DEADLINE_EXCEEDED|REQUEST_TOO_LARGE|UNSUPPORTED_ENCODING)|grpc-message: context deadline exceeded)", "trailer grpc-message: (context deadline exceeded|stream terminated by RST_STREAM.*|grpc: received message larger than max.*|grpc: Decompressor is not installed.*)"),
	},
	{
		what: "a client whose coding is unknown isn't told which are known",
		why:  "gRPC's compression.md wants it",
		in:   ": unknown coding", change: without("header grpc-accept-encoding: gzip, identity", ""),
	},

	// What the status and its metadata are.
	{
		what: "a code that isn't gRPC's is passed on",
		why:  "browsers' clients make INTERNAL of it, or OK",
		in:   ": error of an unknown code", change: without("trailer (grpc-status: 2|x-grpc-status-original: 99)", "trailer grpc-status: 99"),
	},
	{
		what: "a blank at the end of a message is lost, or left to each hop to lose",
		why:  "written as %20 it isn't",
		in:   ": error of a message with odd characters", change: without("trailer grpc-message: .*%20", "trailer grpc-message: .*%83 ?"),
	},
	{
		what: "the backend can speak for the origin to a browser",
		why:  "what it sends as metadata is not the server's word",
		in:   ": names of the page's origin", change: without("", "header (access-control-allow-origin: https://evil.example|clear-site-data: .*|location: .*|set-cookie: .*)"),
	},
	{
		what: "names that gRPC keeps to itself reach the backend as metadata",
		why:  "grpc-accept-encoding: br makes a backend send what nobody here can read",
		in:   ": names that gRPC keeps", change: without("", `backend: metadata grpc-(accept-encoding: "br"|foo: "x")`),
	},
	{
		what: "a client can say what only a proxy in front can know",
		why:  "a backend believes it",
		in:   ": names that only a proxy", change: without("", `backend: metadata (forwarded|x-forwarded-for|x-forwarded-host|x-real-ip): .*`),
	},
	{
		what: "a browser's cookie reaches the backend",
		why:  "it is the page's; metadata.forward_cookies passes it on",
		in:   "^grpc-web: cookie", change: without("", `backend: metadata cookie: "a=b"`),
	},
	{
		what: "headers of the upgrade stay behind",
		why:  "authorization is where a client that isn't a browser's has it",
		in:   ": header of the upgrade", change: without(`backend: metadata (authorization: "Bearer t"|x-a: "1")`, ""),
	},

	// What HTTP says around a call.
	{
		what: "a content type's parameter comes back",
		why:  "protobuf-ts compares the whole",
		in:   ": content type with a charset", change: without("header content-type: application/grpc-web[+]proto", "header content-type: application/grpc-web[+]proto; charset=utf-8"),
	},
	{
		what: "a content type without a suffix comes back without, and reaches the backend with one",
		why:  "culvert names what it sends, and leaves to the backend what it got",
		in:   ": (content type|text) without a suffix", change: without(`header content-type: application/grpc-web[+]proto|backend: metadata content-type: "application/grpc"`, `header content-type: application/grpc-web|backend: metadata content-type: "application/grpc[+]proto"`),
	},
	{
		what: "text isn't sent to who accepts it, and accept is metadata",
		why:  "a client that can't read binary asks so",
		in:   ": text asked for by accept", change: without("header content-type: application/grpc-web-text[+]proto", `header content-type: application/grpc-web[+]proto|backend: metadata accept: ".*"`),
	},
	{
		what: "the subprotocol is found only when it is offered alone",
		why:  "RFC 6455: it is a list",
		in:   ": subprotocol among others", change: without(`HTTP 101|subprotocol grpc-websockets|message 2801|frame of trailers|trailer grpc-status: 0|close 1000 ""|backend: .*`, "HTTP 405|subprotocol |backend: no request"),
	},
	{
		what: "a path that names no method is a call that ends UNIMPLEMENTED",
		why:  "404 is what it is; a client makes the same of it",
		in:   ": no method in the path", change: without("HTTP 404|header (cache-control: no-store|culvert-reason: NO_ROUTE|grpc-status: 12|grpc-message: culvert: .*|content-type: text/plain; charset=utf-8)|body .*", `HTTP 200|header content-type: application/grpc-web[+]proto|frame of trailers|trailer grpc-(status: 12|message: malformed method name: "/nothing")`),
	},
	{
		what: "an escaped path reaches the method that it means",
		why:  "a proxy in front that matches the bytes of a path is slipped past",
		in:   ": an escape in the path", change: without("HTTP 404|header (cache-control: no-store|culvert-reason: NO_ROUTE|grpc-status: 12|grpc-message: culvert: .*|content-type: text/plain; charset=utf-8)|body .*|backend: no request", `HTTP 200|header content-type: application/grpc-web[+]proto|message 2801|frame of trailers|trailer grpc-status: 0|backend: .*`),
	},
	{
		what: "a GET of a method is refused with 405",
		why:  "426 explains what a proxy does that strips Upgrade",
		in:   ": GET$", change: without("HTTP 426|header (cache-control: no-store|culvert-reason: [A-Z_]+|upgrade: websocket)|body .*", "HTTP 405|header allow: POST|body .*"),
	},
	{
		what: "other refusals are in grpc-go's words",
		why:  "culvert's say what to do, and aren't kept by caches",
		in:   ": (OPTIONS of no page|another content type)", change: without("header (cache-control: no-store|culvert-reason: [A-Z_]+|accept-post: .*)|body .*", "body .*"),
	},
	{
		what: "a preflight is answered with 200, may be kept for 10 minutes, and names headers in canonical case",
		why:  "204 has no body, two hours are what Chrome allows, and the case is the browser's own",
		in:   ": preflight$", change: without("HTTP 204|header access-control-(max-age: 7200|allow-headers: content-type, x-grpc-web, x-user-agent, grpc-timeout, authorization, x-a)", "HTTP 200|header access-control-(max-age: 600|allow-headers: Content-Type, X-Grpc-Web, X-User-Agent, Grpc-Timeout, Authorization, X-A)"),
	},
	{
		what: "a preflight that doesn't ask for x-grpc-web is refused",
		why:  "not every client sends x-grpc-web",
		in:   ": preflight without x-grpc-web", change: without("HTTP 204|header (access-control-.*|vary: .*)", "HTTP 405|header (allow: POST|content-type: text/plain; charset=utf-8|x-content-type-options: nosniff)|body .*"),
	},
	{
		what: "a preflight of another method than POST is answered without its headers",
		why:  "the browser sees from the methods that are allowed that this one isn't",
		in:   ": preflight of PUT", change: without("HTTP 204|header access-control-.*", "HTTP 200"),
	},
}
