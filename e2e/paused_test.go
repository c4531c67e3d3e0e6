package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
)

// TestPausedReaders has clients stop reading in the middle of a stream and go on
// later, and wants every message to arrive. Their kernels acknowledge what
// culvert sends all the time, but have no room for it. It holds the table in
// docs/how-it-works/appendix/paused-readers.md to what it saw.
func TestPausedReaders(t *testing.T) {
	t.Parallel()
	s := newPauseStage(t)
	cells := pauseCells(t)
	seen := s.run(t, cells)
	failed := map[string]bool{}
	for _, c := range cells {
		t.Run(strings.ReplaceAll(c.String(), " ", "_"), func(t *testing.T) {
			if problems := c.judge(t, seen[c.id], s.backend); len(problems) > 0 {
				t.Errorf("%s\nseen by the client: %+v", strings.Join(problems, "\n"), seen[c.id])
			}
			failed[c.String()] = t.Failed()
		})
	}
	comparePauseTable(t, pauseTable(failed))
}

// A pauseRate is the rate at which the backend produces its stream. The backend
// sets the pace: a reader that sets it would keep its window shut before it
// pauses, too, and culvert's writes blocked, which is the easy case.
type pauseRate struct {
	name       string
	replyBytes int // each pauseEvery
	burst      int // further replies, all at once while the reader stands still
}

var pauseRates = []pauseRate{
	{name: "1 kB/s", replyBytes: 200},
	{name: "20 kB/s", replyBytes: 4_000},
	{name: "100 kB/s", replyBytes: 20_000},
	{name: "400 kB/s", replyBytes: 80_000},
	{name: "line speed", replyBytes: 64 * kib, burst: 200},
	{name: "ends", replyBytes: 20_000, burst: 30},
}

var pauses = []time.Duration{30 * time.Second, 75 * time.Second}

const (
	pauseEvery = 200 * time.Millisecond
	pauseLead  = 4 * time.Second // the stream runs so long before the reader stops
	pauseTail  = 8 * time.Second // and so long after it goes on
	// patience for the rest, on a machine that does much else.
	pausePatience = 3 * time.Minute
)

// A pauseCell is one call of the test: a cell of the table.
type pauseCell struct {
	reader pausingReader
	rate   pauseRate
	pause  time.Duration
	id     string
}

func pauseCells(t *testing.T) []pauseCell {
	var cells []pauseCell
	for _, reader := range pausingReaders {
		for _, rate := range pauseRates {
			for _, pause := range pauses {
				cell := pauseCell{reader, rate, pause, newID(t)}
				if !cell.readAhead() {
					cells = append(cells, cell)
				}
			}
		}
	}
	return cells
}

// readAhead reports whether the browser may take all of the burst: then nobody
// stands still, and the cell would show nothing.
func (c pauseCell) readAhead() bool {
	return c.reader.buffers && c.rate.burst*c.rate.replyBytes > 8*mib
}

func (c pauseCell) String() string {
	return fmt.Sprintf("%s/%s/%v", c.reader.name, c.rate.name, c.pause)
}

// replies returns how many replies the stream has. 16 MB hold up every backend.
func (c pauseCell) replies() int {
	if c.rate.burst > 0 {
		return c.held() + c.rate.burst
	}
	return min(int((pauseLead+c.pause+pauseTail)/pauseEvery), 16_000_000/c.rate.replyBytes)
}

// held returns how many replies come before the burst; 0: there is none.
func (c pauseCell) held() int {
	if c.rate.burst > 0 {
		return int(pauseLead / pauseEvery)
	}
	return 0
}

func (c pauseCell) script() probe.Script {
	return probe.Script{
		Replies: c.replies(), ReplyBytes: c.rate.replyBytes, ReplyEvery: probe.Millis(pauseEvery.Milliseconds()),
		KeepPace: true, HoldAfter: c.held(),
	}
}

// A pauseSeen is what the client of a cell saw.
type pauseSeen struct {
	replies int    // in order and undamaged
	stopped int    // how many of them when the reader stopped
	code    string // the status code by name; "": there was none
	err     string // what went wrong
}

// judge returns what is wrong with a call, by its client and by the backend.
func (c pauseCell) judge(t *testing.T, seen pauseSeen, b *backend) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if seen.err != "" {
		wrong("the client: %s", seen.err)
	}
	if seen.code != codes.OK.String() || seen.replies != c.replies() {
		wrong("%d of %d replies and the status %q", seen.replies, c.replies(), seen.code)
	}
	if seen.stopped == 0 || seen.stopped >= c.replies() {
		wrong("the reader stopped after %d of %d replies: not in the middle", seen.stopped, c.replies())
	}
	r, began := b.saw(t, c.id)
	switch {
	case !began:
		wrong("the backend has not seen the call")
	case r.Attempts != 1 || !r.Cancelled.IsZero() || r.Code != codes.OK.String() || int(r.Sent) != c.replies():
		wrong("the backend sent %d replies in %d attempts and ended with %q (cancelled after %v: %s)",
			r.Sent, r.Attempts, r.Code, r.Cancelled.Sub(r.Began), r.Cause)
	case c.rate.burst*c.rate.replyBytes > 8*mib && r.Blocked < c.pause/2:
		wrong("the backend waited for %v at most, and ended after %v: the reader hasn't held it up", r.Blocked, r.Ended.Sub(r.Began))
	}
	return problems
}

