package bridge

import (
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
	"github.com/culvert-grpc/culvert/codec"
)

// A heldAnswer is the encoder of a protocol whose status is the HTTP status, as of
// unary Connect: header and message wait for the end.
type heldAnswer struct {
	md metadata.MD
	m  mem.BufferSlice
}

func (e *heldAnswer) header(_ *httpStream, md metadata.MD, _ bool) error {
	e.md = md
	return nil
}

func (e *heldAnswer) message(_ *httpStream, m mem.BufferSlice, _ bool) error {
	e.m = m
	return nil
}

func (e *heldAnswer) end(h *httpStream, st *status.Status, trailer metadata.MD) error {
	defer e.m.Free()
	header := h.makeWebHeader(codec.Fields(e.md))
	for name, values := range trailer {
		header["trailer-"+name] = values
	}
	if st.Code() != codes.OK {
		header["Content-Type"] = []string{"application/json"}
		h.begin(http.StatusNotFound, true)
		if _, err := io.WriteString(h.last(), `{"message":"`+st.Message()+`"}`); err != nil {
			return err
		}
		return h.endBody()
	}
	h.begin(http.StatusOK, true)
	for _, b := range e.m {
		if _, err := h.last().Write(b.ReadOnlyData()); err != nil {
			return err
		}
	}
	return h.endBody()
}

// TestEncoderMayHoldTheAnswer until the status is known: the HTTP status, the
// trailers in the header, and a body without frames are its own.
func TestEncoderMayHoldTheAnswer(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	for _, end := range []struct {
		status *status.Status
		http   int
		body   string
	}{
		{status.New(codes.OK, ""), http.StatusOK, "a message"},
		{status.New(codes.NotFound, "no such thing"), http.StatusNotFound, `{"message":"no such thing"}`},
	} {
		hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c := &call{caller: caller{s: s, on: s.edge.Of(r)}, info: &report.CallInfo{ID: "1"}, watched: watched{held: newEntry(1 << 20), progress: progress.Record{Clock: new(atomic.Int64)}}}
			var h httpStream
			h.open(w, r, c, &heldAnswer{})
			if err := h.SendHeader(metadata.Pairs("x-a", "b"), false); err != nil {
				t.Error(err)
			}
			if err := h.Send(mem.BufferSlice{mem.SliceBuffer("a message")}, false); err != nil {
				t.Error(err)
			}
			if err := h.Finish(end.status, metadata.Pairs("x-t", "u")); err != nil {
				t.Error(err)
			}
		}))
		res, err := hs.Client().Post(hs.URL, "application/proto", nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close() // it was read to its end
		hs.Close()
		if err != nil || res.StatusCode != end.http || string(body) != end.body || res.ContentLength != int64(len(end.body)) {
			t.Errorf("%v: answered %d with %q of the length %d, %v; want %d and %q", end.status, res.StatusCode, body, res.ContentLength, err, end.http, end.body)
		}
		if res.Header.Get("X-A") != "b" || res.Header.Get("Trailer-X-T") != "u" || res.Header.Get("X-Request-Id") != "1" {
			t.Errorf("%v: the header is %v", end.status, res.Header)
		}
	}
}
