package bridgetest

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

var flowScenarios = []scenario{
	{"a client that doesn't read stops the backend", streamedReplies, slowReader},
	{"a backend that doesn't read stops the client", fullDuplex, slowWriter},
	{"both ways stopped, then both go on", fullDuplex, bothStopped},
	{"a call that nobody reads leaves the others alone", streamedReplies, unreadCallBesideOthers},
	{"a call whose requests nobody reads leaves the others alone", fullDuplex, unreadRequestsBesideOthers},
	{"a request over the limit", 0, requestOverLimit},
	{"a request that claims to be over the limit", rawFrames, requestClaimsOverLimit},
	{"a request over the limit after others", fullDuplex, requestOverLimitLater},
	{"a reply over the limit", 0, replyOverLimit},
	{"a reply that claims to be over the limit", 0, replyClaimsOverLimit},
}

const chunkBytes = 64 << 10

// inFlight bounds the data on its way to a peer that reads nothing: culvert's and
// grpc-go's windows, and the kernel's buffers, which are most of it.
const inFlight = 24 << 20

// slow returns a client whose kernel buffers little.
func (t *trial) slow() client {
	t.Helper()
	return t.dial(&dialer{address: t.address, receiveBuffer: 64 << 10})
}

// numberedChunk is a large message that tells its place.
func numberedChunk(n int64) []byte {
	b := patterned(chunkBytes)
	binary.BigEndian.PutUint64(b, uint64(n))
	return b
}

func slowReader(t *trial) {
	t.serve(afterRequest(func(c *backendCall) error {
		for {
			if err := c.send(numberedChunk(c.sent.Load())); err != nil {
				return err
			}
		}
	}))
	s, c := t.begin(t.slow(), call{})
	stalled := t.awaitStall(c.sent.Load)
	if held := stalled * chunkBytes; held > inFlight {
		t.Errorf("the backend could send %d MiB to a client that read nothing", held>>20)
	}
	// The client reads again: nothing is lost, and the backend continues.
	for i := int64(1); i < stalled+50; i++ {
		if got := s.recv(); !bytes.Equal(got, numberedChunk(i)) {
			t.Fatalf("message %d is %.20x(%d)", i, got, len(got))
		}
	}
	s.cancel()
	t.wantCancelled(c, goneIsSeen, false)
}

// sendUntil sends chunks until told to stop or refused; sent counts them.
func (s *callT) sendUntil(stop <-chan struct{}, sent *atomic.Int64) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := s.stream.send(numberedChunk(sent.Load())); err != nil {
			return err
		}
		sent.Add(1)
	}
}

// sendBeside is sendUntil beside the caller, and then the half-close.
func (s *callT) sendBeside(sending *sync.WaitGroup, stop <-chan struct{}, sent *atomic.Int64) {
	sending.Go(func() {
		if err := s.sendUntil(stop, sent); err != nil {
			s.t.Errorf("send: %v", err)
		}
		if err := s.stream.closeSend(); err != nil {
			s.t.Errorf("half-close: %v", err)
		}
	})
}

func slowWriter(t *trial) {
	read := make(chan struct{})
	t.serve(func(c *backendCall) error {
		if err := c.await(read); err != nil {
			return err
		}
		for {
			b, err := c.recv()
			if err != nil {
				return nil // the number is what counts
			}
			if got := int64(binary.BigEndian.Uint64(b)); got != c.received.Load()-1 {
				t.Errorf("message %d came as the %dth", got, c.received.Load())
			}
		}
	})
	s := t.open(call{})
	var sent atomic.Int64
	stop := make(chan struct{})
	var sending sync.WaitGroup
	s.sendBeside(&sending, stop, &sent)
	c := t.nextCall()
	if held := t.awaitStall(sent.Load) * chunkBytes; held > inFlight {
		t.Errorf("the client could send %d MiB to a backend that read nothing", held>>20)
	}
	close(stop)
	close(read)
	t.wantOK(s.end())
	sending.Wait()
	if c.received.Load() != sent.Load() {
		t.Errorf("the backend got %d messages of %d", c.received.Load(), sent.Load())
	}
}

// bothStopped fills both directions of an echo whose client doesn't read, then
// reads: the directions must not wait for each other.
func bothStopped(t *trial) {
	t.serve(echo)
	s := t.openWith(t.slow(), call{})
	var sent atomic.Int64
	stop := make(chan struct{})
	var sending sync.WaitGroup
	s.sendBeside(&sending, stop, &sent)
	t.awaitStall(sent.Load)
	close(stop)
	r := s.end()
	sending.Wait()
	t.wantUpstream(r, codes.OK, "")
	for i, m := range r.messages {
		if !bytes.Equal(m, numberedChunk(int64(i))) {
			t.Fatalf("message %d is %.20x(%d)", i, m, len(m))
		}
	}
	if int64(len(r.messages)) != sent.Load() {
		t.Errorf("%d messages came back of %d", len(r.messages), sent.Load())
	}
}

func unreadCallBesideOthers(t *trial) {
	t.serve(echoBut("x-flood", flood))
	var unread []*callT
	for range 3 {
		s, c := t.begin(t.client, call{metadata: map[string][]string{"x-flood": {"1"}}})
		t.awaitStall(c.sent.Load)
		unread = append(unread, s)
	}
	for range 5 {
		t.wantOK(t.unary(call{}, patterned(chunkBytes)), patterned(chunkBytes))
	}
	for _, s := range unread {
		s.cancel()
	}
}

