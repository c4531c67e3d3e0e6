package sequences

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
)

var (
	out   = flag.String("out", "", "the `file` to which the sequences and what net/http makes of them are written")
	count = flag.Int("count", 300, "how many sequences")
	seed  = flag.Uint64("seed", 0, "the first sequence's seed")
)

// A played sequence, as web's tests read it.
type played struct {
	Seed    uint64       `json:"seed"`
	Streams int          `json:"streams"`
	Steps   []playedStep `json:"steps"`
}

type playedStep struct {
	Bytes  string   `json:"bytes"` // hex
	Fault  string   `json:"fault,omitempty"`
	Events []string `json:"events"` // sorted
}

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http tells of frames that it ignores
	os.Exit(m.Run())
}

// TestSequences plays sequences to net/http's client, and writes what happened.
func TestSequences(t *testing.T) {
	var lines bytes.Buffer
	seen := map[string]int{}
	for i := range *count {
		s := newSequence(*seed + uint64(i))
		p := play(t, s)
		for _, st := range p.Steps {
			seen[st.Fault]++
		}
		line, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(line)
		lines.WriteByte('\n')
	}
	for _, f := range faults {
		if seen[f.name] == 0 && *count >= 1000 {
			t.Errorf("no sequence has the fault %q", f.name)
		}
	}
	if *out != "" {
		if err := os.WriteFile(*out, lines.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSequencesAreTheSame makes and plays some sequences twice.
func TestSequencesAreTheSame(t *testing.T) {
	for i := range uint64(100) {
		if a, b := fmt.Sprint(play(t, newSequence(i))), fmt.Sprint(play(t, newSequence(i))); a != b {
			t.Errorf("seed %d:\n%s\nand\n%s", i, a, b)
		}
	}
}

// A player is a server of one connection, and the client's callers.
type player struct {
	mu     sync.Mutex
	events []string
	bodies map[uint32][]byte // what came of them in this step
}

// play sends a sequence frame by frame.
func play(t *testing.T, s *sequence) (p played) {
	p.Seed, p.Streams = s.seed, len(s.streams)
	synctest.Test(t, func(t *testing.T) {
		pl := &player{events: []string{}, bodies: map[uint32][]byte{}}
		ours, theirs := net.Pipe()
		client := make(chan *http.ClientConn, 1)
		var goroutines sync.WaitGroup
		goroutines.Go(func() { pl.read(ours) })
		transport := newTransport(theirs)
		goroutines.Go(func() {
			cc, err := transport.NewClientConn(t.Context(), "http", "server.example:80")
			if err != nil {
				t.Error(err)
			}
			client <- cc
		})
		cc := <-client
		synctest.Wait()
		closed := false
		for i, st := range s.steps {
			if !closed {
				_, _ = ours.Write(st.bytes) // the client may close it
				synctest.Wait()
			}
			if i == 0 {
				for _, st := range s.streams {
					goroutines.Go(func() { pl.call(t.Context(), cc, st.id) })
					synctest.Wait()
				}
			}
			events := pl.settle()
			p.Steps = append(p.Steps, playedStep{Bytes: hex.EncodeToString(st.bytes), Fault: st.fault, Events: events})
			closed = closed || slices.Contains(events, "closed")
		}
		_ = ours.Close()
		synctest.Wait()
		p.Steps = append(p.Steps, playedStep{Events: slices.DeleteFunc(pl.settle(), func(e string) bool { return e == "closed" })})
		_ = cc.Close() // the server has
		goroutines.Wait()
	})
	return p
}

func newTransport(conn net.Conn) *http.Transport {
	tr := &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		Protocols:          new(http.Protocols),
		DisableCompression: true,
		// As src/h2 has it.
		HTTP2: &http.HTTP2Config{
			MaxReadFrameSize: 16384, MaxDecoderHeaderTableSize: 4096,
			MaxReceiveBufferPerStream: 256 << 10, MaxReceiveBufferPerConnection: 1 << 20,
		},
	}
	tr.Protocols.SetUnencryptedHTTP2(true)
	return tr
}

func (p *player) note(format string, args ...interface{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, fmt.Sprintf(format, args...))
}

// broken notes the end of a stream, and the code of a connection error, which net/http's
// client doesn't send: it closes the connection before its GOAWAY leaves.
func (p *player) broken(id uint32, err error) {
	if _, name, ok := strings.Cut(err.Error(), "connection error: "); ok {
		for code := range http2.ErrCode(14) {
			if name == code.String() {
				p.note("GOAWAY %d", code)
			}
		}
	}
	p.note("%d error", id)
}

// settle returns what happened in a step, once nothing more does.
func (p *player) settle() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, b := range p.bodies {
		sum := fnv.New32a()
		_, _ = sum.Write(b) // never fails
		p.events = append(p.events, fmt.Sprintf("%d data %d %08x", id, len(b), sum.Sum32()))
	}
	events := p.events
	p.events, p.bodies = []string{}, map[uint32][]byte{}
	if slices.Contains(events, "closed") {
		// net/http closes a connection on one goroutine and resets its streams on others:
		// which of their frames leave before is chance.
		events = slices.DeleteFunc(events, func(e string) bool { return strings.HasPrefix(e, "RST_STREAM ") })
	}
	slices.Sort(events)
	return slices.Compact(events) // never nil, which JSON has other words for
}

// call is one request: what its caller sees.
func (p *player) call(ctx context.Context, cc *http.ClientConn, id uint32) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://server.example/", nil)
	if err != nil {
		panic(err) // a mistake in this test
	}
	resp, err := cc.RoundTrip(req)
	if err != nil {
		p.broken(id, err)
		return
	}
	defer func() { _ = resp.Body.Close() }() // it is read to its end, or broken
	p.note("%d head %s", id, pairs(resp.Header, ":status", fmt.Sprint(resp.StatusCode)))
	buf := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(buf)
		p.mu.Lock()
		if n > 0 {
			p.bodies[id] = append(p.bodies[id], buf[:n]...)
		}
		p.mu.Unlock()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			p.note("%d end %s", id, pairs(resp.Trailer))
			return
		}
		if err != nil {
			p.broken(id, err)
			return
		}
	}
}

// pairs is a header as JSON: names and values by turns, sorted by names, bytes as Latin-1.
func pairs(h http.Header, list ...string) string {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			list = append(list, strings.ToLower(name), v)
		}
	}
	for i, text := range list {
		var runes []rune
		for _, b := range []byte(text) {
			runes = append(runes, rune(b))
		}
		list[i] = string(runes)
	}
	if list == nil {
		list = []string{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(list) // strings
	return strings.TrimSpace(b.String())
}

// read takes in what the client sends.
func (p *player) read(conn net.Conn) {
	r := bufio.NewReader(conn)
	if _, err := io.ReadFull(r, make([]byte, len(http2.ClientPreface))); err != nil {
		p.note("closed")
		return
	}
	framer := http2.NewFramer(io.Discard, r)
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			p.note("closed")
			return
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			p.note("RST_STREAM %d %d", f.StreamID, f.ErrCode)
		case *http2.GoAwayFrame:
			p.note("GOAWAY %d", f.ErrCode)
		case *http2.PingFrame:
			if f.IsAck() {
				p.note("PING %x", f.Data)
			}
		case *http2.SettingsFrame:
			if f.IsAck() {
				p.note("SETTINGS")
			}
		}
	}
}
