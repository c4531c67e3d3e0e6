package message

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// TestBareReadsWithoutGarbage: what a message costs is its payload.
func TestBareReadsWithoutGarbage(t *testing.T) {
	const runs = 50
	ws, c := socketPair(t)
	var sent []byte
	for range runs + 1 { // the first warms up
		sent = append(sent, wstest.Masked(wstest.Binary, nil)...)
	}
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	b := &Bare{WS: ws}
	m := newReader(b.Body(), 1000, "")
	m.Frames = b
	if got := testing.AllocsPerRun(runs, func() {
		if payload, err := m.Next(); err != nil || payload.Len() > 0 {
			t.Error(payload, err)
		}
	}); got > 0 {
		t.Errorf("%v allocations for an empty message, want none", got)
	}
}

// FuzzBare: whatever bytes a client sends, each message is whole, within the limit, and of
// the kind that the route takes; everything else is a fault or the end.
func FuzzBare(f *testing.F) {
	split := wstest.Masked(wstest.Binary, []byte("split"))
	split[0] &^= 0x80
	f.Add(wstest.Masked(wstest.Binary, []byte("hello")))
	f.Add(append(split, wstest.Masked(wstest.Binary, nil)...))
	f.Add(wstest.Masked(wstest.Text, []byte("bye")))
	f.Add(wstest.Masked(wstest.Text, []byte("\xff")))
	f.Add(append(wstest.Masked(wstest.Text, []byte(`{}`)), 0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 8<<10 {
			return
		}
		readBare(t, data, false)
		readBare(t, append([]byte(nil), data...), true)
	})
}

func readBare(t *testing.T, data []byte, opamp bool) {
	t.Helper()
	ws, c := socketPair(t)
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	b := &Bare{WS: ws, HalfClose: "bye"}
	if opamp {
		b.OpAMP = NewOpAMP(ws)
	}
	entry := memory.New(1<<20, 0).NewEntry()
	m := &Reader{Ctx: context.Background(), Body: b.Body(), Limit: &report.SizeLimit{Bytes: 1000, Key: "limit"}, Held: entry, Use: new(quota.Call), Gets: new(progress.Record), Frames: b}
	m.Gets.Clock = new(atomic.Int64)
	sent := 0
	for range len(data) + 2 {
		payload, err := m.Next()
		sent += payload.Len()
		if payload.Len() > 1000 || sent > len(data) {
			t.Fatalf("%d bytes of messages of %d sent", sent, len(data))
		}
		payload.Free()
		if err == nil {
			continue
		}
		if fault := (*report.Fault)(nil); !errors.Is(err, io.EOF) && !errors.As(err, &fault) {
			t.Fatalf("%v is no fault", err)
		}
		if !errors.Is(err, io.EOF) || b.Left() {
			return
		}
	}
	t.Fatal("no end")
}
