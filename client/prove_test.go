package client

import (
	"strings"
	"testing"
)

// TestLongFrame: a frame that is too long isn't said to be the first one.
func TestLongFrame(t *testing.T) {
	for _, settled := range []bool{false, true} {
		_, err := readFrame(strings.NewReader("\x00\x40\x01\x04\x00\x00\x00\x00\x00"), settled)
		if err == nil || !strings.Contains(err.Error(), "16385 bytes") || strings.Contains(err.Error(), "began with") {
			t.Errorf("settled %v: %v", settled, err)
		}
	}
}
