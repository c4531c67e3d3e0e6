package telemetry

import (
	"bytes"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// withoutTime makes lines that a test can compare.
func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func lines(level slog.Level, tell func(*Log)) string {
	var b bytes.Buffer
	tell(NewLog(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime}))))
	return b.String()
}

func TestOneLineACall(t *testing.T) {
	call := report.CallInfo{
		ID: "c1", Transport: "grpc-web", Method: "/shop.v1.Orders/Get", Peer: "192.0.2.1:4711",
		Duration: 12345678 * time.Nanosecond, Code: codes.OK, Origin: report.OriginUpstream,
		MessagesIn: 1, MessagesOut: 2, BytesIn: 3, BytesOut: 4,
	}
	refused := call
	refused.Code, refused.Origin, refused.Reason = codes.Unavailable, report.OriginCulvert, report.ReasonUpstreamUnreachable
	refused.Cause = "dial tcp 10.0.0.1:9000: \x1b[31mrefused\nlevel=ERROR msg=forged"
	defect := call
	defect.Code, defect.Origin, defect.Reason = codes.Internal, report.OriginCulvert, report.ReasonInternal
	named := call
	named.Client, named.Listener = "spiffe://example.org/orders", "public"
	known := call
	known.Identity = "alice\n@example.com"
	long := call
	long.Identity = "a" + strings.Repeat("é", 200) // cut in the middle of one
	ruled := call
	ruled.Code, ruled.Origin, ruled.Reason, ruled.Rule = codes.PermissionDenied, report.OriginCulvert, report.ReasonPermissionDenied, "no rule allows"
	routed := call
	routed.Route, routed.Backend = "eu", "orders"
	unrouted := call
	unrouted.Backend = report.DefaultBackend
	own := call
	own.Own = true
	odd := call
	odd.Code = 99
	traced := call
	traced.Trace = &report.Trace{ID: [16]byte{0xab, 15: 1}, Span: [8]byte{0xcd, 7: 2}}

	const counts = "messages_in=1 messages_out=2 bytes_in=3 bytes_out=4 duration_ms=12.345"
	for name, c := range map[string]struct {
		call  report.CallInfo
		level slog.Level
		want  string
	}{
		"the upstream's status":   {call, slog.LevelInfo, "level=INFO msg=call call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711 code=OK origin=upstream " + counts + "\n"},
		"culvert's status":        {refused, slog.LevelInfo, "level=INFO msg=call call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711 code=UNAVAILABLE origin=culvert reason=UPSTREAM_UNREACHABLE " + counts + ` cause="dial tcp 10.0.0.1:9000: \x1b[31mrefused\nlevel=ERROR msg=forged"` + "\n"},
		"a defect":                {defect, slog.LevelWarn, "level=ERROR msg=call call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711 code=INTERNAL origin=culvert reason=INTERNAL " + counts + "\n"},
		"a named client":          {named, slog.LevelInfo, "level=INFO msg=call call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711 client=spiffe://example.org/orders listener=public code=OK origin=upstream " + counts + "\n"},
		"an authenticated client": {known, slog.LevelInfo, "level=INFO msg=call call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711 " + `identity="alice\n@example.com" code=OK origin=upstream ` + counts + "\n"},
		"a rule":                  {ruled, slog.LevelInfo, "level=INFO msg=call call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711 " + `code=PERMISSION_DENIED origin=culvert reason=PERMISSION_DENIED rule="no rule allows" ` + counts + "\n"},
		"a long identity":         {long, slog.LevelInfo, "level=INFO msg=call call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711 identity=a" + strings.Repeat("é", 127) + "… code=OK origin=upstream " + counts + "\n"},
		"a route":                 {routed, slog.LevelInfo, "level=INFO msg=call call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711 route=eu backend=orders code=OK origin=upstream " + counts + "\n"},
		"the default backend":     {unrouted, slog.LevelInfo, "level=INFO msg=call call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711 code=OK origin=upstream " + counts + "\n"},
		"a code of no name":       {odd, slog.LevelInfo, "level=INFO msg=call call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711 code=99 origin=upstream " + counts + "\n"},
		"a trace":                 {traced, slog.LevelInfo, "level=INFO msg=call call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711 code=OK origin=upstream " + counts + " trace_id=ab" + strings.Repeat("0", 28) + "01 span_id=cd00000000000002\n"},
		"culvert's own service":   {own, slog.LevelInfo, ""},
		"the same in detail":      {own, slog.LevelDebug, "level=DEBUG msg=\"call began\" call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711\nlevel=DEBUG msg=call call_id=c1 transport=grpc-web method=/shop.v1.Orders/Get peer=192.0.2.1:4711 code=OK origin=upstream " + counts + "\n"},
		"a quiet log":             {call, slog.LevelWarn, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lines(c.level, func(o *Log) { o.CallBegan(t.Context(), &c.call, nil).Ended(&c.call) }); got != c.want {
				t.Errorf("got  %swant %s", got, c.want)
			}
		})
	}
}

