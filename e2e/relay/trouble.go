package relay

import (
	"errors"
	"io"
	"net"
	"time"
)

// A trouble is what happens to the bytes of troubled connections.
type trouble int

const (
	none       trouble = iota
	stalling           // they wait
	slowing            // each parcel takes a while
	swallowing         // they are lost
)

const (
	parcelBytes = 4 << 10 // that pass at once
	parcelPause = 5 * time.Millisecond
)

// Stall lets no byte pass until Mend.
func (r *Relay) Stall() { r.begin(stalling) }

// Slow lets at most 800 KiB a second pass on each connection and direction until Mend.
func (r *Relay) Slow() { r.begin(slowing) }

// Swallow takes every byte of the connections that there are, and of those that come until Mend,
// and passes none on. Nor is an end passed on. Mend cuts them.
func (r *Relay) Swallow() { r.begin(swallowing) }

// Refuse cuts every connection with RST, and lets the system refuse further ones until Mend.
func (r *Relay) Refuse() {
	r.mu.Lock()
	r.refuses = true
	_ = r.ln.Close() // it is open
	r.mu.Unlock()
	r.Cut(true)
}

// Mend ends all of that.
func (r *Relay) Mend() error {
	r.begin(none)
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		if p.swallowed {
			p.gone = true
			p.cut(true)
		}
	}
	if !r.refuses {
		return nil
	}
	ln, err := net.Listen("tcp", r.address)
	if err != nil {
		return err
	}
	r.ln, r.refuses = ln, false
	r.work.Go(func() { r.accept(ln) })
	return nil
}

func (r *Relay) begin(t trouble) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble = t
	for p := range r.pairs {
		p.swallowed = p.swallowed || t == swallowing
	}
	r.changed.Broadcast()
}

// pass carries bytes one way, as the Relay's trouble has it.
func (r *Relay) pass(p *pair, to, from *net.TCPConn) {
	parcel := make([]byte, parcelBytes)
	for {
		n, err := from.Read(parcel)
		slow, swallowed := r.await(p)
		switch {
		case swallowed && err == nil:
			continue
		case swallowed:
			_ = from.Close() // the other side isn't told
			return
		case slow:
			<-time.After(parcelPause)
		}
		if _, failed := to.Write(parcel[:n]); failed != nil {
			p.cut(true)
			return
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = to.CloseWrite() // closed by then if the other direction was cut
			return
		case err != nil:
			p.cut(true)
			return
		}
	}
}

// await waits while the Relay stalls, and returns what happens to what was read.
func (r *Relay) await(p *pair) (slow, swallowed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.trouble == stalling && !p.swallowed && !p.gone {
		r.changed.Wait()
	}
	return r.trouble == slowing, p.swallowed
}
