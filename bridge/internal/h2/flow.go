package h2

// maxWindow is the largest allowed window. RFC 9113 §6.9.1.
const maxWindow = 1<<31 - 1

// An outflow is how much may be sent: a window that the peer opens. It may be negative.
// RFC 9113 §6.9.2.
type outflow int64

// add returns false when the window would be larger than allowed.
func (w *outflow) add(n int64) bool {
	if int64(*w)+n > maxWindow {
		return false
	}
	*w += outflow(n)
	return true
}

// An inflow is how much the peer may send: a window that opens as received data is
// used.
type inflow struct {
	size int // the whole window
	left int // what the peer knows that it may send
	owed int // used, and not yet announced
}

func newInflow(size int) inflow { return inflow{size: size, left: size} }

// take notes received data. It returns false if the peer wasn't allowed to send it.
func (w *inflow) take(n int) bool {
	if n > w.left {
		return false
	}
	w.left -= n
	return true
}

// give notes used data, and returns the increment to announce now, or 0. A few bytes
// are not worth a frame.
func (w *inflow) give(n int) int {
	w.owed += n
	if w.owed < min(w.size/4, maxOwed) {
		return 0
	}
	n, w.owed = w.owed, 0
	w.left += n
	return n
}

// advance returns an increment to announce now, however little was used: at least 1,
// which later use makes up for. It returns 0 if no window may be larger.
func (w *inflow) advance() int {
	n := max(w.owed, 1)
	if w.left+n > maxWindow {
		return 0
	}
	w.owed -= n
	w.left += n
	return n
}

// maxOwed bounds how much a connection's window, which is large, keeps back.
const maxOwed = 256 << 10
