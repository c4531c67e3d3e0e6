package h2

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A play is what a server did with a sequence.
type play struct {
	steps [][]event // one more than the sequence has: when all is sent
	fault string    // what no server may do
}

// An event is a line of what happened. What a handler saw and what the client was sent
// are in order for each stream, and not for one beside the other.
type event struct {
	stream uint32 // S in a line; 0: the connection
	side   side
	bytes  bool // text is what of a body came; all of one step is joined
	text   string
}

type side byte

const (
	handlerSide side = iota // what reached the handler
	wireSide                // what the client was sent
)

func (e event) String() string {
	who := "S"
	if e.stream == 0 {
		who = "connection"
	}
	if e.side == handlerSide {
		who += " delivers"
	}
	switch {
	case !e.bytes:
		return who + ": " + e.text
	case len(e.text) > 100:
		return fmt.Sprintf("%s: %d bytes of hash %x", who, len(e.text), sha256.Sum256([]byte(e.text)))
	}
	return fmt.Sprintf("%s: %q", who, e.text)
}

// ordered puts the events of one step in order, and joins what came in parts.
func ordered(events []event) []event {
	slices.SortStableFunc(events, func(a, b event) int {
		if a.stream != b.stream {
			return cmp.Compare(a.stream, b.stream)
		}
		return cmp.Compare(a.side, b.side)
	})
	var list []event
	for _, e := range events {
		if n := len(list) - 1; n >= 0 && e.bytes && list[n].bytes && list[n].stream == e.stream && list[n].side == e.side {
			list[n].text += e.text
			continue
		}
		list = append(list, e)
	}
	return list
}

// A player is a client of one connection, and the server's handlers.
type player struct {
	conn net.Conn
	dec  *hpack.Decoder

	mu      sync.Mutex
	events  []event
	pings   [][8]byte // to be answered
	block   []byte    // of the header that the server sends
	blockOf http2.FrameHeader
	goAway  string          // the last of a step
	taken   uint32          // culvert's last stream that reached a handler
	held    []chan struct{} // handlers that wait, in the order in which they began
	running int
}

// settle is how long everything that follows from a frame may take: culvert's answers to
// pings wait for 5 ms. The clock stands while anybody has something to do.
const settle = 10 * time.Millisecond

// atRest is how long what has begun may take: GOAWAY before the connection is closed, a
// missing SETTINGS frame, an answer whose request goes on.
const atRest = 7 * time.Second

// playWith plays a sequence to a server, which configure may change.
func playWith(t *testing.T, s *sequence, steps []step, configure func(*http.Server)) (p play) {
	synctest.Test(t, func(*testing.T) {
		c := &player{dec: hpack.NewDecoder(headerTableBytes, nil)}
		hs := newHTTPServer(c.handler(s.hold))
		hs.HTTP2.MaxConcurrentStreams = maxStreams
		hs.HTTP2.MaxReadFrameSize = maxFrameBytes
		hs.MaxHeaderBytes = maxHeader
		configure(hs)
		pipes := newPipes()
		var goroutines sync.WaitGroup
		goroutines.Go(func() { _ = hs.Serve(pipes) }) // ends with Close
		c.conn = pipes.dial()
		goroutines.Go(c.read)
		for _, st := range steps {
			c.send(st.bytes)
			p.steps = append(p.steps, c.settle(!st.open))
		}
		var rest []event
		for c.release() {
			rest = append(rest, c.settle(true)...)
		}
		time.Sleep(atRest)
		p.steps = append(p.steps, ordered(append(rest, c.settle(true)...)))
		_ = c.conn.Close() // the server may have
		_ = hs.Close()     // nor is its listener needed any more
		synctest.Wait()
		for c.release() {
			synctest.Wait()
		}
		goroutines.Wait()
		time.Sleep(time.Second) // net/http lets connections linger
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.running > 0 {
			p.fault = fmt.Sprintf("%d handlers run after the connection's end", c.running)
		}
	})
	return p
}

// send writes bytes, unless the server reads no more.
func (c *player) send(b []byte) {
	_ = c.conn.SetWriteDeadline(time.Now().Add(time.Millisecond)) // never fails
	_, _ = c.conn.Write(b)                                        // how it ended is seen
}

// settle waits until nothing more happens, and returns what happened. Pings are answered
// where the client may send a frame.
func (c *player) settle(mayAnswer bool) []event {
	for {
		time.Sleep(settle)
		synctest.Wait()
		c.mu.Lock()
		pings := c.pings
		if mayAnswer {
			c.pings = nil
		}
		c.mu.Unlock()
		if !mayAnswer || len(pings) == 0 {
			break
		}
		for _, data := range pings {
			c.send(appendPing(nil, true, data))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goAway != "" {
		c.events = append(c.events, event{side: wireSide, text: c.goAway})
	}
	list := ordered(c.events)
	c.events, c.goAway = nil, ""
	return list
}

func (c *player) note(stream uint32, side side, format string, args ...any) {
	c.add(event{stream: stream, side: side, text: fmt.Sprintf(format, args...)})
}

func (c *player) add(e event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
}

// read takes in what the server sends.
func (c *player) read() {
	framer := http2.NewFramer(io.Discard, c.conn)
	framer.SetMaxReadFrameSize(1 << 20)
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			c.note(0, wireSide, "closed")
			return
		}
		c.take(f)
	}
}

