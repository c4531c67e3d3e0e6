package main

import (
	"errors"
	"testing"
)

// TestErrorText: what a server or a proxy has put into an error doesn't act on the terminal.
func TestErrorText(t *testing.T) {
	got := errorText(errors.New("b.proto is missing: \x1b[31m\u009bX\u202e\nfirst\tsecond\x07"))
	if want := "culvert: b.proto is missing: ?[31m?X?\nculvert: first\tsecond?\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
