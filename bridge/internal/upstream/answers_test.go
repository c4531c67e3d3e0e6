package upstream

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/bridge/report"
)

func detailsOf(t testing.TB, st *statuspb.Status) string {
	raw, err := proto.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawStdEncoding.EncodeToString(raw)
}

// TestReadableStatusPasses, whatever else grpc-go can't read in a header or a trailer. What
// is left out is logged by name.
func TestReadableStatusPasses(t *testing.T) {
	five := detailsOf(t, &statuspb.Status{Code: 5, Message: "gone"})
	for what, c := range map[string]struct {
		header  []string // after :status and content-type; nil: Trailers-Only
		trailer []string
		code    codes.Code
		message string
		want    metadata.MD // among header and trailer
		without []string    // names that neither has
		logged  string      // a name
	}{
		"joined values in a header":              {[]string{"x-a-bin", "AAEC,/w=="}, []string{"grpc-status", "0"}, codes.OK, "", metadata.MD{"x-a-bin": {"\x00\x01\x02", "\xff"}}, nil, ""},
		"joined values in a trailer":             {[]string{}, []string{"x-a-bin", "AAEC , /w", "grpc-status", "7", "grpc-message", "no"}, codes.PermissionDenied, "no", metadata.MD{"x-a-bin": {"\x00\x01\x02", "\xff"}}, nil, ""},
		"joined values in Trailers-Only":         {nil, []string{"x-a-bin", "AAEC,", "grpc-status", "7", "grpc-message", "no"}, codes.PermissionDenied, "no", metadata.MD{"x-a-bin": {"\x00\x01\x02", ""}}, nil, ""},
		"joined and single ones":                 {[]string{"x-a-bin", "AA", "x-a-bin", "AQ,Ag", "x-a-bin", "Aw"}, []string{"grpc-status", "0"}, codes.OK, "", metadata.MD{"x-a-bin": {"\x00", "\x01", "\x02", "\x03"}}, nil, ""},
		"a joined value that isn't base64":       {[]string{"x-a-bin", "AAEC,?,/w=="}, []string{"grpc-status", "0"}, codes.OK, "", metadata.MD{"x-a-bin": {"\x00\x01\x02", "\xff"}}, nil, "x-a-bin"},
		"a value that isn't base64, in a head":   {[]string{"x-a-bin", "!!!", "x-b", "1"}, []string{"grpc-status", "5", "grpc-message", "gone"}, codes.NotFound, "gone", metadata.MD{"x-b": {"1"}}, []string{"x-a-bin"}, "x-a-bin"},
		"a value that isn't base64, in a tail":   {[]string{}, []string{"x-a-bin", "A", "x-b", "1", "grpc-status", "0"}, codes.OK, "", metadata.MD{"x-b": {"1"}}, []string{"x-a-bin"}, "x-a-bin"},
		"the other alphabet":                     {[]string{"x-a-bin", "_-__"}, []string{"grpc-status", "0"}, codes.OK, "", nil, []string{"x-a-bin"}, "x-a-bin"},
		"misplaced padding":                      {[]string{"x-a-bin", "AA=A"}, []string{"grpc-status", "0"}, codes.OK, "", nil, []string{"x-a-bin"}, "x-a-bin"},
		"details that aren't base64":             {[]string{}, []string{"grpc-status", "5", "grpc-message", "gone", "grpc-status-details-bin", "not base64!"}, codes.NotFound, "gone", nil, []string{detailsName}, detailsName},
		"details before the status":              {[]string{}, []string{"grpc-status-details-bin", "?", "grpc-message", "gone", "grpc-status", "5"}, codes.NotFound, "gone", nil, []string{detailsName}, detailsName},
		"details that aren't base64, alone":      {nil, []string{"grpc-status", "5", "grpc-message", "gone", "grpc-status-details-bin", "%%%"}, codes.NotFound, "gone", nil, []string{detailsName}, detailsName},
		"details that aren't a status":           {[]string{}, []string{"grpc-status", "5", "grpc-message", "gone", "grpc-status-details-bin", "/////w"}, codes.NotFound, "gone", nil, nil, ""},
		"details of another code":                {[]string{}, []string{"grpc-status", "7", "grpc-message", "no", "grpc-status-details-bin", five}, codes.PermissionDenied, "no", nil, []string{detailsName}, detailsName},
		"details of OK":                          {nil, []string{"grpc-status", "7", "grpc-message", "no", "grpc-status-details-bin", ""}, codes.PermissionDenied, "no", nil, []string{detailsName}, detailsName},
		"details of an error with OK":            {[]string{}, []string{"grpc-status", "0", "grpc-status-details-bin", five}, codes.OK, "", nil, []string{detailsName}, detailsName},
		"details that came joined":               {[]string{}, []string{"grpc-status", "5", "grpc-message", "gone", "grpc-status-details-bin", five + "," + five}, codes.NotFound, "gone", nil, nil, ""},
		"details without the message":            {[]string{}, []string{"grpc-status", "5", "grpc-message", "100%25 gone", "grpc-status-details-bin", detailsOf(t, &statuspb.Status{Code: 5})}, codes.NotFound, "100% gone", nil, nil, ""},
		"details in a header":                    {[]string{"grpc-status-details-bin", "?"}, []string{"grpc-status", "5", "grpc-message", "gone"}, codes.NotFound, "gone", nil, []string{detailsName}, detailsName},
		"a number with blanks":                   {[]string{}, []string{"grpc-status", " 5 ", "grpc-message", "gone"}, codes.NotFound, "gone", nil, nil, ""},
		"a number that came joined":              {[]string{}, []string{"grpc-status", "5, 5", "grpc-message", "gone"}, codes.NotFound, "gone", nil, nil, ""},
		"a content-type in upper case":           {[]string{"!content-type", "Application/gRPC+Proto"}, []string{"grpc-status", "5", "grpc-message", "gone"}, codes.NotFound, "gone", metadata.MD{"content-type": {"application/grpc+proto"}}, nil, ""},
		"a content-type with blanks":             {[]string{"!content-type", "application/grpc ; charset=utf-8"}, []string{"grpc-status", "0"}, codes.OK, "", nil, nil, ""},
		"a status without a content-type":        {nil, []string{":status", "200", "grpc-status", "8", "grpc-message", "quota"}, codes.ResourceExhausted, "quota", nil, nil, ""},
		"a status in a page's header":            {nil, []string{":status", "503", "content-type", "text/html", "grpc-status", "8", "grpc-message", "quota", "x-a", "1"}, codes.ResourceExhausted, "quota", metadata.MD{"x-a": {"1"}}, nil, ""},
		"a status before a page":                 {[]string{"!status", "502", "!content-type", "text/html", "grpc-status", "8", "grpc-message", "quota"}, []string{"x-z", "1"}, codes.ResourceExhausted, "quota", nil, []string{"x-z"}, ""},
		"all of it at once, over several frames": {[]string{"x-a-bin", "?", "x-b", strings.Repeat("b", 20_000)}, []string{"grpc-status", "5,5", "grpc-message", "gone", "grpc-status-details-bin", "?", "x-c-bin", "AA,AQ"}, codes.NotFound, "gone", metadata.MD{"x-b": {strings.Repeat("b", 20_000)}, "x-c-bin": {"\x00", "\x01"}}, []string{"x-a-bin", detailsName}, "x-a-bin"},
	} {
		t.Run(what, func(t *testing.T) {
			var log bytes.Buffer
			hasMessage := c.header != nil && !slices.Contains(c.header, "!status")
			b := report.Backend{Logger: slog.New(slog.NewTextHandler(&log, nil)), Target: startFrames(t, func(conn *frameConn, id uint32) {
				if c.header == nil {
					trailer := c.trailer
					if trailer[0] != ":status" {
						trailer = append([]string{":status", "200", "content-type", "application/grpc"}, trailer...)
					}
					conn.end(id, trailer...)
					return
				}
				head, rest := map[string]string{":status": "200", "content-type": "application/grpc"}, []string(nil)
				for pair := range slices.Chunk(c.header, 2) {
					switch pair[0] {
					case "!status":
						head[":status"] = pair[1]
					case "!content-type":
						head["content-type"] = pair[1]
					default:
						rest = append(rest, pair...)
					}
				}
				conn.headers(id, false, append([]string{":status", head[":status"], "content-type", head["content-type"]}, rest...)...)
				conn.data(id, false, framed(0, []byte("one")))
				conn.end(id, c.trailer...)
			}).address}
			u := upstreamTo(t, b)
			for range 2 { // the second answer comes over a connection with a change before it
				e := callUpstream(within(t, patience), t, u, nil)
				if e.origin != report.OriginUpstream || e.status.Code() != c.code || e.status.Message() != c.message {
					t.Errorf("ended with %v of %s (%s), want %v %q of the backend", e.status, e.origin, e.cause, c.code, c.message)
				}
				if hasMessage && (len(e.messages) != 1 || string(e.messages[0]) != "one") {
					t.Errorf("got the messages %q", e.messages)
				}
				md := metadata.Join(e.header, e.trailer)
				for name, want := range c.want {
					if !slices.Equal(md[name], want) {
						t.Errorf("%s is %q, want %q", name, md[name], want)
					}
				}
				for _, name := range c.without {
					if md[name] != nil {
						t.Errorf("%s is %q, want none", name, md[name])
					}
				}
			}
			if lines := strings.Count(log.String(), "level=WARN"); (lines == 1) != (c.logged != "") || !strings.Contains(log.String(), c.logged) {
				t.Errorf("want one line about %q, or none: %s", c.logged, &log)
			}
		})
	}
}

