package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/e2e/probe"
)

// records is what the backend saw, and the HTTP handler that tells it.
type records struct {
	mu      sync.Mutex
	entries map[string]*entry
	running int
	changed chan struct{} // closed and replaced when a call began, was cancelled or ended

	connections int
}

// entry is the record of one call. Its fields are guarded by all.mu.
type entry struct {
	all      *records
	record   probe.Record
	released chan struct{} // closed by Control.Release
}

func newRecords() *records {
	return &records{entries: map[string]*entry{}, changed: make(chan struct{})}
}

func (rs *records) begin(ctx context.Context, method, id string, md metadata.MD) *entry {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	e := &entry{
		all: rs, released: make(chan struct{}),
		record: probe.Record{ID: id, Method: method, Began: time.Now(), Metadata: map[string][][]byte{}},
	}
	if encoding, ok := ctx.Value(encodingKey{}).(*string); ok {
		e.record.Encoding = *encoding
	}
	if p, ok := peer.FromContext(ctx); ok {
		e.record.Peer = p.Addr.String()
	}
	for name, values := range md {
		for _, v := range values {
			e.record.Metadata[name] = append(e.record.Metadata[name], []byte(v))
		}
	}
	if deadline, ok := ctx.Deadline(); ok {
		e.record.Timeout = time.Until(deadline)
	}
	e.record.Attempts = 1
	if before, ok := rs.entries[id]; ok {
		e.record.Attempts += before.record.Attempts
	}
	rs.entries[id] = e
	rs.running++
	rs.tell()
	return e
}

// tell wakes who waits. rs.mu is held.
func (rs *records) tell() {
	close(rs.changed)
	rs.changed = make(chan struct{})
}

// change edits the record without waking anybody: counts are polled.
func (e *entry) change(edit func(*probe.Record)) {
	e.all.mu.Lock()
	defer e.all.mu.Unlock()
	edit(&e.record)
}

func (e *entry) cancelled(cause error) {
	e.all.mu.Lock()
	defer e.all.mu.Unlock()
	e.record.Cancelled, e.record.Cause = time.Now(), cause.Error()
	e.all.tell()
}

func (e *entry) end(err error) {
	e.all.mu.Lock()
	defer e.all.mu.Unlock()
	e.record.Ended, e.record.Code = time.Now(), status.Code(err).String()
	if err != nil {
		e.record.Status, _ = proto.Marshal(status.Convert(err).Proto()) // what a status holds can be written
	}
	e.all.running--
	e.all.tell()
}

// ServeHTTP answers probe.Control.
func (rs *records) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var answer func() (any, bool) // called with rs.mu held
	switch r.URL.Path {
	case "/records":
		answer = rs.all
	case "/sent":
		answer = rs.sent
	case "/connections":
		answer = func() (any, bool) { return rs.connections, true }
	case "/running":
		answer = func() (any, bool) { return rs.running, true }
	case "/idle":
		answer = func() (any, bool) { return rs.running, rs.running == 0 }
	case "/release":
		id := r.URL.Query().Get("id")
		answer = func() (any, bool) { return rs.release(id) }
	case "/record":
		id, state := r.URL.Query().Get("id"), r.URL.Query().Get("wait")
		answer = func() (any, bool) { return rs.find(id, state) }
	default:
		http.NotFound(w, r)
		return
	}
	for {
		rs.mu.Lock()
		value, ok := answer()
		changed := rs.changed
		rs.mu.Unlock()
		if ok {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(value) // who asked is gone
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (rs *records) all() (any, bool) {
	out := make(map[string]probe.Record, len(rs.entries))
	for id, e := range rs.entries {
		out[id] = e.record
	}
	return out, true
}

// sent is the number of payload bytes sent in the calls that run.
func (rs *records) sent() (any, bool) {
	var n int64
	for _, e := range rs.entries {
		if e.record.Ended.IsZero() {
			n += e.record.SentBytes
		}
	}
	return n, true
}

func (rs *records) release(id string) (any, bool) {
	e, ok := rs.entries[id]
	if !ok {
		return false, false
	}
	select {
	case <-e.released:
	default:
		close(e.released)
	}
	return true, true
}

func (rs *records) find(id, state string) (any, bool) {
	e, ok := rs.entries[id]
	if !ok {
		return probe.Record{}, state == probe.Now
	}
	switch state {
	case probe.Cancelled:
		ok = !e.record.Cancelled.IsZero() || !e.record.Ended.IsZero()
	case probe.Ended:
		ok = !e.record.Ended.IsZero()
	}
	return e.record, ok
}

// observer is the stats.Handler that notes what grpc-go tells nobody else: how a
// call's requests are encoded, and how many connections there are.
type observer struct{ *records }

type encodingKey struct{} // its value: *string, written before the handler runs

func (observer) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, encodingKey{}, new(string))
}

func (observer) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InHeader); ok {
		*ctx.Value(encodingKey{}).(*string) = in.Compression
	}
}

func (observer) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (o observer) HandleConn(_ context.Context, s stats.ConnStats) {
	change := -1
	if _, begins := s.(*stats.ConnBegin); begins {
		change = 1
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.connections += change
}
