package bridge

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/bridge/internal/tunnel"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// TestReasons holds the table to the published one: code and HTTP status of
// each reason.
func TestReasons(t *testing.T) {
	want := map[report.Reason]struct {
		code codes.Code
		http int
	}{
		"NO_ROUTE":             {codes.Unimplemented, 404},
		"ORIGIN_DENIED":        {codes.PermissionDenied, 403},
		"UNAUTHENTICATED":      {codes.Unauthenticated, 401},
		"PERMISSION_DENIED":    {codes.PermissionDenied, 403},
		"BAD_REQUEST":          {codes.InvalidArgument, 400},
		"UNSUPPORTED_ENCODING": {codes.Unimplemented, 415},
		"TOKEN_EXPIRED":        {codes.Unauthenticated, 401},
		"AUTH_UNAVAILABLE":     {codes.Unavailable, 503},
		"REQUEST_TOO_LARGE":    {codes.ResourceExhausted, 413},
		"RESPONSE_TOO_LARGE":   {codes.ResourceExhausted, 502},
		"METADATA_TOO_LARGE":   {codes.ResourceExhausted, 431},
		"LIMIT_EXCEEDED":       {codes.ResourceExhausted, 429},
		"OVERLOADED":           {codes.Unavailable, 503},
		"UPSTREAM_UNREACHABLE": {codes.Unavailable, 502},
		"UPSTREAM_UNHEALTHY":   {codes.Unavailable, 503},
		"UPSTREAM_RESET":       {codes.Unavailable, 502},
		"UPSTREAM_SILENT":      {codes.Unavailable, 504},
		"UPSTREAM_NOT_GRPC":    {codes.Unknown, 502},
		"MISSING_TRAILERS":     {codes.Internal, 502},
		"BAD_CARDINALITY":      {codes.Unimplemented, 501},
		"DEADLINE_EXCEEDED":    {codes.DeadlineExceeded, 504},
		"CLIENT_GONE":          {codes.Canceled, 499},
		"FALLBACK_LOOP":        {codes.Unavailable, 508},
		"DESCRIPTOR_MISMATCH":  {codes.Internal, 502},
		"RESPONSE_NOT_JSON":    {codes.Internal, 502},
		"CLIENT_SILENT":        {codes.Unavailable, 408},
		"IDLE_TIMEOUT":         {codes.Unavailable, 408},
		"MAX_AGE":              {codes.Unavailable, 503},
		"SLOW_CONSUMER":        {codes.ResourceExhausted, 499},
		"SLOW_SENDER":          {codes.DeadlineExceeded, 408},
		"HANDSHAKE_TIMEOUT":    {codes.DeadlineExceeded, 408},
		"STOPPED":              {codes.Aborted, 409},
		"DRAINING":             {codes.Unavailable, 503},
		"INTERNAL":             {codes.Internal, 500},
	}
	seen := make(map[report.Reason]bool)
	for _, row := range report.Reasons(nil) {
		w, ok := want[row.Reason]
		if !ok || seen[row.Reason] {
			t.Errorf("%s: not in the published table, or twice", row.Reason)
		}
		seen[row.Reason] = true
		if row.Code != w.code || row.HTTP != w.http {
			t.Errorf("%s: got %v and HTTP %d, want %v and %d", row.Reason, row.Code, row.HTTP, w.code, w.http)
		}
		if row.Meaning == "" || row.Remedy == "" {
			t.Errorf("%s: no meaning or no remedy", row.Reason)
		}
	}
	for r := range want {
		if !seen[r] {
			t.Errorf("%s is published and not in the table", r)
		}
	}
}

func TestTableOfReasonsIsACopy(t *testing.T) {
	report.Reasons(nil)[0].HTTP = 0
	if report.Reasons(nil)[0].HTTP == 0 {
		t.Error("a caller can change the table")
	}
}

