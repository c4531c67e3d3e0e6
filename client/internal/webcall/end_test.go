package webcall

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/internal/parts"
)

const (
	webHead  = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web+proto\r\nTransfer-Encoding: chunked\r\n"
	pageHead = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
)

// chunk is a chunk of a body that goes on.
func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

func framed(flags byte, payload string) string { return string(parts.Framed(flags, []byte(payload))) }

// TestHeldEnds: a call ends with its status, whether or not the answer's body ever ends.
func TestHeldEnds(t *testing.T) {
	for name, test := range map[string]struct {
		says  string
		reply string
		want  codes.Code
	}{
		"a message and OK":       {webHead + "\r\n" + chunk(framed(0, "a")+framed(0x80, "grpc-status: 0\r\n")), "a", codes.OK},
		"a message, then OK":     {webHead + "\r\n" + chunk(framed(0, "a")) + chunk(framed(0x80, "grpc-status: 0\r\n")), "a", codes.OK},
		"a length that is wrong": {"HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\nContent-Length: 100\r\n\r\n" + framed(0, "a") + framed(0x80, "grpc-status: 0\r\n"), "a", codes.OK},
		"another status":         {webHead + "\r\n" + chunk(framed(0x80, "grpc-status: 5\r\n")), "", codes.NotFound},
		"in the header":          {webHead + "Grpc-Status: 5\r\n\r\n", "", codes.NotFound},
		"and more":               {webHead + "\r\n" + chunk(framed(0x80, "grpc-status: 0\r\n")+framed(0, "b")), "", codes.Internal},
		"a page":                 {pageHead + chunk("<title>No</title>"), "", codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cc := connect(t, test.says)
			var reply []byte
			err := cc.Invoke(parts.Within(t, parts.Patience), "/a.B/C", []byte("x"), &reply)
			if status.Code(err) != test.want || string(reply) != test.reply {
				t.Errorf("%q, %v, want %q and %v", reply, err, test.reply, test.want)
			}
		})
	}
}

// TestHeldMessage: a message arrives while the rest of its answer is held.
func TestHeldMessage(t *testing.T) {
	_, cc := connect(t, webHead+"\r\n"+chunk(framed(0, "a")+framed(0x80, "grpc-status: 0\r\n")[:9]))
	s, err := cc.NewStream(parts.Within(t, parts.Patience), &grpc.StreamDesc{ServerStreams: true}, "/a.B/C")
	if err == nil {
		err = errors.Join(s.SendMsg([]byte("x")), s.CloseSend())
	}
	var reply []byte
	if err == nil {
		err = s.RecvMsg(&reply)
	}
	if err != nil || string(reply) != "a" {
		t.Errorf("%q, %v", reply, err)
	}
}

// TestHeartbeats: frames that are none of the backend's are none of the call's, but for metadata
// that comes late.
func TestHeartbeats(t *testing.T) {
	const (
		beats = "Culvert-Heartbeat: 1\r\n"
		late  = "Culvert-Heartbeat: late\r\n"
	)
	beat, md := framed(0x40, ""), framed(0x40, "x-late: a\r\nx-late: b\r\nk-bin: AA\r\nserver: me\r\n")
	end := framed(0, "a") + framed(0x80, "grpc-status: 0\r\n")
	for name, test := range map[string]struct {
		head, body string
		want       codes.Code
		md         string
	}{
		"between frames":           {"X-Late: c\r\n" + beats, beat + framed(0, "a") + beat + beat + framed(0x80, "grpc-status: 0\r\n"), codes.OK, "[c] []"},
		"late metadata":            {late, beat + beat + md + beat + end, codes.OK, "[a b] [\x00]"},
		"no metadata at all":       {late, beat + end, codes.OK, "[] []"},
		"metadata twice":           {late, md + framed(0x40, "x-late: d\r\n") + end, codes.OK, "[a b] [\x00]"},
		"metadata that isn't late": {beats, md + end, codes.OK, "[] []"},
		"an end after a beat":      {late, beat + framed(0x80, "grpc-status: 5\r\n"), codes.NotFound, "[] []"},
		"nobody has asked":         {"", beat + end, codes.Internal, "[] []"},
		"compressed":               {beats, framed(0x41, "x") + end, codes.Internal, "[] []"},
		"no header block":          {late, framed(0x40, "x\x00") + end, codes.Internal, "[] []"},
		"a block that is too long": {late, "\x40\xff\xff\xff\xff", codes.Internal, "[] []"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cc := connect(t, webHead+test.head+"\r\n"+chunk(test.body))
			var reply []byte
			var header metadata.MD
			err := cc.Invoke(parts.Within(t, parts.Patience), "/a.B/C", []byte("x"), &reply, grpc.Header(&header))
			if got := fmt.Sprint(header["x-late"], header["k-bin"]); status.Code(err) != test.want || err == nil && string(reply) != "a" || got != test.md || header["culvert-heartbeat"] != nil || header["server"] != nil {
				t.Errorf("%q, %v, %v", reply, err, header)
			}
		})
	}
}