// A pauseStage is what the readers call: culvert in plaintext and with TLS before
// one backend.
type pauseStage struct {
	backend    *backend
	ca         *issuer
	plain, tls *culvert
	page       string // the origin of the browser's pages
}

func newPauseStage(t *testing.T) *pauseStage {
	s := &pauseStage{backend: startBackend(t, backendOptions{}), ca: newIssuer(t, "ca")}
	s.page = servePage(t, bundlePage(t))
	s.plain = startCulvert(t, s.backend.address, culvertOptions{args: []string{"--allow-origin", s.page}})
	s.tls = startTLS(t, s.ca, s.backend.address, "", "--allow-origin", s.page)
	return s
}

// release has the burst of a cell sent whose reader stands still.
func (s *pauseStage) release(t *testing.T, c pauseCell) {
	if c.rate.burst == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.pause) // later it would test nothing
	defer cancel()
	if err := s.backend.control.Release(ctx, c.id); err != nil {
		t.Errorf("%s: %v", c, err)
	}
}

// address returns where a reader finds culvert.
func (s *pauseStage) address(r pausingReader) string {
	if r.tls {
		return s.tls.address
	}
	return s.plain.address
}

// run runs all cells at once and returns what came of them by id.
func (s *pauseStage) run(t *testing.T, cells []pauseCell) map[string]pauseSeen {
	t.Helper()
	var mu sync.Mutex
	seen := map[string]pauseSeen{}
	note := func(id string, s pauseSeen) {
		mu.Lock()
		defer mu.Unlock()
		seen[id] = s
	}
	var work sync.WaitGroup
	var pages []pauseCell
	for _, c := range cells {
		if c.reader.client != "" {
			pages = append(pages, c)
			continue
		}
		work.Go(func() { note(c.id, c.reader.run(t, s, c)) })
	}
	work.Go(func() { s.runPages(t, pages, note) })
	work.Wait()
	return seen
}

// A pausingReader is a row of the table.
type pausingReader struct {
	name string
	tls  bool
	// run runs a cell.
	run func(t *testing.T, s *pauseStage, c pauseCell) pauseSeen
	// client, in place of run, is the name of a browser's client in
	// node/clients-browser.js.
	client   string
	debugger bool // the page is paused by a debugger, else by a synchronous request
	buffers  bool // the browser may read all of it while the page stands still
}

var pausingReaders = []pausingReader{
	{name: "curl, gRPC-Web, HTTP/1.1", run: curlReader("--http1.1", "application/grpc-web+proto")},
	{name: "curl, gRPC-Web, HTTP/1.1, TLS", tls: true, run: curlReader("--http1.1", "application/grpc-web+proto")},
	{name: "curl, gRPC-Web, h2c", run: curlReader("--http2-prior-knowledge", "application/grpc-web+proto")},
	{name: "curl, gRPC-Web, h2", tls: true, run: curlReader("--http2", "application/grpc-web+proto")},
	{name: "curl, gRPC, h2c", run: curlReader("--http2-prior-knowledge", "application/grpc+proto")},
	{name: "curl, gRPC, h2", tls: true, run: curlReader("--http2", "application/grpc+proto")},
	{name: "grpc-go, h2c", run: frozenGRPC(false)},
	{name: "grpc-go, h2", tls: true, run: frozenGRPC(false)},
	{name: "grpc-go, `h2ts`", run: frozenGRPC(true)},
	{name: "grpc-go, `h2ts`, TLS", tls: true, run: frozenGRPC(true)},
	{name: "Chromium, WebSocket", client: "improbable websocket"},
	{name: "Chromium, WebSocket, TLS", tls: true, client: "improbable websocket"},
	{name: "Chromium, @culvert/web", client: "culvert-web"},
	{name: "Chromium, @culvert/web, TLS", tls: true, client: "culvert-web"},
	{name: "Chromium, fetch, HTTP/1.1", client: "connect-web"},
	{name: "Chromium, fetch, h2", tls: true, client: "connect-web"},
	{name: "Chromium, XHR, HTTP/1.1", client: "improbable xhr"},
	{name: "Chromium, XHR, h2", tls: true, client: "improbable xhr"},
	{name: "Chromium in a debugger, WebSocket", client: "improbable websocket", debugger: true},
	{name: "Chromium in a debugger, @culvert/web", client: "culvert-web", debugger: true},
	{name: "Chromium in a debugger, fetch, HTTP/1.1", client: "connect-web", debugger: true, buffers: true},
	{name: "Chromium in a debugger, XHR, HTTP/1.1", client: "improbable xhr", debugger: true, buffers: true},
}