func unreadRequestsBesideOthers(t *trial) {
	t.serve(echoBut("x-hold", hold))
	var stuck []*callT
	var sending sync.WaitGroup
	for range 3 {
		s := t.open(call{metadata: map[string][]string{"x-hold": {"1"}}})
		var sent atomic.Int64
		sending.Go(func() {
			_ = s.sendUntil(nil, &sent) // until it is cancelled
		})
		t.nextCall()
		t.awaitStall(sent.Load)
		stuck = append(stuck, s)
	}
	for range 5 {
		t.wantOK(t.unary(call{}, patterned(chunkBytes)), patterned(chunkBytes))
	}
	// Nobody reads, so only a reset reports the client's end at once.
	t.client.cut(cutRST)
	for _, s := range stuck {
		s.cancel()
	}
	sending.Wait()
}

// small sets a limit that tests can pass cheaply.
const small = 100 << 10

func smallMessages(c *bridge.Config) { c.Limits.MessageBytes = small }

func (t *trial) wantTooLarge(r result, reason report.Reason) {
	t.Helper()
	t.wantCulvert(r, codes.ResourceExhausted, reason)
	if m, limit := r.status.Message(), r.info().GetMetadata()["limit"]; !strings.Contains(m, report.KeyMessageBytes) || limit != report.KeyMessageBytes {
		t.Errorf("status %q, whose limit is %q, doesn't name %s", m, limit, report.KeyMessageBytes)
	}
}

// neverEndedWell checks that the backend saw no end of the requests.
func (t *trial) neverEndedWell(name string, calls ...*backendCall) {
	t.Helper()
	for _, c := range calls {
		t.awaitEvent("the backend's call ends", c.ended)
		if c.halfClosed.Load() {
			t.Errorf("%q: the backend saw the request end well", name)
		}
	}
}

// neverWhole checks that the backend got no message, and no end of the request.
func (t *trial) neverWhole(calls []*backendCall, messages int64) {
	t.Helper()
	for _, c := range calls {
		t.awaitEvent("the backend's call ends", c.ended)
		if c.received.Load() > messages || c.halfClosed.Load() {
			t.Errorf("the backend got %d messages, want %d; half-closed: %v", c.received.Load(), messages, c.halfClosed.Load())
		}
	}
}

func requestOverLimit(t *trial) {
	t.serve(untilCancelled, smallMessages)
	t.wantTooLarge(t.unary(call{}, patterned(small+1)), report.ReasonRequestTooLarge)
	t.neverWhole(t.backend.seen(), 0)
	t.nextServed()
}

// nextServed: the refusal cost the sender its call, and nobody anything else.
func (t *trial) nextServed() {
	t.Helper()
	t.backend.handleNext(echo)
	t.wantOK(t.unary(call{}, hello), hello)
}

// requestClaimsOverLimit sends only a prefix: the answer must not wait for the
// announced bytes.
func requestClaimsOverLimit(t *trial) {
	t.serve(untilCancelled, smallMessages)
	for _, length := range []uint32{small + 1, 1 << 31, 1<<32 - 1} {
		s := t.open(call{})
		prefix := binary.BigEndian.AppendUint32([]byte{0}, length)
		s.sendRaw(prefix)
		if t.transport.lacks(fullDuplex) != "" {
			s.closeSend()
		}
		t.wantTooLarge(s.end(), report.ReasonRequestTooLarge)
	}
	t.neverWhole(t.backend.seen(), 0)
	t.nextServed()
}

func requestOverLimitLater(t *trial) {
	t.serve(echo, smallMessages)
	s := t.open(call{})
	s.send(hello)
	if got := s.recv(); !bytes.Equal(got, hello) {
		t.Errorf("got %q", got)
	}
	_ = s.stream.send(patterned(small + 1)) // refused by its prefix, maybe before it is sent
	t.wantTooLarge(s.end(), report.ReasonRequestTooLarge)
	t.neverWhole(t.backend.seen(), 1)
}

func replyOverLimit(t *trial) {
	replies := [][]byte{hello, patterned(small + 1), hello}
	oneReply := t.transport.lacks(streamedReplies) != ""
	if oneReply {
		replies = replies[1:2]
	}
	t.serve(replyWith(replies...), smallMessages)
	r := t.unary(call{}, hello)
	t.wantTooLarge(r, report.ReasonResponseTooLarge)
	if !oneReply && (len(r.messages) != 1 || !bytes.Equal(r.messages[0], hello)) {
		t.Errorf("messages %s, want the one before", abridged(r.messages))
	}
	t.nextServed()
}

func replyClaimsOverLimit(t *trial) {
	answered := t.serveScripts(smallMessages)
	for _, length := range []uint32{small + 1, 1 << 31, 1<<32 - 1} {
		r := answered(func(c *fakeConn, stream uint32) {
			c.ok(stream)
			c.data(stream, false, binary.BigEndian.AppendUint32([]byte{0}, length))
		})
		t.wantTooLarge(r, report.ReasonResponseTooLarge)
	}
}
