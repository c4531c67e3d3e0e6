package opamp

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// Options bound the sessions of a Table. All but Panics are required.
type Options struct {
	Panics   *report.Panics // catches those of the timer
	Sessions func() int     // how many there may be at once, of all addresses; it may change
	Key      string         // the configuration key that sets Sessions
	Expiry   time.Duration  // a session ends when no poll came for so long
	Patience time.Duration  // how long a poll waits for a reply, and for the poll before it
}

// Interval is how often an agent polls that has nothing to say.
// https://opentelemetry.io/docs/specs/opamp/#plain-http-transport
const Interval = 30 * time.Second

// Retry is how soon a refused agent may come again: the least that OpAMP recommends.
// https://opentelemetry.io/docs/specs/opamp/#throttling
const Retry = 30 * time.Second

// DefaultOptions returns the options of OpAMP's defaults, for this many sessions.
func DefaultOptions(panics *report.Panics, sessions func() int, key string) Options {
	return Options{Panics: panics, Sessions: sessions, Key: key, Expiry: 3 * Interval, Patience: time.Second}
}

// A Table has the sessions of agents that poll. Its methods may be called concurrently.
type Table struct {
	options Options

	mu       sync.Mutex // guards the sessions, too
	sessions map[key]*Session
	idle     list        // the sessions without a poll, the one that has waited longest first
	timer    *time.Timer // ends idle sessions; nil: none is idle
	expiring sync.WaitGroup
	closed   error // why there are no sessions any more; nil: there are

	count     int                 // of sessions
	addresses map[uint64]*address // of these
	most      addresses           // the same
}

// A key finds a session. An agent whose credentials change has another key: culvert can't
// tell it from another client that uses its id.
type key struct {
	scope string
	owner Owner
	uid   codec.OpAMPUID
}

// NewTable returns a table without sessions.
func NewTable(o Options) *Table {
	return &Table{
		options: o, sessions: make(map[key]*Session), addresses: make(map[uint64]*address),
		idle: list{of: func(s *Session) *links { return &s.unasked }},
	}
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
	Address uint64 // of the client; sessions count by it, and it may change
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

// find returns the session for a poll, or nil. A poll with the id that a reply has given
// the agent settles that the agent has it. The caller holds mu.
func (t *Table) find(k key) *Session {
	s := t.sessions[k]
	if s != nil && k == s.renamed {
		delete(t.sessions, s.key)
		s.key, s.renamed = k, key{}
	}
	return s
}

// add makes a session. It takes the place of before, whose call takes no messages any more,
// with the replies that are left there, and a message that the call got too late. Without
// before, it may take the place of a session that is displaced. The caller holds mu, and
// calls leave of both afterwards.
func (t *Table) add(k key, p *Poll, before *Session) (s, displaced *Session, err error) {
	if t.closed != nil {
		return nil, nil, t.closed
	}
	if before == nil {
		if displaced, err = t.makeRoom(p.Address); err != nil {
			return nil, nil, err
		}
	}
	s = &Session{table: t, key: k, held: p.Held}
	s.changed.L = &t.mu
	if before != nil {
		t.remove(before)
		for len(before.replies) > 0 {
			s.push(before.pop())
		}
		s.told = before.told
		s.first, before.first = before.first, nil
		before.changed.Broadcast() // its Finish waits for that
	}
	t.sessions[k] = s
	t.enter(s, p.Address)
	return s, displaced, nil
}

// remove takes a session out of the table, if it is there. The caller holds mu.
func (t *Table) remove(s *Session) {
	for _, k := range [...]key{s.key, s.renamed} {
		if t.sessions[k] == s {
			delete(t.sessions, k)
		}
	}
	t.idle.remove(s)
	t.exit(s)
}

// rename lets the session be found by the id that a reply gives the agent, too: the
// agent has the id only once the reply has arrived. An id that another session has
// stays that session's. The caller holds mu.
func (t *Table) rename(s *Session, r reply) {
	k := key{s.key.scope, s.key.owner, r.of.NewUID}
	if s.address == nil { // it has left the table
		return
	}
	if k.uid == "" || k == s.key || t.sessions[k] != nil {
		return
	}
	delete(t.sessions, s.renamed)
	s.renamed = k
	t.sessions[k] = s
}

// Sessions returns how many sessions there are.
func (t *Table) Sessions() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}