func (c *player) take(f http2.Frame) {
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.PingFrame:
		if f.IsAck() {
			c.note(0, wireSide, "PING acknowledged %x", f.Data)
			return
		}
		c.mu.Lock()
		c.pings = append(c.pings, f.Data)
		c.mu.Unlock()
	case *http2.SettingsFrame:
		if f.IsAck() {
			c.note(0, wireSide, "SETTINGS acknowledged")
		}
	case *http2.GoAwayFrame:
		c.mu.Lock()
		c.goAway = "GOAWAY " + f.ErrCode.String()
		if f.LastStreamID < c.taken {
			c.goAway += ", which doesn't name a stream that was taken"
		}
		c.mu.Unlock()
	case *http2.HeadersFrame:
		c.block, c.blockOf = append([]byte(nil), f.HeaderBlockFragment()...), f.FrameHeader
		if f.HeadersEnded() {
			c.header()
		}
	case *http2.ContinuationFrame:
		c.block = append(c.block, f.HeaderBlockFragment()...)
		if f.HeadersEnded() {
			c.header()
		}
	case *http2.DataFrame:
		if len(f.Data()) > 0 {
			c.add(event{id, wireSide, true, string(f.Data())})
		}
		if f.StreamEnded() {
			c.note(id, wireSide, "end")
		}
	case *http2.RSTStreamFrame:
		c.note(id, wireSide, "RST_STREAM %v", f.ErrCode)
	case *http2.WindowUpdateFrame:
		// When windows are opened is the server's business.
	default:
		c.note(id, wireSide, "frame %v", f.Header())
	}
}

// header notes an answer's header or trailers.
func (c *player) header() {
	list, err := c.dec.DecodeFull(c.block)
	if err != nil {
		c.note(c.blockOf.StreamID, wireSide, "header block that can't be decoded: %v", err)
		return
	}
	var fields []string
	for _, f := range list {
		if f.Name != "date" {
			fields = append(fields, f.Name+": "+f.Value)
		}
	}
	slices.Sort(fields) // what comes first is no difference
	c.note(c.blockOf.StreamID, wireSide, "header %s", strings.Join(fields, ", "))
	if c.blockOf.Flags.Has(http2.FlagHeadersEndStream) {
		c.note(c.blockOf.StreamID, wireSide, "end")
	}
}

// The field by which a test's handler knows its stream, and the number of those that
// don't know it.
const (
	streamField = "X-Stream"
	noStream    = 1 << 31
)

// handler answers requests, of which the path says how; while hold is set only once
// release lets it.
func (c *player) handler(hold bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := uint32(noStream)
		if n, err := strconv.ParseUint(r.Header.Get(streamField), 10, 31); err == nil {
			id = uint32(n)
		}
		if hosts, ok := r.Header["Host"]; ok {
			c.note(id, handlerSide, "the field Host %q", hosts)
			delete(r.Header, "Host")
		}
		c.note(id, handlerSide, "%s", describe(r))
		held := make(chan struct{})
		c.mu.Lock()
		c.running++
		if ours, ok := w.(*response); ok {
			c.taken = max(c.taken, ours.st.id)
		}
		if hold {
			c.held = append(c.held, held)
		}
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.running--
		}()
		if hold {
			<-held
		}
		c.serve(w, r, id)
	}
}

// release lets the oldest handler go that waits.
func (c *player) release() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) == 0 {
		return false
	}
	close(c.held[0])
	c.held = c.held[1:]
	return true
}

func (c *player) serve(w http.ResponseWriter, r *http.Request, id uint32) {
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/plain") // else net/http guesses it
	_, how, _ := strings.Cut(r.URL.Path, "/how/")
	switch how, _, _ := strings.Cut(how, "/"); how {
	case "early":
		_, _ = io.WriteString(w, "early") // who is gone is seen
		return
	case "abort":
		panic(http.ErrAbortHandler)
	case "close":
		_ = r.Body.Close() // never fails
	case "first":
		_ = c.readBody(r, id, 1) // how it ends is noted
	case "echo":
		if r.Method != http.MethodHead { // else that would be the answer
			_ = rc.Flush() // as above
		}
		_ = c.readBody(r, id, -1) // as above
	default:
		if err := c.readBody(r, id, -1); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
	}
	_, size, _ := strings.Cut(how, "/")
	n, _ := strconv.Atoi(size) // 0: none
	_, _ = w.Write(bytes.Repeat([]byte("a"), min(n, 3000)))
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
}

// readBody reads so many pieces of the body, or all for -1.
func (c *player) readBody(r *http.Request, id uint32, pieces int) error {
	buf := make([]byte, 1<<10)
	for ; pieces != 0; pieces-- {
		n, err := r.Body.Read(buf)
		if n > 0 {
			c.add(event{id, handlerSide, true, string(buf[:n])})
		}
		switch {
		case errors.Is(err, io.EOF):
			c.note(id, handlerSide, "the body's end, trailers %v", r.Trailer)
			return nil
		case err != nil:
			c.note(id, handlerSide, "a broken body")
			return err
		}
	}
	return nil
}

// describe is all of a request that a handler can see.
func describe(r *http.Request) string {
	return fmt.Sprintf("request %s %q host %q url %q length %d trailers %v header %v", r.Method, r.RequestURI, r.Host, r.URL, r.ContentLength, r.Trailer, r.Header)
}
