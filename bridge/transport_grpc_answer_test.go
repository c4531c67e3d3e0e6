package bridge

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestShortAnswerOverHTTP1GoesOutWhole with its length, and any other in
// chunks; on one connection, so that an answer's end is its end.
func TestShortAnswerOverHTTP1GoesOutWhole(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: "127.0.0.1:1"}})
	small, large := bytes.Repeat([]byte("s"), 100), bytes.Repeat([]byte("l"), gatherBytes)
	for _, c := range []struct {
		name     string
		dialect  *dialect
		header   bool // is sent before
		messages [][]byte
		more     bool // is said of the last message
		whole    bool
	}{
		{"a status alone", web, false, nil, true, true},
		{"a header and a status", web, true, nil, true, true},
		{"a message", web, true, [][]byte{small}, true, true},
		{"a message without header", web, false, [][]byte{small}, true, true},
		{"an empty message", web, true, [][]byte{nil}, true, true},
		{"messages", web, true, [][]byte{small, small, small}, true, true},
		{"as text", webText, true, [][]byte{small}, true, true},
		{"a message that nothing follows yet", web, true, [][]byte{small}, false, false},
		{"messages that nothing follows yet", web, true, [][]byte{small, small}, false, false},
		{"a large message", web, true, [][]byte{large}, true, false},
		{"a large message behind small ones", web, true, [][]byte{small, small, large, small}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				call := &call{caller: caller{s: s, on: s.edge.Of(new(http.Request))}, info: &report.CallInfo{ID: "1"}, watched: watched{held: newEntry(1 << 20), progress: progress.Record{Clock: new(atomic.Int64)}}}
				down := newGRPCStream(c.dialect, w, r, call)
				if c.header {
					if err := down.SendHeader(metadata.Pairs("x-a", "b"), true); err != nil {
						t.Error(err)
					}
				}
				for i, m := range c.messages {
					if err := down.Send(mem.BufferSlice{mem.SliceBuffer(m)}, c.more || i < len(c.messages)-1); err != nil {
						t.Error(err)
					}
				}
				if err := down.Finish(status.New(codes.OK, ""), nil); err != nil {
					t.Error(err)
				}
			}))
			defer hs.Close()
			var want []byte
			for _, m := range c.messages {
				want = append(want, framed(0, m)...)
			}
			want = append(want, framed(0x80, []byte("grpc-status: 0\r\n"))...)
			for range 2 {
				resp, err := hs.Client().Post(hs.URL, c.dialect.contentType, nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				if err := errors.Join(err, resp.Body.Close()); err != nil {
					t.Fatal(err)
				}
				if length := resp.ContentLength; (length >= 0) != c.whole || c.whole && length != int64(len(got)) {
					t.Errorf("the answer of %d bytes has length %d (-1: chunks)", len(got), length)
				}
				if c.header && resp.Header.Get("X-A") != "b" || resp.Header.Get("X-Request-Id") != "1" {
					t.Errorf("header %v, want x-a and x-request-id", resp.Header)
				}
				if c.dialect.text {
					got = decodedChunks(t, got)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("the body is %q, want %q", got, want)
				}
			}
		})
	}
}

// decodedChunks decodes pieces of base64 that are padded each.
func decodedChunks(t *testing.T, text []byte) (b []byte) {
	t.Helper()
	for len(text) >= 4 {
		part, err := base64.StdEncoding.DecodeString(string(text[:4]))
		if err != nil {
			t.Fatal(err)
		}
		b, text = append(b, part...), text[4:]
	}
	return b
}
