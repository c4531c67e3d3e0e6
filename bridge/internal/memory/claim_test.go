package memory

import (
	"testing"

	"google.golang.org/grpc/mem"
)

// TestClaimHasRoomForItsMessage: the claim of a message of two buffers, the largest that a tunnel
// sends, is its only allocation.
func TestClaimHasRoomForItsMessage(t *testing.T) {
	e := New(800, 0).NewEntry()
	first, second := mem.Buffer(mem.SliceBuffer("first")), mem.Buffer(mem.SliceBuffer("second"))
	var message mem.BufferSlice // escapes, as to grpc-go
	if n := testing.AllocsPerRun(100, func() {
		message = append(NewClaim(e).Slice(), first, second)
	}); n != 1 || message.Len() != len("firstsecond") {
		t.Errorf("a claim with a message of %d bytes takes %v allocations, want 1", message.Len(), n)
	}
}

// TestSpares: there is room for small messages that nobody waits for.
func TestSpares(t *testing.T) {
	a := New(800, 0)
	e := a.NewEntry()
	if !a.Spares(800) || a.Spares(801) {
		t.Error("an empty account of 800 bytes has to spare that much")
	}
	e.Add(Small, 500)
	waiter, atOnce := a.Ask(e, Small, 400, func() {})
	if atOnce || a.Spares(1) {
		t.Error("the account spares what somebody waits for")
	}
	a.Drop(waiter)
	if !a.Spares(300) {
		t.Error("there is room again, and nobody waits")
	}
}
