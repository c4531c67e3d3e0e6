package bridgetest

import (
	"strings"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// brokenBackendScenarios have backends that no library would make. In all of them,
// culvert must not report an incomplete call as complete.
var brokenBackendScenarios = []scenario{
	{"backend dies at each byte of its answer by FIN", parted, by(cutFIN, diesAtEachByte)},
	{"backend dies at each byte of its answer by RST", parted, by(cutRST, diesAtEachByte)},
	{"backend ends without trailers", 0, endsWithoutTrailers},
	{"backend ends with trailers without a status", 0, endsWithoutStatus},
	{"backend ends inside a message", 0, endsInsideMessage},
	{"backend resets the call", 0, resetsCall},
	{"backend resets the call after a message", 0, resetsAfterMessage},
	{"backend refuses the call", 0, refusesCall},
	{"backend goes away with the call unprocessed", 0, goesAway},
	{"backend goes away and finishes the call", 0, goesAwayAndFinishes},
	{"backend isn't gRPC", 0, isNotGRPC},
	{"backend's status is no number", 0, malformedStatus},
	{"backend sends two statuses", 0, twoStatuses},
	{"backend's frame has an unknown flag", 0, unknownReplyFlag},
	{"backend breaks HTTP/2", 0, breaksHTTP2},
}

// wholeAnswer is a proper answer of every kind of frame: header, data, trailers.
var wholeAnswer = answerWith([]string{"x-h", "1"}, frame(0, hello), "grpc-status", "0", "grpc-message", "", "x-t", "2")

// by makes a scenario of each way that a connection may end.
func by(how cut, run func(*trial, cut)) func(*trial) { return func(t *trial) { run(t, how) } }

// diesAtEachByte: every transport sees the backend die in each part of an answer, since a
// frame is longer than the step, and all transports together at each byte.
func diesAtEachByte(t *trial, how cut) {
	answered := t.serveScripts()
	size := make(chan int, 1) // one measure
	t.wantOK(answered(func(c *fakeConn, stream uint32) {
		c.out.Reset() // the acknowledgement of settings is of no interest
		wholeAnswer(c, stream)
		size <- c.out.Len()
	}), hello)
	first, step := t.part(7)
	for n, end := first, <-size; n < end; n += step {
		r := answered(func(c *fakeConn, stream uint32) {
			c.out.Reset()
			wholeAnswer(c, stream)
			c.cutAt(n, how)
		})
		if r.status.Code() != codes.Unavailable || r.info().GetReason() != string(report.ReasonUpstreamReset) || r.info().GetMetadata()["sent"] != "maybe" {
			t.Errorf("cut after %d bytes: status %v with %v, want UNAVAILABLE, %s, sent=maybe", n, r.status, r.info(), report.ReasonUpstreamReset)
		}
		if len(r.messages) > 1 || len(r.messages) == 1 && string(r.messages[0]) != string(hello) {
			t.Errorf("cut after %d bytes: messages %s", n, abridged(r.messages))
		}
	}
}

// broken is an answer and culvert's verdict on it.
type broken struct {
	name   string
	script script
	code   codes.Code
	reason report.Reason
}

func (t *trial) wantBroken(cases []broken) {
	t.Helper()
	answered := t.serveScripts()
	for _, b := range cases {
		r := answered(b.script)
		t.wantReason(b.name, r, b.code, b.reason)
		if strings.Contains(r.status.Message(), "html") {
			t.Errorf("%s: the client is shown the backend's page: %q", b.name, r.status.Message())
		}
	}
}

func endsWithoutTrailers(t *trial) {
	t.wantBroken([]broken{
		{"a message ends the stream", func(c *fakeConn, stream uint32) {
			c.ok(stream)
			c.data(stream, true, frame(0, hello))
		}, codes.Internal, report.ReasonMissingTrailers},
		{"an empty frame ends the stream", func(c *fakeConn, stream uint32) {
			c.ok(stream)
			c.data(stream, true, nil)
		}, codes.Internal, report.ReasonMissingTrailers},
	})
}

// endsWithoutStatus: trailers without a status are UNKNOWN by gRPC's mapping of HTTP 200.
func endsWithoutStatus(t *trial) {
	t.wantBroken([]broken{
		{"trailers without a status", answerWith(nil, frame(0, hello), "x-t", "1"), codes.Unknown, report.ReasonMissingTrailers},
		{"an answer of nothing", headOnly(), codes.Unknown, report.ReasonMissingTrailers},
	})
}

// endsInsideMessage: trailers that say OK don't make half a message whole.
func endsInsideMessage(t *trial) {
	whole := frame(0, hello)
	var cases []broken
	for n := 1; n < len(whole); n++ {
		cases = append(cases, broken{"OK inside a message", answerOf(whole[:n]), codes.Internal, report.ReasonUpstreamReset})
	}
	t.wantBroken(cases)
}

// resetsCall: the codes of RST_STREAM and gRPC's mapping of them. protocols.md
// §1.3.
func resetsCall(t *trial) {
	var cases []broken
	for _, c := range []struct {
		reset http2.ErrCode
		code  codes.Code
	}{
		{http2.ErrCodeNo, codes.Internal},
		{http2.ErrCodeProtocol, codes.Internal},
		{http2.ErrCodeInternal, codes.Internal},
		{http2.ErrCodeSettingsTimeout, codes.Internal},
		{http2.ErrCodeFrameSize, codes.Internal},
		{http2.ErrCodeCancel, codes.Canceled},
		{http2.ErrCodeCompression, codes.Internal},
		{http2.ErrCodeConnect, codes.Internal},
		{http2.ErrCodeEnhanceYourCalm, codes.ResourceExhausted},
		{http2.ErrCodeInadequateSecurity, codes.PermissionDenied},
	} {
		cases = append(cases, broken{c.reset.String(), func(f *fakeConn, stream uint32) {
			_ = f.framer.WriteRSTStream(stream, c.reset) // to memory
		}, c.code, report.ReasonUpstreamReset})
	}
	t.wantBroken(cases)
}

func resetsAfterMessage(t *trial) {
	answered := t.serveScripts()
	r := answered(func(c *fakeConn, stream uint32) {
		c.ok(stream)
		c.data(stream, false, frame(0, hello))
		_ = c.framer.WriteRSTStream(stream, http2.ErrCodeInternal) // to memory
	})
	t.wantCulvert(r, codes.Internal, report.ReasonUpstreamReset)
}

// refusesCall: REFUSED_STREAM means that nothing was processed, so the call may be
// retried once; the client learns of a second refusal.
func refusesCall(t *trial) {
	answered := t.serveScripts()
	refuse := func(c *fakeConn, stream uint32) {
		_ = c.framer.WriteRSTStream(stream, http2.ErrCodeRefusedStream) // to memory
	}
	t.wantCulvert(answered(refuse, refuse), codes.Unavailable, report.ReasonUpstreamReset)
}

// goesAway: GOAWAY reports that the backend hasn't processed the call. The call may
// be retried once, which the next script would answer.
func goesAway(t *trial) {
	answered := t.serveScripts()
	r := answered(func(c *fakeConn, _ uint32) {
		_ = c.framer.WriteGoAway(0, http2.ErrCodeNo, nil) // to memory
		c.cutAt(c.out.Len(), cutFIN)
	}, wholeAnswer)
	if r.status.Code() == codes.OK {
		t.wantOK(r, hello)
		return
	}
	t.wantCulvert(r, codes.Unavailable, report.ReasonUpstreamReset)
}

func goesAwayAndFinishes(t *trial) {
	answered := t.serveScripts()
	t.wantOK(answered(func(c *fakeConn, stream uint32) {
		_ = c.framer.WriteGoAway(stream, http2.ErrCodeNo, nil) // to memory
		wholeAnswer(c, stream)
	}), hello)
	t.wantOK(answered(wholeAnswer), hello)
}

// isNotGRPC: a web server or a proxy's page where a backend should be.
func isNotGRPC(t *trial) {
	page := func(status string, more ...string) script {
		return func(c *fakeConn, stream uint32) {
			c.headers(stream, false, append([]string{":status", status, "content-type", "text/html"}, more...)...)
			c.data(stream, true, []byte("<html><h1>sorry</h1></html>"))
		}
	}
	var cases []broken
	for status, code := range map[string]codes.Code{
		"200": codes.Unknown, "400": codes.Internal, "401": codes.Unauthenticated, "403": codes.PermissionDenied,
		"404": codes.Unimplemented, "429": codes.Unavailable, "431": codes.Unknown, "500": codes.Unknown, "502": codes.Unavailable,
		"503": codes.Unavailable, "504": codes.Unavailable, "418": codes.Unknown,
	} {
		cases = append(cases, broken{status, page(status), code, report.ReasonUpstreamNotGRPC})
	}
	cases = append(cases,
		broken{"a status in HTML's header", page("200", "grpc-status", "0"), codes.Unknown, report.ReasonUpstreamNotGRPC},
		broken{"no body", func(c *fakeConn, stream uint32) { c.headers(stream, true, ":status", "502") }, codes.Unavailable, report.ReasonUpstreamNotGRPC},
		broken{"HTML with trailers that say OK", func(c *fakeConn, stream uint32) {
			c.headers(stream, false, ":status", "200", "content-type", "text/html")
			c.data(stream, false, []byte("<html></html>"))
			c.headers(stream, true, "grpc-status", "0")
		}, codes.Unknown, report.ReasonUpstreamNotGRPC},
	)
	t.wantBroken(cases)
}

// malformedStatus: a status that isn't a number, or that no client could act on, is
// an error.
func malformedStatus(t *trial) {
	answered := t.serveScripts()
	for _, bad := range []string{"abc", "", "-1", "99999999999999999999", "0x0", "1.5", "0 0"} {
		for _, s := range []script{headOnly("grpc-status", bad), answerWith(nil, frame(0, hello), "grpc-status", bad)} {
			if r := answered(s); r.status.Code() == codes.OK {
				t.Errorf("grpc-status %q is told as OK", bad)
			}
		}
	}
}

// twoStatuses: the client gets only one status, and never OK because of the order
// of an error and an OK.
func twoStatuses(t *trial) {
	answered := t.serveScripts()
	if r := answered(answerWith(nil, nil, "grpc-status", "0", "grpc-status", "7")); r.status.Code() == codes.OK {
		t.Errorf("statuses 0 and 7 are told as %v", r.status)
	}
	// grpc-go keeps the last and shows no other, so the test can only check that
	// one whole status comes.
	answered(answerWith(nil, nil, "grpc-status", "7", "grpc-message", "no", "grpc-status", "0"))
}

func unknownReplyFlag(t *trial) {
	var cases []broken
	for _, flag := range []byte{0x02, 0x80, 0xff} {
		cases = append(cases, broken{"unknown flag", answerOf(frame(flag, hello)), codes.Internal, report.ReasonUpstreamReset})
	}
	t.wantBroken(cases)
}

func breaksHTTP2(t *trial) {
	t.wantBroken([]broken{
		{"header in the middle", func(c *fakeConn, stream uint32) {
			c.ok(stream)
			c.headers(stream, false, "x-again", "1")
		}, codes.Internal, report.ReasonUpstreamReset},
		{"garbage instead of frames", func(c *fakeConn, _ uint32) {
			c.out.WriteString("HTTP/1.1 400 Bad Request\r\n\r\n")
		}, codes.Unavailable, report.ReasonUpstreamReset},
	})
}
