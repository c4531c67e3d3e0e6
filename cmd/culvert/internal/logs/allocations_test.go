//go:build !race

package logs

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/telemetry"
)

// TestLineOfACallAllocatesNothing, as telemetry writes it. It is plain, and its attributes need no
// record. The race detector has sync.Pool lose some of what it keeps, so this isn't built with it.
func TestLineOfACallAllocatesNothing(t *testing.T) {
	var out bytes.Buffer
	h := newJSONHandler(&out, slog.LevelInfo)
	info := &report.CallInfo{ID: "c1", Transport: "grpc-web", Method: "/a.B/C", Peer: "192.0.2.1:4711", Origin: report.OriginUpstream, MessagesIn: 1, Duration: time.Millisecond}
	lines := telemetry.NewLines()
	defer lines.Close(time.Second)
	exported := telemetry.NewLog(slog.New(exporting{Handler: h, to: lines})).CallBegan(t.Context(), info, nil)
	if n := testing.AllocsPerRun(1000, func() { out.Reset(); exported.Ended(info) }); n >= 1 { // beside the growth of the queue
		t.Errorf("an exported line takes %v allocations", n)
	}
	out.Reset()
	call := telemetry.NewLog(slog.New(h)).CallBegan(t.Context(), info, nil)
	if n := testing.AllocsPerRun(1000, func() { out.Reset(); call.Ended(info) }); n >= 1 {
		t.Errorf("a line takes %v allocations", n)
	}
	if line := out.String(); !strings.Contains(line, `"msg":"call","call_id":"c1"`) || !strings.HasSuffix(line, `"bytes_out":0,"duration_ms":1}`+"\n") {
		t.Errorf("the line is %s", line)
	}
}
