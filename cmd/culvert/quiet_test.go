package main

import (
	"io"
	"log"
	"testing"
)

// TestLibrariesAreQuiet: standard error has what a command reports, and no line of net/http's
// about strangers' answers.
func TestLibrariesAreQuiet(t *testing.T) {
	before := log.Writer()
	defer log.SetOutput(before)
	for _, args := range [][]string{{"call", "http://127.0.0.1:1", "list"}, {"dial", "http://127.0.0.1:1", "--listen", "unix:"}, {"doctor", "ftp://127.0.0.1:1"}} {
		log.SetOutput(before)
		if code := run(args, io.Discard, io.Discard); code == exitDone || log.Writer() != io.Discard {
			t.Errorf("%s: exit code %d, and the log goes to %T", args[0], code, log.Writer())
		}
	}
}
