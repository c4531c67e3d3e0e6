package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestDoctorWithoutJudgement: 1 would mean that bidirectional streams are impossible.
func TestDoctorWithoutJudgement(t *testing.T) {
	args := []string{"doctor", "http://127.0.0.1:1", "--proxy", "none"}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var stderr bytes.Buffer
	root := newRootCommand(io.Discard, &stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(over)
	var e *exit
	if !errors.As(err, &e) || e.code != exitInterrupted || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("interrupted: %v, %q", err, stderr.String())
	}

	stderr.Reset()
	r, w := io.Pipe()
	_ = r.Close() // it is open
	if code := run(args, w, &stderr); code != exitUntold || !strings.Contains(stderr.String(), io.ErrClosedPipe.Error()) {
		t.Errorf("nothing written: %d, %q", code, stderr.String())
	}
}