// TestBadEndsOfConnections are told above debug level, but only a few.
func TestBadEndsOfConnections(t *testing.T) {
	for reason, want := range map[string]string{
		report.EndedOrderly:  "",
		report.EndedIdle:     "",
		report.EndedAge:      "",
		report.EndedShutdown: "",
		report.EndedSilent:   "",
		report.EndedProbe:    "",
		report.EndedSlow:     `level=INFO msg="connection ended" peer=192.0.2.1:4711 tunnel=true reason=slow not_logged=0` + "\n",
		report.EndedProtocol: `level=INFO msg="connection ended" peer=192.0.2.1:4711 tunnel=true reason=protocol not_logged=0` + "\n",
		report.EndedFlood:    `level=WARN msg="connection ended" peer=192.0.2.1:4711 tunnel=true reason=flood not_logged=0` + "\n",
	} {
		got := lines(slog.LevelInfo, func(o *Log) {
			o.ConnEnded(report.ConnInfo{Peer: "192.0.2.1:4711", Tunnel: true, Ended: reason})
		})
		if got != want {
			t.Errorf("%q:\ngot  %swant %s", reason, got, want)
		}
	}
	got := lines(slog.LevelInfo, func(o *Log) {
		for range 3 {
			o.ConnEnded(report.ConnInfo{Ended: report.EndedProbe})
		}
		o.ConnEnded(report.ConnInfo{Ended: report.EndedProtocol, Cause: "the client rejected the certificate: bad certificate"})
		o.ConnEnded(report.ConnInfo{Ended: report.EndedProtocol})
	})
	if want := `level=INFO msg="connection ended" peer="" tunnel=false reason=protocol cause="the client rejected the certificate: bad certificate" not_logged=0 probes=3` + "\n" +
		`level=INFO msg="connection ended" peer="" tunnel=false reason=protocol not_logged=0` + "\n"; got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	synctest.Test(t, func(t *testing.T) {
		got := lines(slog.LevelInfo, func(o *Log) {
			for range 100 {
				o.ConnEnded(report.ConnInfo{Ended: report.EndedFlood})
			}
			<-time.After(time.Second) // one may be told again
			o.ConnEnded(report.ConnInfo{Ended: report.EndedFlood})
		})
		if n := strings.Count(got, "\n"); n != 21 || !strings.HasSuffix(got, "not_logged=80\n") {
			t.Errorf("%d lines, want 21 of which the last says that 80 were left out:\n%s", n, got)
		}
	})
}

func TestCertificatesAreToldByTheirEnd(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	c := report.CertificateInfo{File: "/c.pem", Names: []string{"a.example", "*.b.example"}, NotAfter: now.Add(time.Hour)}
	ending, expired := c, c
	ending.Ending = true
	expired.NotAfter = now.Add(-time.Hour)
	for want, c := range map[string]report.CertificateInfo{
		`level=INFO msg="certificate [^"]*`:          c,
		`level=WARN msg="certificate [^"]*\brenew\b`: ending,
		`level=WARN msg="certificate expired\b`:      expired,
	} {
		want = `^` + want + `[^"]*" file=/c\.pem names="a\.example \*\.b\.example" not_after=` + regexp.QuoteMeta(c.NotAfter.Format("2006-01-02T15:04:05.000Z07:00")) + "\n$"
		if got := lines(slog.LevelInfo, func(o *Log) { o.Certificate(c) }); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("got  %swant %s", got, want)
		}
	}
}

