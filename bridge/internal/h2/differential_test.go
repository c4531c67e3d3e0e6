package h2

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/internal/parts/differential"
)

// TestDifferential compares what culvert's server and net/http's make of the same frames.
// culvert must not deliver what the other refuses, but for differences that are looser.
func TestDifferential(t *testing.T) { compareSequences(t, 500) }

// TestDifferentialForLong does it with many more.
func TestDifferentialForLong(t *testing.T) { compareSequences(t, 10_000) }

func compareSequences(t *testing.T, n int) {
	var table []differential.Difference
	for _, d := range differences {
		table = append(table, differential.Difference{Name: d.name, RFC: d.rfc, Why: d.why})
	}
	differential.Run(t, n, table, func(t *testing.T, seed uint64) differential.Verdict {
		s := newSequence(seed)
		steps := s.steps()
		ours := playWith(t, s, steps, func(hs *http.Server) { Configure(hs, Hooks{}) })
		theirs := playWith(t, s, steps, func(*http.Server) {})
		v := differential.Verdict{Sequence: s.String()}
		v.Known, v.Fault = explain(steps, ours, theirs)
		if v.Fault == "" && s.hold {
			v.Fault = sameInPieces(t, s, seed, steps, ours)
		}
		return v
	})
}

// sameInPieces returns what culvert does otherwise if the bytes arrive in pieces of any
// size instead of frame by frame. It leaves out the sequences in which that may be.
func sameInPieces(t *testing.T, s *sequence, seed uint64, steps []step, want play) (fault string) {
	for _, st := range steps {
		switch {
		case st.h.kind == http2.FrameGoAway: // pings are answered between its frames
			return ""
		case slices.Contains(st.values(":path"), "*"): // net/http's own handler doesn't wait
			return ""
		}
	}
	all := slices.Concat(want.steps...)
	requests := make(map[uint32]int)
	for _, e := range all {
		if e.side == handlerSide && strings.HasPrefix(e.text, "request ") {
			requests[e.stream]++
		}
		switch {
		case strings.Contains(e.text, ":status: 431"): // net/http's own handler doesn't wait
			return ""
		case e.stream == noStream, requests[e.stream] > 1: // two can't be told apart, and race
			return ""
		}
	}
	dice := rand.New(rand.NewPCG(seed, 1))
	got := playWith(t, s, pieces(dice, s.in), func(hs *http.Server) { Configure(hs, Hooks{}) })
	a, b := fmt.Sprint(ordered(slices.Concat(got.steps...))), fmt.Sprint(ordered(all))
	if a != b || got.fault != "" {
		return fmt.Sprintf("in pieces culvert does\n\t%s\nand frame by frame\n\t%s\n%s", a, b, got.fault)
	}
	return ""
}

// pieces cuts the bytes anywhere.
func pieces(dice *rand.Rand, in []byte) []step {
	var list []step
	for len(in) > 0 {
		n := 1 + dice.IntN(len(in))
		list = append(list, step{bytes: in[:n], open: true})
		in = in[n:]
	}
	return list
}

// A difference explains what culvert does otherwise than net/http in one step. Each
// pattern matches the lines that only one of the two has: those of the step's stream and
// the connection, or those of another stream. S is the stream.
type difference struct {
	name     string
	rfc      string
	why      string
	when     func(c *comparison, st step) bool // nil: in any step, and of any stream
	anywhere bool                              // when holds for other streams, too
	ours     string
	theirs   string
	then     then
	looser   bool // culvert may go on where net/http doesn't, and may deliver more
}

// then is what the comparison goes on with after a difference.
type then int

const (
	all      then = iota // everything: both servers are in the same state
	others               // the other streams, and that culvert delivers no more of this one
	nothing              // that culvert delivers no more: one of the connections is over
	blockEnd             // that culvert refuses the header block once it is whole
)

// A comparison of two plays goes step by step.
type comparison struct {
	ours, theirs play
	apart        map[uint32]*difference // streams whose states differ
	reset        map[uint32]bool        // streams that culvert reset
	declared     map[uint32]int64       // content-lengths
	got          map[uint32]int64       // content
	ended        bool                   // both connections are over, or culvert's
	blockEnds    bool                   // culvert has to refuse the header block once it is whole
	saidGoodbye  bool                   // the client has sent GOAWAY
	known        []string
}

// explain returns the differences that explain what differs, or what none explains.
func explain(steps []step, ours, theirs play) (known []string, fault string) {
	if f := ours.fault + theirs.fault; f != "" {
		return nil, f
	}
	c := &comparison{ours: ours, theirs: theirs, apart: make(map[uint32]*difference), reset: make(map[uint32]bool), declared: make(map[uint32]int64), got: make(map[uint32]int64)}
	for i, st := range append(steps[:len(steps):len(steps)], step{}) {
		over, fault := c.step(i, st)
		if fault != "" {
			return c.known, fmt.Sprintf("in step %d %s\nafter known differences %q", i, fault, c.known)
		}
		if over {
			return c.known, ""
		}
	}
	return c.known, c.deliveries()
}

