// Package relay is a TCP relay between two real processes that cuts the
// connections through it: all at a moment, or each at a byte. It also stands still, slows
// down, swallows bytes and refuses connections: see trouble.go.
package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// A Fate is what becomes of one relayed connection. The zero Fate: nothing.
type Fate struct {
	// The connection is cut on both sides once so many bytes went from the
	// client, or to it. 0: never.
	AfterUp, AfterDown int64
	// Reset cuts with RST, else with FIN.
	Reset bool
	// Delay is how late bytes arrive, each way. Such a connection isn't cut at a byte.
	Delay time.Duration
	// Troubled connections obey Stall, Slow and Swallow. They are cut at no byte and not late.
	Troubled bool
}

// A Relay accepts connections and carries each to its target.
type Relay struct {
	address string
	target  string
	fate    func(n int) Fate
	work    sync.WaitGroup

	mu      sync.Mutex
	ln      net.Listener
	pairs   map[*pair]bool
	total   int
	closed  bool
	trouble trouble
	refuses bool
	changed sync.Cond // trouble, or a pair's fate
}

// New starts a relay to target. fate says what becomes of the connection number
// n, counted from 0; nil: nothing. Close it after use.
func New(target string, fate func(n int) Fate) (*Relay, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if fate == nil {
		fate = func(int) Fate { return Fate{} }
	}
	r := &Relay{address: ln.Addr().String(), ln: ln, target: target, fate: fate, pairs: map[*pair]bool{}}
	r.changed.L = &r.mu
	r.work.Go(func() { r.accept(ln) })
	return r, nil
}

// Addr is where the relay listens.
func (r *Relay) Addr() string { return r.address }

// Cut cuts every connection there is, with RST or FIN, and returns their number.
func (r *Relay) Cut(reset bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		p.gone = true
		p.cut(reset)
	}
	r.changed.Broadcast()
	return len(r.pairs)
}

// Close cuts every connection and waits until nothing is left.
func (r *Relay) Close() {
	r.mu.Lock()
	_ = r.ln.Close() // closed if it refuses
	r.closed = true
	r.mu.Unlock()
	r.Cut(false)
	r.work.Wait()
}

func (r *Relay) accept(ln net.Listener) {
	for {
		client, err := ln.Accept()
		if err != nil {
			return // closed
		}
		server, err := net.Dial("tcp", r.target)
		if err != nil {
			p := &pair{client: client.(*net.TCPConn)}
			p.cut(true) // as a host without that port does
			continue
		}
		r.mu.Lock()
		p := &pair{client: client.(*net.TCPConn), server: server.(*net.TCPConn), fate: r.fate(r.total), swallowed: r.trouble == swallowing}
		r.total++
		r.pairs[p] = true
		if r.closed {
			p.cut(false)
		}
		r.mu.Unlock()
		r.work.Go(func() { r.carry(p) })
	}
}

func (r *Relay) carry(p *pair) {
	var up sync.WaitGroup
	if p.fate.Troubled {
		up.Go(func() { r.pass(p, p.server, p.client) })
		r.pass(p, p.client, p.server)
	} else {
		up.Go(func() { p.copy(p.server, p.client, p.fate.AfterUp) })
		p.copy(p.client, p.server, p.fate.AfterDown)
	}
	up.Wait()
	p.cut(false)
	r.mu.Lock()
	delete(r.pairs, p)
	r.mu.Unlock()
}

// A pair is one connection with its two halves.
type pair struct {
	client, server *net.TCPConn
	fate           Fate

	// The Relay's mu guards these.
	swallowed bool // for good
	gone      bool // cut
}

// copy carries bytes one way until they end or limit is reached. The end of one
// direction is passed on; an error or the limit cuts both.
func (p *pair) copy(to, from *net.TCPConn, limit int64) {
	if p.fate.Delay > 0 {
		if err := p.copyLate(to, from); err != nil {
			p.cut(true)
			return
		}
	} else if limit > 0 {
		_, err := io.CopyN(to, from, limit)
		if err == nil {
			p.cut(p.fate.Reset)
			return
		}
		if !errors.Is(err, io.EOF) {
			p.cut(true)
			return
		}
	} else if _, err := io.Copy(to, from); err != nil {
		p.cut(true)
		return
	}
	_ = to.CloseWrite() // closed by then if the other direction was cut
}

// copyLate carries bytes one way, each Delay after it came.
func (p *pair) copyLate(to, from *net.TCPConn) error {
	type parcel struct {
		bytes []byte
		due   time.Time
	}
	parcels := make(chan parcel, 64) // under way
	var readErr error
	go func() { // ends with from, and closes parcels
		defer close(parcels)
		for {
			b := make([]byte, 4<<10)
			n, err := from.Read(b)
			if n > 0 {
				parcels <- parcel{b[:n], time.Now().Add(p.fate.Delay)}
			}
			if err != nil {
				readErr = err
				return
			}
		}
	}()
	var err error
	for parcel := range parcels {
		if err != nil {
			continue // until the cut ends from, too
		}
		<-time.After(time.Until(parcel.due))
		if _, err = to.Write(parcel.bytes); err != nil {
			p.cut(true)
		}
	}
	if err == nil && !errors.Is(readErr, io.EOF) {
		err = readErr
	}
	return err
}

// cut may be called at any time, by anyone. Only its first call counts: a closed
// connection's errors say nothing.
func (p *pair) cut(reset bool) {
	for _, c := range []*net.TCPConn{p.client, p.server} {
		if c == nil {
			continue
		}
		if reset {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
	}
}