func TestStoryOfAConnectionAtDebug(t *testing.T) {
	tell := func(o *Log) {
		conn := report.ConnInfo{Peer: "192.0.2.1:4711", Listener: "public", Tunnel: true}
		call := &report.CallInfo{ID: "c1", Transport: "h2ts+grpc", Method: "/a.B/C", Peer: conn.Peer}
		o.ConnBegan(conn)
		c := o.CallBegan(t.Context(), call, nil)
		c.Header(nil)
		c.Message(report.Request, 5)
		o.Refused(report.Refusal{Reason: report.ReasonNoRoute})
		conn.Ended = report.EndedIdle
		o.ConnEnded(conn)
	}
	const want = `level=DEBUG msg="connection began" peer=192.0.2.1:4711 listener=public tunnel=true
level=DEBUG msg="call began" call_id=c1 transport=h2ts+grpc method=/a.B/C peer=192.0.2.1:4711
level=DEBUG msg="connection ended" peer=192.0.2.1:4711 listener=public tunnel=true reason=idle
`
	if got := lines(slog.LevelDebug, tell); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := lines(slog.LevelInfo, tell); got != "" {
		t.Errorf("at info: %s", got)
	}
}

// TestOneLineAWebRequest, whatever its client put into the path.
func TestOneLineAWebRequest(t *testing.T) {
	served := report.WebInfo{ID: "r1", Request: "GET /a", Peer: "192.0.2.1:4711", Status: 200, Origin: report.OriginUpstream, BytesIn: 1, BytesOut: 2, Duration: 12345678 * time.Nanosecond}
	failed := served
	failed.Status, failed.Origin, failed.Reason, failed.Cause = 502, report.OriginCulvert, report.ReasonUpstreamReset, "EOF\nlevel=ERROR"
	socket := served
	socket.Status, socket.WebSocket, socket.Client, socket.Listener, socket.Request = 101, true, "spiffe://example.org/a", "public", "GET /a\nb"
	defect := served
	defect.Reason = report.ReasonInternal
	const end = "bytes_in=1 bytes_out=2 duration_ms=12.345"
	for name, c := range map[string]struct {
		info report.WebInfo
		want string
	}{
		"served": {served, `level=INFO msg="web request" request_id=r1 request="GET /a" peer=192.0.2.1:4711 status=200 origin=upstream websocket=false ` + end},
		"failed": {failed, `level=INFO msg="web request" request_id=r1 request="GET /a" peer=192.0.2.1:4711 status=502 origin=culvert reason=UPSTREAM_RESET websocket=false ` + end + ` cause="EOF\nlevel=ERROR"`},
		"socket": {socket, `level=INFO msg="web request" request_id=r1 request="GET /a\nb" peer=192.0.2.1:4711 client=spiffe://example.org/a listener=public status=101 origin=upstream websocket=true ` + end},
		"defect": {defect, `level=ERROR msg="web request" request_id=r1 request="GET /a" peer=192.0.2.1:4711 status=200 origin=upstream reason=INTERNAL websocket=false ` + end},
	} {
		if got := strings.TrimSpace(lines(slog.LevelDebug, func(l *Log) { l.WebEnded(&c.info) })); got != c.want {
			t.Errorf("%s: wrote\n%s\nwant\n%s", name, got, c.want)
		}
	}
	if got := lines(slog.LevelWarn, func(l *Log) { l.WebEnded(&served) }); got != "" {
		t.Errorf("above its level: %s", got)
	}
}

// A connection that ended as it should has no line above debug level, and costs nothing then.
func TestConnectionsWithoutALineAllocateNothing(t *testing.T) {
	log := NewLog(slog.New(slog.NewTextHandler(new(bytes.Buffer), nil)))
	c := report.ConnInfo{Peer: "192.0.2.1:4711", Ended: report.EndedOrderly}
	if n := testing.AllocsPerRun(100, func() { log.ConnBegan(c); log.ConnEnded(c) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
