package opamp

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// Options bound the sessions of a Table. All are required.
type Options struct {
	Sessions func() int    // how many there may be at once; it may change
	Key      string        // the configuration key that sets Sessions
	Expiry   time.Duration // a session ends when no poll came for so long
	Patience time.Duration // how long a poll waits for a reply, and for the poll before it
}

// Interval is how often an agent polls that has nothing to say.
// https://opentelemetry.io/docs/specs/opamp/#plain-http-transport
const Interval = 30 * time.Second

// Retry is how soon a refused agent may come again: the least that OpAMP recommends.
// https://opentelemetry.io/docs/specs/opamp/#throttling
const Retry = 30 * time.Second

// DefaultOptions returns the options of OpAMP's defaults, for this many sessions.
func DefaultOptions(sessions func() int, key string) Options {
	return Options{Sessions: sessions, Key: key, Expiry: 3 * Interval, Patience: time.Second}
}

// A Table has the sessions of agents that poll. Its methods may be called concurrently.
type Table struct {
	options Options

	mu       sync.Mutex // guards the sessions, too
	sessions map[key]*Session
	count    int // of sessions whose call hasn't ended
	idle     list
	timer    *time.Timer // ends idle sessions; nil: none is idle
	expiring sync.WaitGroup
	closed   error // why there are no sessions any more; nil: there are
}

// A key finds a session.
type key struct {
	scope string
	uid   codec.OpAMPUID
}

// NewTable returns a table without sessions.
func NewTable(o Options) *Table {
	return &Table{options: o, sessions: make(map[key]*Session)}
}

// An Owner stands for the credentials that came with a session's first poll. It keeps
// none of them.
type Owner [sha256.Size]byte

// NewOwner returns the owner with these credentials, in this order.
func NewOwner(credentials ...string) (o Owner) {
	h := sha256.New()
	for _, c := range credentials {
		_ = binary.Write(h, binary.BigEndian, uint64(len(c))) // a hash takes everything
		h.Write([]byte(c))
	}
	h.Sum(o[:0])
	return o
}

// A Poll is one request of an agent. All fields are required.
type Poll struct {
	Scope   string // sessions of different scopes have nothing in common
	Agent   codec.AgentToServer
	Owner   Owner
	Message mem.BufferSlice // Post takes it over
	Held    *memory.Entry   // of the call that Start starts

	// Start starts the call whose client is s, on a goroutine of its own. The call
	// calls s.Finish in the end. If Start returns an error, there is no call.
	Start func(s *Session) error

	// Deliver sends the agent the reply, which stays the caller's. If it returns an
	// error, the next poll gets the reply.
	Deliver func(reply mem.BufferSlice) error
}

// CheckHeader returns why a poll's header OpAMP-Instance-UID, which agents may leave out,
// doesn't go with its message.
func CheckHeader(header string, a codec.AgentToServer) error {
	if header == "" {
		return nil
	}
	u, err := codec.ParseOpAMPUID(header)
	switch {
	case err != nil:
		return report.New(report.ReasonBadRequest, "the header opamp-instance-uid isn't a UUID")
	case u != a.UID:
		return report.Newf(report.ReasonBadRequest, "the header opamp-instance-uid is %v, and the message's instance_uid is %v", u, a.UID)
	default:
		return nil
	}
}

func (t *Table) errFull(limit int) error {
	f := report.Newf(report.ReasonOverloaded, "%d agents poll here already (%s)", limit, t.options.Key)
	f.Limit, f.Remedy, f.Retry = t.options.Key, "try again later, or raise "+t.options.Key, Retry
	return f
}

func errForeign(expiry time.Duration) error {
	f := report.New(report.ReasonPermissionDenied, "another client polls with this instance id: its credentials differ from this poll's")
	f.Remedy = "give each agent an instance id of its own; the other client's session ends " + expiry.String() + " after its last poll"
	return f
}

func errBusy() error {
	f := report.New(report.ReasonLimitExceeded, "another poll with this instance id isn't answered yet")
	f.Remedy = "send one poll at a time, and give each agent an instance id of its own"
	f.Retry = report.AnyMoment
	return f
}

func errBlocked(patience time.Duration) error {
	f := report.Newf(report.ReasonOverloaded, "the backend took no message of this agent for %v", patience)
	f.Remedy, f.Sent, f.Retry = "try again later; check why the backend's method doesn't read", report.SentNo, Retry
	return f
}

// find returns the session for a poll, or nil. A poll with the id that a reply has given
// the agent settles that the agent has it. The caller holds mu.
func (t *Table) find(k key, owner Owner) (*Session, error) {
	s := t.sessions[k]
	if s == nil {
		return nil, nil
	}
	if s.owner != owner {
		return nil, errForeign(t.options.Expiry)
	}
	if k == s.renamed {
		delete(t.sessions, s.key)
		s.key, s.renamed = k, key{}
	}
	return s, nil
}

// add makes a session. It takes the place of one whose call takes no messages any more,
// with the replies that are left there, and a message that the call got too late. The caller holds mu.
func (t *Table) add(k key, p *Poll, before *Session) (*Session, error) {
	limit := t.options.Sessions()
	switch {
	case t.closed != nil:
		return nil, t.closed
	case t.count >= limit && (before == nil || before.end == nil):
		return nil, t.errFull(limit)
	}
	s := &Session{table: t, key: k, owner: p.Owner, held: p.Held}
	s.changed.L = &t.mu
	if before != nil {
		t.remove(before)
		for len(before.replies) > 0 {
			s.push(before.pop())
		}
		s.first, before.first = before.first, nil
		before.changed.Broadcast() // its Finish waits for that
	}
	t.sessions[k] = s
	t.count++
	return s, nil
}

// remove forgets the session's ids. The caller holds mu.
func (t *Table) remove(s *Session) {
	for _, k := range [...]key{s.key, s.renamed} {
		if t.sessions[k] == s {
			delete(t.sessions, k)
		}
	}
	t.idle.remove(s)
}

// rename lets the session be found by the id that a reply gives the agent, too: the
// agent has the id only once the reply has arrived. An id that another session has
// stays that session's. The caller holds mu.
func (t *Table) rename(s *Session, reply mem.BufferSlice) {
	u, given := codec.NewOpAMPUID(reply)
	k := key{s.key.scope, u}
	if !given || k == s.key || t.sessions[k] != nil {
		return
	}
	delete(t.sessions, s.renamed)
	s.renamed = k
	t.sessions[k] = s
}

// Sessions returns how many sessions have a call.
func (t *Table) Sessions() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}
