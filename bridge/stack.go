package bridge

// growStack makes the goroutine's stack large enough for a call while there is
// next to nothing on it. Else it would be copied, frame by frame, each time it
// doubles deep inside the call: that was a fourteenth of the CPU time of a
// short call on a WebSocket.
//
//go:noinline
func growStack(n int) byte {
	var room [stackBytes]byte
	return room[n] // the compiler would drop what nobody can read
}

const stackBytes = 5 << 10
