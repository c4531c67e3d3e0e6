package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/config"
)

// keeper keeps the lines that it gets, each as slog's text handler writes it.
type keeper struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (k *keeper) Add(at time.Time, level slog.Level, msg string, attrs []slog.Attr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := slog.NewRecord(at, level, msg, 0)
	r.AddAttrs(attrs...)
	_ = slog.NewTextHandler(&k.out, nil).Handle(context.Background(), r) // a buffer takes every line
}

// TestExportedLinesAreThoseOfTheLog: of each logger, in each form, with the groups and attributes
// that a logger has of its own.
func TestExportedLinesAreThoseOfTheLog(t *testing.T) {
	var out bytes.Buffer
	var k keeper
	log := Open(&out, config.Log{Level: "info", Format: "text"}, &k)
	log.Info("plain", "a", 1)
	log.Debug("below the level")
	log.With("own", true).WithGroup("g").With("in", 1).WithGroup("h").WithGroup("").Warn("nested", "b", "x y")
	log.WithGroup("empty").Error("no attributes")
	log.Calls.Info("call", "call_id", "c1")
	for _, l := range []*slog.Logger{log.Calls, log.Calls.With("own", 1)} {
		h, ok := l.Handler().(attrHandler)
		if !ok {
			t.Fatal("a line of a call needs a record")
		}
		if err := h.HandleAttrs(t.Context(), time.Now(), slog.LevelInfo, "by attributes", []slog.Attr{slog.Int("a", 1)}); err != nil {
			t.Error(err)
		}
	}
	log.Close(patience)
	if got, want := k.out.String(), out.String(); got != want {
		t.Errorf("exported is\n%s\nthe log has\n%s", got, want)
	}
}

// TestLocalLinesAreNotExported: they are about exports, and would make more of them.
func TestLocalLinesAreNotExported(t *testing.T) {
	var out bytes.Buffer
	var k keeper
	log := Open(&out, config.Log{Level: "info", Format: "json"}, &k)
	log.Local.Warn("an export failed")
	log.Close(patience)
	if k.out.Len() > 0 || !bytes.Contains(out.Bytes(), []byte("an export failed")) {
		t.Errorf("exported is %q, the log has %q", k.out.String(), out.String())
	}
}

// TestWithoutExportNothingIsBetween: the handlers are those that write.
func TestWithoutExportNothingIsBetween(t *testing.T) {
	log := Open(io.Discard, config.Log{Level: "info", Format: "json"}, nil)
	defer log.Close(patience)
	if kinds := []string{fmt.Sprintf("%T", log.Handler()), fmt.Sprintf("%T", log.Calls.Handler())}; slices.Contains(kinds, "logs.exporting") || kinds[0] != "logs.jsonHandler" {
		t.Errorf("the handlers are %q", kinds)
	}
}
