package opamp

// A state is what the two sides of a session are doing. Messages and replies are not in it.
type state struct {
	requests, replies loop // the call's side
	agent             visit
}

// A loop is what one of the call's two copying loops is doing.
//
//	unopened ── the call opens ──► parked ── there is something to do ──► copying
//	copying ── nothing is left to do ──► parked
//
// The loop of the replies then copies until it has ended the call. That of the requests ends
// in one of two more ways, unless it fails:
//
//	copying ── the agent's last message is taken ──► halfClosed
//	copying, halfClosed ── a message comes back ──► refusing
type loop int

const (
	unopened   loop = iota // the call isn't open yet
	parked                 // it has no goroutine
	copying                // it has one, or has ended
	halfClosed             // it copies the agent's last message, or has: the half-close follows
	refusing               // the call has ended at the backend, and takes no more messages
)

// A visit is what a poll of the agent is waiting for.
//
//	away ── a poll leaves its message ──► waits or seeks, and back when there is news or no time
//	waits ◄── a reply comes, which yields to the next one or doesn't ──► seeks
//	away ── the poll takes a reply ──► fetches ── it is sent, or lost ──► away
type visit int

const (
	away    visit = iota // for nothing, or there is none
	waits                // for a reply
	seeks                // for a reply that the only one here yields to
	fetches              // for its client to take the oldest reply
)

func (s *state) asks() bool { return s.agent == waits || s.agent == seeks }

// await begins or continues the wait of a poll for a reply. yields: the only one here yields
// to it.
func (s *state) await(yields bool) {
	s.agent = waits
	if yields {
		s.agent = seeks
	}
}

// ending reports whether the end of the call is near, so that replies come without a poll.
func (s *state) ending() bool { return s.requests >= halfClosed }

// begin lets the loops copy that have something to do, and returns which. message: one is
// there to be taken; replies: so many are there; over: the call's context has ended.
func (s *state) begin(message bool, replies int, over bool) (requests, answers bool) {
	if s.requests == parked && message {
		s.requests, requests = copying, true
	}
	if s.replies == parked && (s.ending() || over || s.agent == seeks || s.agent == waits && replies == 0) {
		s.replies, answers = copying, true
	}
	return requests, answers
}

// park ends a loop's goroutine. More may come for it, unless it is the last that it copies.
func (l *loop) park() {
	if *l == copying {
		*l = parked
	}
}
