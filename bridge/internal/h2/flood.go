package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// Bounds for frames that cost a client next to nothing and this side a little.
// Exceeding a bound ends the connection with ENHANCE_YOUR_CALM, so each bound is far
// from the needs of a well-behaved client: it allows a burst, a number a second in the
// long run, and more for real work.
const (
	maxUseless  = 10_000 // frames that carry nothing, at once
	uselessRate = 1000   // and a second

	maxWasted  = 2000 // streams begun for nothing, and header blocks for streams that are over
	wastedRate = 100  // and a second
)

const (
	// framesForData is how many frames that carry nothing each sent DATA frame allows:
	// some clients open both windows for each DATA frame, and may do so long after the
	// last one was sent.
	framesForData = 3

	// framesForMore is how many of them each frame that carries something allows.
	framesForMore = 4

	// maxEarned bounds the allowance saved up for later.
	maxEarned = 10 * maxUseless
)

const (
	// fewBytes of data in a frame cost less than its header. The shortest gRPC message
	// has 5.
	fewBytes = 5

	// dribbleBytes is how much a window must let through at once to count as useful.
	dribbleBytes = 128

	// rapidTime is the time after the beginning of a stream in which a reset shows that
	// nobody wanted an answer. CVE-2023-44487.
	rapidTime = 50 * time.Millisecond
)

// noteUseless bounds the frames that carry nothing. RFC 9113 §10.5.
func (c *conn) noteUseless(frames int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.countUseless(frames)
}

// countUseless is noteUseless for a caller that holds mu.
func (c *conn) countUseless(frames int) error {
	if !c.useless.Spend(frames, c.clock.read, maxUseless, uselessRate) {
		return connError{http2.ErrCodeEnhanceYourCalm, "too many frames that carry nothing"}
	}
	return nil
}

// countWasted bounds three kinds: streams that are reset as soon as they began, streams
// whose frames make this side reset them, and header blocks for streams that this side
// has reset. CVE-2023-44487, CVE-2025-8671. The caller holds mu.
func (c *conn) countWasted() error {
	if !c.wasted.Spend(1, c.clock.read, maxWasted, wastedRate) {
		return connError{http2.ErrCodeEnhanceYourCalm, "too many streams that are reset at once or refused"}
	}
	return nil
}
