package message

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/bridge/internal/packing"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/parts"
)

func TestGzipBody(t *testing.T) {
	want := parts.Pattern(100 << 10)
	whole := parts.Gzipped(want)
	reset := errors.New("connection reset by peer")
	for _, c := range []struct {
		name   string
		body   io.Reader
		reason report.Reason // empty: it is read whole
	}{
		{"whole", bytes.NewReader(whole), ""},
		{"by bytes", iotest.OneByteReader(bytes.NewReader(whole)), ""},
		{"two members", bytes.NewReader(append(bytes.Clone(parts.Gzipped(want[:500])), parts.Gzipped(want[500:])...)), ""},
		{"plain", strings.NewReader("not gzip, by any means"), report.ReasonBadRequest},
		{"one byte", strings.NewReader("\x1f"), report.ReasonBadRequest},
		{"half its head", bytes.NewReader(whole[:5]), report.ReasonBadRequest},
		{"half of it", bytes.NewReader(whole[:len(whole)/2]), report.ReasonBadRequest},
		{"without its sum", bytes.NewReader(whole[:len(whole)-8]), report.ReasonBadRequest},
		{"a wrong sum", bytes.NewReader(parts.Flip(whole, len(whole)-6)), report.ReasonBadRequest},
		{"wrong bytes inside", bytes.NewReader(parts.Flip(parts.Flip(whole, 30), 31)), report.ReasonBadRequest},
		{"more behind it", bytes.NewReader(append(bytes.Clone(whole), "more"...)), report.ReasonBadRequest},
		{"a client that goes before it", iotest.ErrReader(reset), report.ReasonClientGone},
		{"a client that goes inside its head", io.MultiReader(bytes.NewReader(whole[:5]), iotest.ErrReader(reset)), report.ReasonClientGone},
		{"a client that goes inside it", io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), iotest.ErrReader(reset)), report.ReasonClientGone},
		{"a connection that ends inside it", io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), iotest.ErrReader(io.ErrUnexpectedEOF)), report.ReasonClientGone},
	} {
		got, err := io.ReadAll(packing.NewBody(c.body, new(quota.Call), 0))
		if err != nil {
			err = Fault(err)
		}
		if reasonOf(err) != c.reason || c.reason == "" && !bytes.Equal(got, want) {
			t.Errorf("%s: read %d bytes and %v, want %q", c.name, len(got), err, c.reason)
		}
	}
}

// TestCompressedBodyOfEmptyMessages: each is as much work as another, so a few
// bytes can't stand for millions.
func TestCompressedBodyOfEmptyMessages(t *testing.T) {
	for _, c := range []struct {
		name     string
		messages int
		packed   bool
		reason   report.Reason // empty: all are read
	}{
		{"many", 1_000_000, true, report.ReasonBadRequest},
		{"as many as anybody may", packing.FreeMessages, true, ""},
		{"many that aren't compressed", 1_000_000, false, ""},
	} {
		body := make([]byte, c.messages*codec.FrameHeaderBytes)
		m := newReader(bytes.NewReader(body), 1<<20, "")
		if c.packed {
			m.Packed = packing.NewBody(bytes.NewReader(parts.Gzipped(body)), new(quota.Call), 0)
			m.Body = m.Packed
		}
		n := 0
		var err error
		for ; err == nil; n++ {
			_, err = m.Next()
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if n--; reasonOf(err) != c.reason || c.reason == "" && n != c.messages || c.reason != "" && n > 20_000 {
			t.Errorf("%s: %d messages of %d were read, and %v; want %q", c.name, n, c.messages, err, c.reason)
		}
	}
}

// TestMalformedBody: faults in a body's bytes are distinguished from faults of a
// connection, by net/http's texts.
func TestMalformedBody(t *testing.T) {
	for _, c := range []struct {
		name, head, body string
		reason           report.Reason
	}{
		{"a size that isn't hex", "Transfer-Encoding: chunked", "zz\r\n", report.ReasonBadRequest},
		{"no size", "Transfer-Encoding: chunked", "\r\n", report.ReasonBadRequest},
		{"a size beyond 64 bits", "Transfer-Encoding: chunked", "fffffffffffffffff\r\n", report.ReasonBadRequest},
		{"a size's line without CR", "Transfer-Encoding: chunked", "1\na\n", report.ReasonBadRequest},
		{"a size's line with a CR inside", "Transfer-Encoding: chunked", "1;\ra\r\na\r\n", report.ReasonBadRequest},
		{"a size's line that never ends", "Transfer-Encoding: chunked", "1;" + strings.Repeat("a", 64<<10), report.ReasonBadRequest},
		{"extensions without end", "Transfer-Encoding: chunked", strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\na\r\n", 100), report.ReasonBadRequest},
		{"a chunk longer than its size", "Transfer-Encoding: chunked", "1\r\nabc\r\n", report.ReasonBadRequest},
		{"trailers without end", "Transfer-Encoding: chunked", "0\r\nA: " + strings.Repeat("a", 64<<10), report.ReasonBadRequest},
		{"an end inside a chunk", "Transfer-Encoding: chunked", "5\r\nab", report.ReasonClientGone},
		{"an end inside a size", "Transfer-Encoding: chunked", "5", report.ReasonClientGone},
		{"an end before the last chunk", "Transfer-Encoding: chunked", "1\r\na\r\n", report.ReasonClientGone},
		{"an end before the length", "Content-Length: 5", "ab", report.ReasonClientGone},
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\nHost: a\r\n" + c.head + "\r\n\r\n" + c.body)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, r.Body)
		if err == nil || reasonOf(Fault(err)) != c.reason {
			t.Errorf("%s: %v is taken for %s, want %s", c.name, err, reasonOf(Fault(err)), c.reason)
		}
	}
}

// TestLengthsThatNetHTTP2Finds: net/http's HTTP/2 server tells a body of another
// length than content-length by its text alone.
func TestLengthsThatNetHTTP2Finds(t *testing.T) {
	errs := make(chan error, 1)
	address := parts.ServeHTTP2(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		errs <- err
	})
	for name, body := range map[string]string{"less": "1234", "more": "123456"} {
		conn, err := new(net.Dialer).DialContext(parts.Within(t, parts.Patience), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, http2.ClientPreface) // the next write fails then, too
		frames := http2.NewFramer(conn, conn)
		var block bytes.Buffer
		fields := hpack.NewEncoder(&block)
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: "POST"},
			{Name: ":scheme", Value: "http"},
			{Name: ":path", Value: "/"},
			{Name: ":authority", Value: "localhost"},
			{Name: "content-length", Value: "5"},
		} {
			_ = fields.WriteField(f) // to memory
		}
		if err := errors.Join(
			frames.WriteSettings(),
			frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}),
			frames.WriteData(1, true, []byte(body)),
		); err != nil {
			t.Fatal(err)
		}
		if err := parts.Await(t, "the body's end", errs); err == nil || reasonOf(Fault(err)) != report.ReasonBadRequest {
			t.Errorf("%s than content-length: %v is taken for %s, want %s", name, err, reasonOf(Fault(err)), report.ReasonBadRequest)
		}
		_ = conn.Close() // the server may have
	}
}