// TestUnreadableStatusIsAnError: what isn't mended stays culvert's own error.
func TestUnreadableStatusIsAnError(t *testing.T) {
	for _, status := range []string{"OK", "", "5, 7", "0,5", "5 5", "99999999999"} {
		u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
			c.ok(id)
			c.end(id, "grpc-status", status, "x-a-bin", "?")
		}).address})
		if e := callUpstream(within(t, patience), t, u, nil); e.reason != report.ReasonUpstreamReset || e.status.Code() != codes.Unknown {
			t.Errorf("grpc-status %q: %v, %s", status, e.status, e.reason)
		}
	}
	u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
		c.headers(id, false, ":status", "200", "content-type", "text/html", "grpc-status", "0")
		c.data(id, true, []byte("<html>"))
	}).address})
	if e := callUpstream(within(t, patience), t, u, nil); e.reason != report.ReasonUpstreamNotGRPC {
		t.Errorf("a page with grpc-status 0: %v, %s", e.status, e.reason)
	}
}

// TestMadeUpEndIsTold: an answer that isn't gRPC and has a status ends with its header. The
// backend gets a reset, because it would send the rest.
func TestMadeUpEndIsTold(t *testing.T) {
	b := startFrames(t, func(c *frameConn, id uint32) {
		c.headers(id, false, ":status", "200", "content-type", "text/html", "grpc-status", "5")
		c.data(id, false, []byte("<html>"))
	})
	b.resets = make(chan uint32, 10)
	u := upstreamTo(t, report.Backend{Target: b.address})
	if e := callUpstream(within(t, patience), t, u, nil); e.status.Code() != codes.NotFound || e.origin != report.OriginUpstream {
		t.Errorf("%v of %s, want NotFound of the backend", e.status, e.origin)
	}
	select {
	case id := <-b.resets:
		if id != 1 {
			t.Errorf("stream %d is reset, want 1", id)
		}
	case <-time.After(patience):
		t.Error("the backend's stream stays open")
	}
}

// TestLargeAnswersBesideAChange: a header that is too large ends its call alone, before and
// after a change on the connection, also one that only the split of its values makes large.
func TestLargeAnswersBesideAChange(t *testing.T) {
	n := 0
	u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
		n++
		switch n {
		case 1, 3:
			c.ok(id, slices.Repeat([]string{"x-a", strings.Repeat("a", 100)}, 400)...)
		case 4:
			c.ok(id, "x-a-bin", strings.Repeat(",", 10_000))
		default:
			c.ok(id, "x-a-bin", "AA,AQ")
		}
		c.end(id, "grpc-status", "0")
	}).address})
	for i, want := range []codes.Code{codes.ResourceExhausted, codes.OK, codes.ResourceExhausted, codes.ResourceExhausted, codes.OK} {
		if e := callUpstream(within(t, patience), t, u, nil); e.status.Code() != want {
			t.Errorf("call %d: %v (%s), want %v", i+1, e.status, e.cause, want)
		}
	}
	if got := u.pool.Readied(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
}