// step compares one step. It returns whether nothing more is to be compared.
func (c *comparison) step(i int, st step) (over bool, fault string) {
	ours, theirs := c.ours.steps[i], c.theirs.steps[i]
	own := st.h.stream
	if c.blockEnds {
		if st.whole && st.open {
			return false, ""
		}
		if delivers(c.lines(ours, own, true)) {
			return true, "culvert takes a header block that net/http refuses"
		}
		return true, ""
	}
	bothFailed := failed(ours) && failed(theirs)
	c.saidGoodbye = c.saidGoodbye || st.h.kind == http2.FrameGoAway
	c.got[own] += st.content()
	if list := st.values("content-length"); len(list) > 0 && c.got[own] == 0 {
		c.declared[own], _ = strconv.ParseInt(list[0], 10, 64) // such a request is refused
	}
	for _, id := range streamsOf(own, ours, theirs) {
		a, b := c.lines(ours, id, id == own), c.lines(theirs, id, id == own)
		if bothFailed { // when the streams end is no difference
			broken := func(line string) bool { return line == brokenBody }
			a, b = slices.DeleteFunc(a, broken), slices.DeleteFunc(b, broken)
		}
		a, b = without(a, b), without(b, a)
		if !c.ended {
			b = c.peel(b)
		}
		c.ended = c.ended || bothFailed && id != own
		if c.ended {
			continue // deliveries compares the rest
		}
		if len(a) == 0 && len(b) == 0 {
			continue
		}
		d := c.find(st, id == own, a, b)
		if d == nil {
			return true, fmt.Sprintf("(%v, stream %d) of stream %d culvert\n\t%s\nand net/http\n\t%s", st.h.kind, own, id, strings.Join(a, "\n\t"), strings.Join(b, "\n\t"))
		}
		c.known = append(c.known, d.name)
		switch d.then {
		case all:
		case others:
			if c.apart[id] == nil {
				c.apart[id] = d
			}
		case nothing:
			if d.looser {
				return true, ""
			}
			c.ended = true
		case blockEnd:
			c.blockEnds = true
		}
	}
	c.ended = c.ended || bothFailed
	for _, e := range ours {
		if e.side == wireSide && strings.HasPrefix(e.text, "RST_STREAM ") {
			c.reset[e.stream] = true
		}
	}
	return false, ""
}

// peel removes lines that only net/http has and that change no state.
func (c *comparison) peel(theirs []string) []string {
	return slices.DeleteFunc(theirs, func(line string) bool {
		for _, d := range differences {
			if d.then == all && d.ours == "" && d.when == nil && differential.Matches(d.theirs, line) {
				c.known = append(c.known, d.name)
				return true
			}
		}
		return false
	})
}

// deliveries compares all that reached the handler of each stream. Culvert may deliver
// a part of what net/http does, and nothing else.
func (c *comparison) deliveries() (fault string) {
	ours, theirs := c.ours.deliveries(), c.theirs.deliveries()
	for id, a := range ours {
		b := theirs[id]
		if d := c.apart[id]; d != nil && d.looser || id == noStream && len(c.apart) > 0 {
			continue
		}
		if len(without(a.lines, b.lines)) > 0 || !strings.HasPrefix(b.body, a.body) {
			fault += fmt.Sprintf("\nof stream %d culvert delivered %q %q, and net/http %q %q", id, a.lines, a.body, b.lines, b.body)
		}
	}
	return fault
}

// delivered is all that reached a stream's handler.
type delivered struct {
	lines []string // requests, and ends that are whole
	body  string
}

func (p *play) deliveries() map[uint32]delivered {
	by := make(map[uint32]delivered)
	for _, e := range slices.Concat(p.steps...) {
		d := by[e.stream]
		switch {
		case e.side != handlerSide || e.String() == brokenBody:
			continue
		case e.bytes:
			d.body += e.text
		default:
			d.lines = append(d.lines, e.text)
		}
		by[e.stream] = d
	}
	return by
}

func (c *comparison) find(st step, own bool, ours, theirs []string) *difference {
	for i, d := range differences {
		if delivers(ours) && !d.looser || d.when != nil && (!own && !d.anywhere || !d.when(c, st)) {
			continue
		}
		if differential.Matches(d.ours, strings.Join(ours, "\n")) && differential.Matches(d.theirs, strings.Join(theirs, "\n")) {
			return &differences[i]
		}
	}
	return nil
}

// delivers reports whether a request, content or its end reached a handler.
func delivers(lines []string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, "S delivers: ") && line != brokenBody || strings.HasPrefix(line, "connection delivers: ")
	})
}

const brokenBody = "S delivers: a broken body"

// failed reports whether an error ended the connection.
func failed(events []event) bool {
	return slices.ContainsFunc(events, func(e event) bool {
		return e.side == wireSide && strings.HasPrefix(e.text, "GOAWAY ") && e.text != "GOAWAY NO_ERROR"
	})
}

// streamsOf returns the step's stream, with which the connection is, and then the others.
func streamsOf(own uint32, a, b []event) []uint32 {
	var ids []uint32
	for _, e := range slices.Concat(a, b) {
		if e.stream != own && e.stream != 0 && e.stream != noStream {
			ids = append(ids, e.stream)
		}
	}
	slices.Sort(ids)
	return append([]uint32{own}, slices.Compact(ids)...)
}

// lines are what happened to a stream, unless its state differs. With the step's stream
// are the connection, and a request that doesn't say its stream.
func (c *comparison) lines(events []event, id uint32, own bool) []string {
	var handler, wire, conn []string
	for _, e := range events {
		switch {
		case e.stream == 0 && own && e.side == wireSide:
			conn = append(conn, e.String())
		case e.stream != id && !(own && e.stream == noStream && len(c.apart) == 0) || c.apart[id] != nil || e.stream == 0:
		case e.side == wireSide:
			wire = append(wire, e.String())
		case e.stream == id || e.String() != brokenBody:
			handler = append(handler, e.String())
		}
	}
	return slices.Concat(handler, wire, conn)
}

// without is a without the lines that b has, too.
func without(a, b []string) []string {
	b = slices.Clone(b)
	return slices.DeleteFunc(slices.Clone(a), func(line string) bool {
		at := slices.Index(b, line)
		if at < 0 {
			return false
		}
		b = slices.Delete(b, at, at+1)
		return true
	})
}
