package opamp

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// capable is a reply that says nothing but the server's capabilities.
func capable(of byte) string { return nothingFor(1) + "\x38" + string(of) }

// says is a reply with a text, in a field that culvert doesn't know.
func says(text string) string { return nothingFor(1) + "\x6a" + string(rune(len(text))) + text }

// telling is a method that answers the nth message with the capabilities n, and with a
// text if the message has one: "says …". Texts of a message "push …" come a second after
// the answer, or after nothing with "hush …".
func telling(s *stream) *status.Status {
	for n := byte(1); ; n++ {
		m := s.recv()
		if m == "" {
			return ok
		}
		kind, text, _ := strings.Cut(m, " ")
		switch kind {
		case "says":
			_ = s.send(says(text))
		case "stay", "hush":
		default:
			_ = s.send(capable(n))
		}
		if kind == "push" || kind == "hush" {
			go func() {
				time.Sleep(2 * time.Second)
				for part := range strings.SplitSeq(text, " ") {
					reply := says(part)
					if of, err := strconv.Atoi(part); err == nil {
						reply = capable(byte(of))
					}
					_ = s.send(reply)
				}
			}()
		}
	}
}

// next polls after an interval.
func (w *world) next(text, want string, after time.Duration) {
	w.t.Helper()
	time.Sleep(Interval)
	synctest.Wait()
	w.hears(w.poll(1, text), want, after)
}

// TestEmptyAnswersYield: after a message that the backend sent unasked, the answer of the
// poll that got it says nothing, and yields to that of the next poll.
func TestEmptyAnswersYield(t *testing.T) {
	inBubble(t, telling, func(w *world) {
		w.hears(w.poll(1, "push config"), capable(1), 0)
		w.next("2", says("config"), 0)
		w.next("3", capable(3), 0)
		w.next("4", capable(4), 0)
		w.next("push a b", capable(5), 0)
		w.next("6", says("a"), 0)
		w.next("7", says("b"), 0)
		w.next("says c", says("c"), 0) // two answers have yielded
		w.next("9", capable(9), 0)
		w.expire()
	})
}

// TestAnswersWithContentWait: nothing else is left out, or comes in another order.
func TestAnswersWithContentWait(t *testing.T) {
	inBubble(t, telling, func(w *world) {
		w.hears(w.poll(1, "push a"), capable(1), 0)
		w.next("says b", says("a"), 0)
		w.next("says c", says("b"), 0)
		w.next("4", says("c"), 0)
		w.next("5", capable(5), 0)
		w.expire()
	})
}

// TestEmptyAnswersYieldInARow: however many there are, to the newest, and that to an answer.
func TestEmptyAnswersYieldInARow(t *testing.T) {
	inBubble(t, telling, func(w *world) {
		w.hears(w.poll(1, "push 11 12 13 14"), capable(1), 0)
		w.next("2", capable(2), 0)
		w.next("push 21 a 22 b 23 24", capable(3), 0)
		w.next("4", says("a"), 0)
		w.next("5", says("b"), 0)
		w.next("says c", says("c"), 0)
		w.expire()
	})
}

// TestEmptyAnswerWithoutAnother: it waits for a second, and is delivered then. An answer
// that has just come is delivered at once.
func TestEmptyAnswerWithoutAnother(t *testing.T) {
	inBubble(t, telling, func(w *world) {
		w.hears(w.poll(1, "1"), capable(1), 0)
		w.next("hush 11", nothingFor(1), time.Second)
		w.next("stay", capable(11), time.Second)
		w.next("4", capable(4), 0)
		w.next("hush 12", nothingFor(1), time.Second)
		w.next("says a", says("a"), 0)
		w.next("7", capable(7), 0)
		w.expire()
	})
}

// TestCapabilitiesReachTheAgent: an answer with the first ones yields only to one that has
// some, too.
func TestCapabilitiesReachTheAgent(t *testing.T) {
	inBubble(t, telling, func(w *world) {
		w.hears(w.poll(1, "hush 11"), nothingFor(1), time.Second)
		w.next("says a", capable(11), 0)
		w.next("3", says("a"), 0)
		w.next("stay", capable(3), time.Second)
		w.next("says b", says("b"), 0)
		w.expire()
	})
}

// TestUndeliveredEmptyAnswerYields: to the one of the next poll.
func TestUndeliveredEmptyAnswerYields(t *testing.T) {
	inBubble(t, telling, func(w *world) {
		w.hears(w.poll(1, "1"), capable(1), 0)
		p := w.poll(1, "2")
		p.Deliver = func(mem.BufferSlice) error { return errors.New("broken pipe") }
		_ = w.table.Post(w.t.Context(), p)
		w.next("3", capable(3), 0)
		w.next("hush 11", nothingFor(1), time.Second)
		time.Sleep(Interval)
		p = w.poll(1, "stay")
		p.Deliver = func(mem.BufferSlice) error { return errors.New("broken pipe") }
		_ = w.table.Post(w.t.Context(), p) // it has waited for a second, and the call waits for the next reply
		w.next("6", capable(6), 0)
		w.next("7", capable(7), 0)
		w.expire()
	})
}

// TestEmptyAnswersOfAnEndedCall: they yield to what waits behind them, and to the answer of
// the next call.
func TestEmptyAnswersOfAnEndedCall(t *testing.T) {
	calls := 0
	inBubble(t, func(s *stream) *status.Status {
		if calls++; calls > 1 {
			return telling(s)
		}
		s.recv()
		for _, reply := range []string{capable(1), capable(2), says("a"), capable(3), capable(4)} {
			_ = s.send(reply)
		}
		return ok
	}, func(w *world) {
		w.hears(w.poll(1, "hello"), capable(2), 0) // the capabilities were not known
		w.next("says b", says("a"), 0)
		w.next("2", says("b"), 0)
		w.next("3", capable(3), 0)
		w.expire()
	})
}
