package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// What a client may do that costs it next to nothing and this side a little. A
// bound that is passed ends the connection with ENHANCE_YOUR_CALM, so each is
// far from what a client does that means well: it allows for a burst, for so
// many a second in the long run, and for more where something is achieved.
const (
	maxUseless  = 10_000 // frames that carry nothing
	uselessRate = 1000   // of them a second

	maxWasted  = 2000 // streams that were begun for nothing, and header blocks for streams that are over
	wastedRate = 100  // of them a second
)

const (
	// framesForData is how many frames that carry nothing each DATA frame
	// accounts for that was sent: some clients open both windows for each, and
	// may do so long after the last was sent.
	framesForData = 3

	// framesForMore is how many of them each frame makes good for that carries
	// something.
	framesForMore = 4

	// maxEarned bounds what is saved up for later.
	maxEarned = 10 * maxUseless
)

const (
	// fewBytes of data in a frame are less than its header costs. The shortest
	// message of gRPC has 5.
	fewBytes = 5

	// dribbleBytes is what a window has to let through at once to have been
	// worth opening.
	dribbleBytes = 128

	// rapidTime is how soon behind its beginning the reset of a stream shows
	// that nobody wanted an answer. CVE-2023-44487.
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

// countWasted bounds the streams that are reset as soon as they began, those
// whose frames make this side reset them, and the header blocks that come for
// streams that this side has reset. CVE-2023-44487, CVE-2025-8671.
// The caller holds mu.
func (c *conn) countWasted() error {
	if !c.wasted.Spend(1, c.clock.read, maxWasted, wastedRate) {
		return connError{http2.ErrCodeEnhanceYourCalm, "too many streams that are reset at once or refused"}
	}
	return nil
}
