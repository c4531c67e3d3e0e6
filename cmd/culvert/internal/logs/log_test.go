package logs

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"unicode"

	"github.com/culvert-grpc/culvert/config"
)

// hostile is what a peer may send to whoever reads the log: escape sequences
// in one character and in two, a line of its own, text that runs backwards,
// a tag that can't be seen, bytes that are no UTF-8.
const hostile = "\x1b[2J \u009b2J \x7f \n level=ERROR \u202e gnp \U000e0041 \xff é"

func TestTextFromPeersCantActOnATerminal(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log := Open(&out, config.Log{Level: "info", Format: format}, nil)
		log.Info("call", "cause", hostile)
		log.Close(patience)
		line := strings.TrimSuffix(out.String(), "\n")
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Errorf("%s: %U gets through: %q", format, r, line)
			}
		}
		if format == "json" {
			var got struct{ Cause string }
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatal(err)
			}
			if want := strings.ToValidUTF8(hostile, "\ufffd"); got.Cause != want {
				t.Errorf("%q is read as %q", want, got.Cause)
			}
		}
	}
}

func TestLevels(t *testing.T) {
	for level, want := range map[string]string{"debug": "DIWE", "info": "IWE", "warn": "WE", "error": "E"} {
		var out bytes.Buffer
		log := Open(&out, config.Log{Level: level, Format: "json"}, nil)
		log.Debug("D")
		log.Info("I")
		log.Warn("W")
		log.Error("E")
		log.Close(patience)
		got := ""
		for line := range strings.Lines(out.String()) {
			var l struct{ Msg string }
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			got += l.Msg
		}
		if got != want {
			t.Errorf("level %s writes %s, want %s", level, got, want)
		}
	}
}

// TestLevelChangesAtRunTime sets the level of a log that is in use, for both loggers.
func TestLevelChangesAtRunTime(t *testing.T) {
	var out bytes.Buffer
	log := Open(&out, config.Log{Level: "info", Format: "json"}, nil)
	for at, level := range []slog.Level{slog.LevelInfo, slog.LevelDebug, slog.LevelWarn} {
		log.Level.Set(level)
		log.Debug("m", "at", at)
		log.Calls.Debug("m", "at", at)
	}
	log.Close(patience)
	if got := strings.Count(out.String(), `"at":1}`); got != 2 || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("got %q, want one line of each logger at debug level", out.String())
	}
}

func TestColourOfLevels(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(colouring{&out}, nil))
	log.Warn("m", "k", " level=INFO ")
	log.Log(t.Context(), slog.LevelError+1, "odd")
	lines := strings.Split(out.String(), "\n")
	if _, got, _ := strings.Cut(lines[0], " "); got != "level=\x1b[33mWARN\x1b[0m msg=m k=\" level=INFO \"" {
		t.Errorf("got %q", got)
	}
	if _, got, _ := strings.Cut(lines[1], " "); got != "level=ERROR+1 msg=odd" {
		t.Errorf("got %q", got)
	}
}