// TestEveryReasonAsAStatus: each row ends a call with its code, the remedy,
// and an ErrorInfo of culvert's domain with the call's id; sent is said where
// the client has to decide on trying again, and only there.
func TestEveryReasonAsAStatus(t *testing.T) {
	for _, row := range report.Reasons(nil) {
		v := judge(report.New(row.Reason, "it happened"), "call-0001", false, nil)
		info := errorInfo(t, v.status)
		if v.status.Code() != row.Code || info.GetReason() != string(row.Reason) || info.GetDomain() != "culvert" || info.GetMetadata()["call_id"] != "call-0001" {
			t.Errorf("%s: got %v with %v", row.Reason, v.status, info)
		}
		if msg := v.status.Message(); !strings.HasPrefix(msg, "it happened") || !strings.Contains(msg, strings.Replace(row.Remedy, "this call id", "call id call-0001", 1)) {
			t.Errorf("%s: the message %q lacks what happened, the remedy %q or the call's id", row.Reason, msg, row.Remedy)
		}
		sent, said := info.GetMetadata()["sent"]
		if said != (row.Code == codes.Unavailable) || said && sent != "no" {
			t.Errorf("%s: sent is %q, said: %v; want \"no\" for UNAVAILABLE and nothing else", row.Reason, sent, said)
		}
		origin := report.OriginCulvert
		if row.Reason == report.ReasonClientGone {
			origin = report.OriginClient
		}
		if v.origin != origin || v.reason != row.Reason || v.cause != "" {
			t.Errorf("%s: got the outcome %+v, want the origin %s and no cause", row.Reason, v, origin)
		}
	}
}

func TestFaultSaysWhetherItWasSent(t *testing.T) {
	v := judge(&report.Fault{Reason: report.ReasonUpstreamReset, Text: "lost", Sent: "maybe"}, "", false, nil)
	info := errorInfo(t, v.status)
	if got := info.GetMetadata()["sent"]; got != "maybe" {
		t.Errorf("sent is %q, want maybe", got)
	}
	if _, ok := info.GetMetadata()["call_id"]; ok {
		t.Error("a call without an id has one in its status")
	}
}

func TestFaultsOwnCodeWins(t *testing.T) {
	v := judge(&report.Fault{Reason: report.ReasonUpstreamReset, Code: codes.ResourceExhausted, Text: "reset"}, "", false, nil)
	info := errorInfo(t, v.status)
	if v.status.Code() != codes.ResourceExhausted || info.GetReason() != "UPSTREAM_RESET" {
		t.Errorf("got %v with %v, want RESOURCE_EXHAUSTED and UPSTREAM_RESET", v.status, info)
	}
	if sent, ok := info.GetMetadata()["sent"]; ok {
		t.Errorf("a status that isn't UNAVAILABLE says sent=%s", sent)
	}
}

// TestVectorOfABridgeStatus reads the published bytes of a status of
// culvert's, and holds its own to the same reason, domain and code.
func TestVectorOfABridgeStatus(t *testing.T) {
	const vector = "CA4SFHVwc3RyZWFtIHVucmVhY2hhYmxlGksKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5FcnJvckluZm8SHwoUVVBTVFJFQU1fVU5SRUFDSEFCTEUSB2N1bHZlcnQ"
	raw, err := base64.RawStdEncoding.DecodeString(vector)
	if err != nil {
		t.Fatal(err)
	}
	var p spb.Status
	if err := proto.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	want := status.FromProto(&p)
	got := judge(report.New(report.ReasonUpstreamUnreachable, want.Message()), "", false, nil).status
	wantInfo, gotInfo := errorInfo(t, want), errorInfo(t, got)
	if got.Code() != want.Code() || gotInfo.GetReason() != wantInfo.GetReason() || gotInfo.GetDomain() != wantInfo.GetDomain() {
		t.Errorf("got %v with %v, want %v with %v", got, gotInfo, want, wantInfo)
	}
}