// An anObserver keeps the refusals that it is told of.
type anObserver struct {
	report.Observer
	refused []report.Refusal
}

func (o *anObserver) Refused(r report.Refusal) { o.refused = append(o.refused, r) }

// TestBodyThatIsTriedOutIsToldOfOnce, in however many parts it is read.
func TestBodyThatIsTriedOutIsToldOfOnce(t *testing.T) {
	obs := &anObserver{Observer: report.Discard()}
	q := quota.New(report.Quota{DecompressedPerSecond: 1}, report.Quota{}, true, report.NewRefusals(slog.New(slog.DiscardHandler), obs))
	for i := range 3 {
		use := q.Call(quota.NewListenerScope(report.Quota{}), nil, "192.0.2.1:1", nil)
		if err := use.Begin("/a.B/C"); err != nil {
			t.Fatal(err)
		}
		message := append([]byte{0, 0, 1, 0x86, 0xa0}, parts.Pattern(100_000)...)
		m := newReader(nil, 1<<20, "")
		m.Packed = packing.NewBody(iotest.OneByteReader(bytes.NewReader(parts.Gzipped(slices.Concat(message, message, message)))), &use, 1<<20)
		m.Body, m.Use = m.Packed, &use
		for range 3 {
			payload, err := m.Next()
			if err != nil {
				t.Fatal(err)
			}
			payload.Free()
		}
		use.End()
		if got := len(obs.refused); got != 1 {
			t.Fatalf("of call %d the Observer is told %d times, want once", i, got)
		}
		if r := obs.refused[0]; r.Key != "limits.decompressed_bytes_per_second" || !r.ReportOnly {
			t.Errorf("of call %d the Observer is told of %+v", i, r)
		}
		obs.refused = nil
	}
}

// TestCompressedBodyIsExpandedByMessages: one that has begun is expanded whole,
// as where messages are compressed each for itself.
func TestCompressedBodyIsExpandedByMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quota.New(report.Quota{DecompressedPerSecond: 1000}, report.Quota{}, false, report.NewRefusals(slog.New(slog.DiscardHandler), report.Discard()))
		use := q.Call(quota.NewListenerScope(report.Quota{}), nil, "192.0.2.1:1", nil)
		if err := use.Begin("/a.B/C"); err != nil {
			t.Fatal(err)
		}
		message := append([]byte{0, 0, 1, 0x86, 0xa0}, parts.Pattern(100_000)...)
		m := newReader(nil, 1<<20, "")
		m.Packed = packing.NewBody(bytes.NewReader(parts.Gzipped(slices.Concat(message, message))), &use, 1<<20)
		m.Body = m.Packed
		payload, err := m.Next()
		if err != nil {
			t.Fatalf("the first message: %v", err)
		}
		payload.Free()
		_, err = m.Next()
		if f := (*report.Fault)(nil); !errors.As(err, &f) || f.Key != "limits.decompressed_bytes_per_second" {
			t.Errorf("the second message: %v, want it over the limit", err)
		}
		use.End()
	})
}
