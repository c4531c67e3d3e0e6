// Package answer reads answers over HTTP/1.1 whose end may never come, says whose they are, and tells
// their metadata from fields of HTTP.
package answer

import (
	"io"
	"time"
)

// moment is how long the rest of an answer may take whose meaning is known. Servers and boxes
// hold an end back, and some for ever.
const moment = 500 * time.Millisecond

// More reports whether a byte follows what was read of an answer's body. It waits only a moment,
// and then closes the body, so that the connection isn't used again.
func More(read io.Reader, body io.Closer) bool {
	return len(Page(read, body, 1)) > 0
}

// Page returns the beginning of an answer's body, at most so many bytes: what comes in a moment.
// After that it closes the body.
func Page(read io.Reader, body io.Closer, most int64) []byte {
	late := time.AfterFunc(moment, func() { _ = body.Close() }) // the reader below ends with it
	defer late.Stop()
	page, _ := io.ReadAll(io.LimitReader(read, most)) // what has come is enough
	return page
}