// TestInsideStaysInside: a cause goes to the log; a client is told it only
// where the operator wants that.
func TestInsideStaysInside(t *testing.T) {
	cause := errors.New("dial tcp 10.0.0.7:9000: connect: connection refused")
	f := report.New(report.ReasonUpstreamUnreachable, "the backend could not be reached").Because(cause)
	v := judge(f, "", false, nil)
	if strings.Contains(v.status.String(), "10.0.0.7") || strings.Contains(fmt.Sprint(v.status.Details()), "10.0.0.7") {
		t.Errorf("the client is told %v", v.status)
	}
	if v.cause != cause.Error() {
		t.Errorf("the log is told %q, want %q", v.cause, cause)
	}
	if v := judge(f, "", true, nil); !strings.Contains(v.status.Message(), "10.0.0.7") {
		t.Errorf("with detailed errors the client is told %q, want the cause in it", v.status.Message())
	}
}

// TestJudge holds the two origins apart: what came in the upstream's trailers
// passes untouched, everything else is culvert's or the client's.
func TestJudge(t *testing.T) {
	own, err := status.New(codes.ResourceExhausted, "grpc: received message larger than max").WithDetails(&errdetails.ErrorInfo{Reason: "QUOTA", Domain: "backend"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		err    error
		origin string
		reason report.Reason
		code   codes.Code
	}{
		{"the upstream's OK", nil, report.OriginUpstream, "", codes.OK},
		{"the upstream's status", upstream.Status{Status: own}, report.OriginUpstream, "", codes.ResourceExhausted},
		{"the upstream's status, wrapped", fmt.Errorf("recv: %w", upstream.Status{Status: own}), report.OriginUpstream, "", codes.ResourceExhausted},
		{"the upstream's status of no known code", upstream.Status{Status: status.New(codes.Code(99), "")}, report.OriginUpstream, "", codes.Code(99)},
		{"a fault", report.New(report.ReasonNoRoute, ""), report.OriginCulvert, report.ReasonNoRoute, codes.Unimplemented},
		{"a fault, wrapped", fmt.Errorf("recv: %w", report.New(report.ReasonNoRoute, "")), report.OriginCulvert, report.ReasonNoRoute, codes.Unimplemented},
		{"a fault because of the end of a file", report.New(report.ReasonUpstreamReset, "").Because(io.EOF), report.OriginCulvert, report.ReasonUpstreamReset, codes.Unavailable},
		{"a fault because of a status", report.New(report.ReasonUpstreamReset, "").Because(upstream.Status{Status: own}), report.OriginCulvert, report.ReasonUpstreamReset, codes.Unavailable},
		{"the deadline", errDeadline, report.OriginCulvert, report.ReasonDeadlineExceeded, codes.DeadlineExceeded},
		{"a context's deadline", context.DeadlineExceeded, report.OriginCulvert, report.ReasonDeadlineExceeded, codes.DeadlineExceeded},
		{"the client's going", errGone, report.OriginClient, report.ReasonClientGone, codes.Canceled},
		{"a context's cancellation", context.Canceled, report.OriginClient, report.ReasonClientGone, codes.Canceled},
		{"shutting down", errDraining, report.OriginCulvert, report.ReasonDraining, codes.Unavailable},
		{"a bare end of file", io.EOF, report.OriginCulvert, report.ReasonInternal, codes.Internal},
		{"a wrapped end of file", fmt.Errorf("read: %w", io.EOF), report.OriginCulvert, report.ReasonInternal, codes.Internal},
		{"half an end of file", io.ErrUnexpectedEOF, report.OriginCulvert, report.ReasonInternal, codes.Internal},
		{"a status that never came in trailers", status.Error(codes.NotFound, "x"), report.OriginCulvert, report.ReasonInternal, codes.Internal},
		{"something else", errors.New("x"), report.OriginCulvert, report.ReasonInternal, codes.Internal},
		{"the call's own end", errFinished, report.OriginCulvert, report.ReasonInternal, codes.Internal},
	} {
		v := judge(c.err, "id", false, nil)
		if v.origin != c.origin || v.reason != c.reason || v.status.Code() != c.code {
			t.Errorf("%s: got %v of %q for %q, want %v of %q for %q", c.name, v.status.Code(), v.origin, v.reason, c.code, c.origin, c.reason)
		}
	}
	if v := judge(upstream.Status{Status: own}, "id", false, nil); v.status != own {
		t.Errorf("the upstream's status became %v", v.status)
	}
	if v := judge(io.EOF, "id", false, nil); !strings.Contains(v.cause, "BUG:") || strings.Contains(v.status.Message(), "BUG:") {
		t.Errorf("a defect tells the client %q and the log %q", v.status.Message(), v.cause)
	}
	if v := judge(errors.New("secret"), "id", false, nil); strings.Contains(v.status.String(), "secret") || v.cause != "secret" {
		t.Errorf("an unknown error tells the client %v and the log %q", v.status, v.cause)
	}
}

// TestFaultsHideTheirCauseFromTheirCallers: a connection's end of file is not
// the client's half-close, nor its deadline the call's.
func TestFaultsHideTheirCauseFromTheirCallers(t *testing.T) {
	for _, cause := range []error{io.EOF, context.Canceled, context.DeadlineExceeded} {
		if err := report.New(report.ReasonClientGone, "gone").Because(cause); errors.Is(err, cause) {
			t.Errorf("a fault because of %v reads as it", cause)
		}
	}
	f := report.New(report.ReasonClientGone, "gone").Because(io.EOF)
	if got, want := f.Error(), "gone: EOF"; got != want {
		t.Errorf("the log reads %q, want %q", got, want)
	}
}

// TestSharedFaultsStayAsTheyAre: causes of contexts are shared by all calls.
func TestSharedFaultsStayAsTheyAre(t *testing.T) {
	for _, f := range []*report.Fault{errDeadline, errGone, errDraining} {
		judge(f, "id", true, nil)
		if f.Cause != nil || f.Mute {
			t.Errorf("%v was changed: cause %v, mute %v", f, f.Cause, f.Mute)
		}
	}
}

// TestSilenceIsToldApart: a client that answers no ping is told to call again; one
// that takes nothing has been too slow; a host that is gone can't be told.
func TestSilenceIsToldApart(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   codes.Code
		reason report.Reason
		ends   string
		close  websocket.StatusCode
	}{
		{socket.ErrNoPong, codes.Unavailable, report.ReasonClientSilent, report.EndedSilent, websocket.StatusGoingAway},
		{socket.ErrStalled, codes.ResourceExhausted, report.ReasonSlowConsumer, report.EndedSlow, websocket.StatusPolicyViolation},
		{socket.ErrSilent, codes.Canceled, report.ReasonClientGone, report.EndedSilent, websocket.StatusGoingAway},
	} {
		v := judge(c.err, "id", false, nil) // as the cause of an HTTP/2 request's context
		if v.status.Code() != c.code || v.reason != c.reason || !strings.Contains(v.cause, c.err.Error()) {
			t.Errorf("%v: %v, %s because of %q; want %v, %s", c.err, v.status, v.reason, v.cause, c.code, c.reason)
		}
		ends := silenceFault(c.err).Ends
		if code, _ := tunnel.CloseCode(ends); ends != c.ends || code != c.close {
			t.Errorf("%v: its connection ends as %q with %d, want %q with %d", c.err, ends, code, c.ends, c.close)
		}
	}
}

// TestCauseMayGiveAWriteMoreTime, and never less than other causes.
func TestCauseMayGiveAWriteMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for given, want := range map[time.Duration]time.Duration{
			3 * time.Second: 3 * time.Second,
			writeGrace / 2:  writeGrace,
			-time.Second:    writeGrace,
		} {
			if got := graceOf(&report.Fault{WriteBy: time.Now().Add(given)}); got != want {
				t.Errorf("given %v, a write may go on for %v, want %v", given, got, want)
			}
		}
		if got := graceOf(context.Canceled); got != writeGrace {
			t.Errorf("for another cause a write may go on for %v, want %v", got, writeGrace)
		}
	})
}