// TestHeldProof: an answer proves its way with its status.
func TestHeldProof(t *testing.T) {
	for name, says := range map[string]string{
		"refused":       webHead + "\r\n" + chunk(framed(0x80, "grpc-status: 12\r\n")),
		"in the header": webHead + "Grpc-Status: 12\r\n\r\n",
	} {
		for kind, prove := range map[string]func(*http.Transport, string) error{
			"once": func(trip *http.Transport, url string) error {
				_, err := Once(parts.Within(t, parts.Patience), trip, url, http.Header{"Content-Type": {"application/grpc-web+proto"}})
				return err
			},
			"echo": func(trip *http.Transport, url string) error {
				_, err := Echo(parts.Within(t, parts.Patience), trip, url, http.Header{"Content-Type": {"application/grpc-web+proto"}})
				return err
			},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				trip := new(http.Transport)
				defer trip.CloseIdleConnections()
				if err := prove(trip, serveHeld(t, says)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestMetadataOfAnswers: fields of HTTP don't reach programs, and metadata does.
func TestMetadataOfAnswers(t *testing.T) {
	_, cc := connect(t, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\nContent-Length: 20\r\nAllow: POST\r\nAlt-Svc: clear\r\nStrict-Transport-Security: max-age=1\r\n"+
		"Server: box\r\nVia: 1.1 box\r\nX-Own: 1\r\nAccess-Control-Allow-Origin: *\r\n\r\n"+framed(0x80, "grpc-status: 0\r\n")[:20])
	s, err := cc.NewStream(parts.Within(t, parts.Patience), &grpc.StreamDesc{ServerStreams: true}, "/a.B/C")
	if err == nil {
		err = errors.Join(s.SendMsg([]byte("x")), s.CloseSend())
	}
	if err != nil {
		t.Fatal(err)
	}
	header, err := s.Header() // the end in memory has a date of its own
	if got, want := slices.Sorted(maps.Keys(header)), []string{"content-type", "date", "via", "x-own"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if err := s.RecvMsg(new([]byte)); status.Code(err) == codes.OK {
		t.Errorf("%v", err)
	}
}

// TestClosedServer: a call whose handler begins after Close isn't served: nobody would wait for it.
func TestClosedServer(t *testing.T) {
	s, _ := connect(t, webHead+"\r\n"+chunk(framed(0x80, "grpc-status: 0\r\n")))
	s.Close()
	defer func() {
		if r := recover(); r != http.ErrAbortHandler { //nolint:errorlint // it is a value of recover
			t.Errorf("%v, want %v", r, http.ErrAbortHandler)
		}
	}()
	r := httptest.NewRequest(http.MethodPost, "/a.B/C", nil)
	r.Header.Set("Content-Type", "application/grpc")
	s.ServeHTTP(httptest.NewRecorder(), r)
}

// TestHeldAnswers: messages that wait until they are whole have a bound together. Others are sent
// as they come.
func TestHeldAnswers(t *testing.T) {
	const n = 100 << 10
	message := strings.Repeat("x", n)
	for _, left := range []int64{n, n - 1} {
		var held account
		held.left.Store(left)
		var out strings.Builder
		whole, err := copyMessage(&out, bufio.NewReader(strings.NewReader(message)), n, &held)
		if err != nil || whole != (left == n) || out.String() != message {
			t.Errorf("%d bytes of %d are left: whole %v, %d bytes, %v", left, n, whole, out.Len(), err)
		}
		out.Reset()
		if _, err := copyMessage(&out, bufio.NewReader(strings.NewReader(message[1:])), n, &held); err == nil || (out.Len() == 0) != (left == n) {
			t.Errorf("%d bytes are left, and the message is cut: %d bytes, %v", left, out.Len(), err)
		}
		if got := held.left.Load(); got != left {
			t.Errorf("%d bytes are left behind it, want %d", got, left)
		}
	}
}

// TestClosedProof: an edge that closes the connection is told as that.
func TestClosedProof(t *testing.T) {
	edge := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(edge.Close)
	_, err := Once(parts.Within(t, parts.Patience), new(http.Transport), edge.URL, http.Header{"Content-Type": {"application/grpc-web+proto"}})
	if err == nil || err.Error() != "the connection was closed without an answer" {
		t.Error(err)
	}
}

// TestAtMostOnce: a call isn't made again on another connection after one that was kept has
// carried it, whatever metadata it has.
func TestAtMostOnce(t *testing.T) {
	for _, name := range []string{"idempotency-key", "x-idempotency-key", "x-a"} {
		var requests atomic.Int64
		edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // the client may be gone
			if requests.Add(1) > 1 {
				if r.Header.Get(name) != "77" {
					t.Errorf("%v has no %s", r.Header, name)
				}
				panic(http.ErrAbortHandler) // closes the connection
			}
			w.Header().Set("Content-Type", "application/grpc-web+proto")
			_, _ = io.WriteString(w, framed(0, "a")+framed(0x80, "grpc-status: 0\r\n")) // as above
		}))
		t.Cleanup(edge.Close)
		_, cc := connectTo(t, edge.URL)
		ctx := metadata.AppendToOutgoingContext(parts.Within(t, parts.Patience), name, "77")
		for _, want := range []codes.Code{codes.OK, codes.Unavailable} {
			if err := cc.Invoke(ctx, "/a.B/C", []byte("x"), new([]byte)); status.Code(err) != want {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		if n := requests.Load(); n != 2 {
			t.Errorf("%s: %d requests for two calls", name, n)
		}
	}
}
