package websocket

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// TestFramesThatCarryNothing end a WebSocket, whatever few of use are between.
func TestFramesThatCarryNothing(t *testing.T) {
	for name, frame := range map[string]func(n int) []byte{
		"pings":             func(int) []byte { return wstest.Masked(wstest.Ping, nil) },
		"pongs":             func(int) []byte { return wstest.Masked(wstest.Pong, []byte("12345")) },
		"fragments of none": func(n int) []byte { return fragment(n, nil) },
		"fragments of one":  func(n int) []byte { return fragment(n, []byte{0}) },
		"empty messages":    func(int) []byte { return wstest.Masked(wstest.Binary, nil) },
		"pings with a message now and then": func(n int) []byte {
			if n%100 == 0 {
				return wstest.Masked(wstest.Binary, []byte("a message"))
			}
			return wstest.Masked(wstest.Ping, nil)
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			var in []byte
			for n := range 2 * maxUselessFrames {
				in = append(in, frame(n)...)
			}
			_, told, err := readSocket(in, 4<<10, 1<<10)
			var broken RuleError
			if !errors.As(err, &broken) || broken.Code != StatusPolicyViolation {
				t.Errorf("the reading ended with %v, want that of a flood", err)
			}
			if want := "\x88\x02\x03\xf0"; !strings.HasSuffix(string(told), want) { // a close frame with it
				t.Errorf("the client was told %x, want the close code 1008 last", told[max(0, len(told)-16):])
			}
		})
	}
}

// fragment is the nth of a message that has no end.
func fragment(n int, payload []byte) []byte {
	op := byte(wstest.Continuation)
	if n == 0 {
		op = wstest.Binary
	}
	b := wstest.Masked(op, payload)
	b[0] &^= finBit
	return b
}

// TestFramesOfAClientThatMeansWell: many pings, with as much of use or with
// time between, are no flood.
func TestFramesOfAClientThatMeansWell(t *testing.T) {
	var in []byte
	for range 2 * maxUselessFrames {
		in = append(in, wstest.Masked(wstest.Ping, nil)...)
		in = append(in, wstest.Masked(wstest.Binary, []byte("a message"))...)
	}
	messages, _, err := readSocket(in, 4<<10, 1<<10)
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(messages) != 2*maxUselessFrames {
		t.Errorf("the reading ended with %v after %d messages, want all %d", err, len(messages), 2*maxUselessFrames)
	}
}
