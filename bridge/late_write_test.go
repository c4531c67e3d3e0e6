package bridge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/fallback"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// A slowListener has the connections of a busy machine: each write begins late.
type slowListener struct {
	net.Listener
	writing *slowWriting
}

type slowWriting struct {
	delay  atomic.Int64 // of each write, a time.Duration
	writes atomic.Int64 // but those of an acknowledgement alone
}

const acknowledgement = "\x00\x00\x00\x04\x01\x00\x00\x00\x00" // of SETTINGS. RFC 9113 §6.5

type slowConn struct {
	net.Conn
	of *slowWriting
}

func (l slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return slowConn{c, l.writing}, err
}

func (c slowConn) Write(p []byte) (int, error) {
	if len(p) > len(acknowledgement) {
		c.of.writes.Add(1)
	}
	<-time.After(time.Duration(c.of.delay.Load()))
	return c.Conn.Write(p)
}

// slowBubble serves calls in a bubble, over HTTP/2 with net/http's own if standard. It returns
// the server, and a client. writing has the server's writes.
func slowBubble(t *testing.T, http2, standard bool, writing *slowWriting, handle func(grpc.ServerStream) error) (*Server, *http.Client) {
	t.Helper()
	backend, front := parts.ListenPipe(t), parts.ListenPipe(t)
	stop := parts.ServeBackend(t, backend, handle)
	cfg := Config{StandardHTTP2: standard, Backend: Backend{
		Target: "passthrough:///slow", Dial: func(ctx context.Context, _ string) (net.Conn, error) { return backend.DialContext(ctx) },
	}}
	s := newServer(t, cfg)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(slowListener{front, writing}) }) // it always returns the error of a closed server
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	client := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return front.DialContext(ctx) }}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		_ = s.Close()
		_ = front.Close()
		serving.Wait()
		stop()
	})
	return s, &http.Client{Transport: client}
}

// slowCall makes a call of one message, and returns the replies and the code that it ended
// with.
func slowCall(t *testing.T, client *http.Client, contentType, timeout string) (replies int, code string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://culvert"+testMethod, bytes.NewReader(framed(0, []byte("hello"))))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Te", "trailers")
	r.Header.Set("Grpc-Timeout", timeout)
	res, err := client.Do(r)
	if err != nil {
		t.Errorf("%s: %v", contentType, err)
		return 0, ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("%s: %q and then %v", contentType, body, err)
		return 0, ""
	}
	code = res.Header.Get("Grpc-Status") + res.Trailer.Get("Grpc-Status")
	if _, text, ok := bytes.Cut(body, []byte("grpc-status:")); ok {
		line, _, _ := strings.Cut(string(text), "\r\n")
		code = strings.TrimSpace(line)
	}
	return bytes.Count(body, []byte("reply")), code
}

// TestLateWritesHaveAStatus: where culvert can't see whether a write waits for its client or
// only for a busy machine, the end of a call doesn't cut it before 5 s.
func TestLateWritesHaveAStatus(t *testing.T) {
	reply := func(ss grpc.ServerStream) error {
		_ = ss.SendHeader(nil) // SendMsg returns the error
		<-time.After(900 * time.Millisecond)
		return ss.SendMsg([]byte("reply"))
	}
	for name, c := range map[string]struct {
		handle  func(ss grpc.ServerStream) error
		evicted bool
		want    string // the replies and the code
	}{
		"a message is being written": {func(ss grpc.ServerStream) error {
			if err := reply(ss); err != nil {
				return err
			}
			return hold(ss)
		}, false, "1 4"},
		"the end is being written": {func(grpc.ServerStream) error {
			<-time.After(900 * time.Millisecond)
			return status.Error(codes.Aborted, "its own end")
		}, false, "0 10"},
		"nothing was written": {hold, false, "0 4"},
		"it ends to free memory": {func(ss grpc.ServerStream) error {
			if err := reply(ss); err != nil {
				return err
			}
			return hold(ss)
		}, true, "1 8"},
	} {
		for _, over := range []struct {
			http2       bool
			contentType string
		}{{true, "application/grpc"}, {true, "application/grpc-web+proto"}, {false, "application/grpc-web+proto"}} {
			t.Run(fmt.Sprintf("%s/%s http2=%v", name, over.contentType, over.http2), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var writing slowWriting
					s, client := slowBubble(t, over.http2, true, &writing, c.handle)
					if over.http2 { // its SETTINGS cross before
						slowCall(t, client, over.contentType, "100m")
					}
					time.AfterFunc(800*time.Millisecond, func() { writing.delay.Store(int64(3 * time.Second)) })
					if c.evicted {
						time.AfterFunc(time.Second, func() {
							for _, r := range s.registry.list() {
								r.Evict()
							}
						})
					}
					replies, code := slowCall(t, client, over.contentType, map[bool]string{false: "1S", true: "1M"}[c.evicted])
					if got := fmt.Sprint(replies, " ", code); got != c.want {
						t.Errorf("replies and code %q, want %q", got, c.want)
					}
				})
			})
		}
	}
}

// TestLateWriteLeavesNoDeadline for the next call on its connection.
func TestLateWriteLeavesNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writing slowWriting
		_, client := slowBubble(t, false, true, &writing, func(grpc.ServerStream) error {
			<-time.After(900 * time.Millisecond)
			return status.Error(codes.Aborted, "its own end")
		})
		time.AfterFunc(800*time.Millisecond, func() { writing.delay.Store(int64(3 * time.Second)) })
		for range 2 {
			if _, code := slowCall(t, client, "application/grpc-web+proto", "1S"); code != "10" {
				t.Errorf("the call ended with %q, want 10", code)
			}
			writing.delay.Store(0)
			<-time.After(50 * time.Second) // less than limits.connection_idle_timeout
		}
	})
}

// A deadlines is a ResponseWriter that remembers the last write deadline.
type deadlines struct {
	http.ResponseWriter
	write time.Time
}

func (*deadlines) SetReadDeadline(time.Time) error { return nil }

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.write = at
	return nil
}

// TestCutOfWebRequestLeavesNoDeadline on its connection, which may go on.
func TestCutOfWebRequestLeavesNoDeadline(t *testing.T) {
	w := &deadlines{}
	r := &http.Request{ProtoMajor: 1}
	x := &fallbackExchange{a: &arrival{caller: caller{s: newServer(t, Config{Backend: nowhere})}}, rc: http.NewResponseController(w), r: r, body: new(fallback.Body)}
	x.cut()
	if w.write.IsZero() {
		t.Fatal("the cut sets no deadline")
	}
	x.liftCut()
	if !w.write.IsZero() {
		t.Errorf("the deadline %v stays", w.write)
	}
}

// TestEndsBehindAShutWindow: a client that opens no window, and so gets none of a reply, is
// told why the call ended, if its protocol has the status in trailers. Otherwise the status
// would need a window, too.
func TestEndsBehindAShutWindow(t *testing.T) {
	for name, c := range map[string]struct {
		contentType string
		evicted     bool // else its deadline passes
		ends        bool // the backend has ended the call
		replies     int  // that the window lets through
		want        string
	}{
		"gRPC, at the deadline":                  {"application/grpc", false, false, 0, "trailers 4"},
		"gRPC, to free memory":                   {"application/grpc", true, false, 0, "trailers 8"},
		"gRPC, to free memory, behind replies":   {"application/grpc", true, false, 2, "trailers 8"},
		"gRPC, ended, at the deadline":           {"application/grpc", false, true, 0, "trailers 4"},
		"gRPC, ended, to free memory":            {"application/grpc", true, true, 0, "trailers 8"},
		"gRPC-Web, at the deadline":              {"application/grpc-web+proto", false, false, 0, "reset"},
		"gRPC-Web, to free memory":               {"application/grpc-web+proto", true, false, 0, "reset"},
		"gRPC-Web, ended, to free memory":        {"application/grpc-web+proto", true, true, 0, "reset"},
		"Connect, to free memory":                {"application/connect+proto", true, false, 0, "reset"},
		"gRPC-Web, at the deadline, and a reply": {"application/grpc-web+proto", false, false, 1, "reset"},
	} {
		for _, size := range []int{10, 3 << 10, 40 << 10} {
			t.Run(fmt.Sprintf("%s/%d bytes", name, size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, client := slowBubble(t, true, false, new(slowWriting), func(ss grpc.ServerStream) error {
						for range 5 {
							if err := ss.SendMsg(make([]byte, size)); err != nil {
								return err
							}
						}
						if c.ends {
							return nil
						}
						return hold(ss)
					})
					if c.evicted {
						time.AfterFunc(30*time.Second, func() {
							for _, r := range s.registry.list() {
								r.Evict()
							}
						})
					}
					conn, err := client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					got, body := callBehindWindow(t, conn, c.contentType, map[bool]string{false: "30S", true: "1H"}[c.evicted], uint32(c.replies*(codec.FrameHeaderBytes+size)))
					if got != c.want || body != c.replies*(codec.FrameHeaderBytes+size) {
						t.Errorf("it ended with %s behind %d bytes, want %s behind %d replies", got, body, c.want, c.replies)
					}
				})
			})
		}
	}
}

// callBehindWindow makes a call over HTTP/2 that has this window, for good. It returns its end
// and the number of bytes before it.
func callBehindWindow(t *testing.T, conn net.Conn, contentType, timeout string, window uint32) (end string, body int) {
	t.Helper()
	var block, out bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", testMethod},
		{":authority", "localhost"},
		{"content-type", contentType},
		{"te", "trailers"},
		{"grpc-timeout", timeout},
	} {
		_ = fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // to memory
	}
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	send := func() {
		if _, err := conn.Write(out.Bytes()); err != nil {
			t.Fatal(err)
		}
		out.Reset()
	}
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})                      // to memory
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}) // to memory
	_ = framer.WriteWindowUpdate(0, 1<<20)                                                                        // to memory
	_ = framer.WriteData(1, true, framed(0, []byte("hello")))                                                     // to memory
	send()
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return err.Error(), body
		}
		switch f := f.(type) {
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = framer.WritePing(true, f.Data) // to memory
				send()
			}
		case *http2.DataFrame:
			body += len(f.Data())
			if f.StreamEnded() {
				return "a whole answer", body
			}
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				for _, f := range f.Fields {
					if f.Name == "grpc-status" {
						return "trailers " + f.Value, body
					}
				}
				return "trailers without a status", body
			}
		case *http2.RSTStreamFrame:
			return "reset", body
		}
	}
}

// TestOwnEndBehindTheDeadline: a backend's end passes if its replies do, although the deadline
// passes while they wait for the client.
func TestOwnEndBehindTheDeadline(t *testing.T) {
	for want, end := range map[string]error{"trailers 0": nil, "trailers 10": status.Error(codes.Aborted, "its own end")} {
		for _, size := range []int{10, 40 << 10} {
			synctest.Test(t, func(t *testing.T) {
				_, client := slowBubble(t, true, false, new(slowWriting), func(ss grpc.ServerStream) error {
					_ = ss.SendMsg(make([]byte, size)) // the client's end fails if it is missing
					return end
				})
				conn, err := client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				time.AfterFunc(time.Second+writeGrace/2, func() {
					var out bytes.Buffer
					_ = http2.NewFramer(&out, nil).WriteWindowUpdate(1, 1<<20) // to memory
					_, _ = conn.Write(out.Bytes())                             // to memory
				})
				got, body := callBehindWindow(t, conn, "application/grpc", "1S", 0)
				if got != want || body != codec.FrameHeaderBytes+size {
					t.Errorf("%d bytes: it ended with %s behind %d bytes, want %s", size, got, body, want)
				}
			})
		}
	}
}

// TestUnaryAnswersAreOneWrite over HTTP/2, whatever the protocol. On a busy machine, culvert may see
// a backend's message before its end, and those take two.
func TestUnaryAnswersAreOneWrite(t *testing.T) {
	const calls = 20
	for _, contentType := range []string{"application/grpc", "application/grpc-web+proto", "application/proto", "application/connect+proto"} {
		var writing slowWriting
		for range calls {
			synctest.Test(t, func(t *testing.T) {
				_, client := slowBubble(t, true, false, &writing, func(ss grpc.ServerStream) error {
					if err := ss.RecvMsg(new([]byte)); err != nil {
						return err
					}
					return ss.SendMsg([]byte("reply"))
				})
				conn, err := client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if got, _ := callBehindWindow(t, conn, contentType, "1S", 1<<10); got != "trailers 0" && got != "a whole answer" {
					t.Errorf("%s: it ended with %s", contentType, got)
				}
			})
		}
		if answers := writing.writes.Load() - calls; answers > 2*calls-3 { // calls are those of SETTINGS
			t.Errorf("%s: %d answers were written in %d pieces", contentType, calls, answers)
		}
	}
}

// TestRefusalsBehindAShutWindow: a refused call isn't counted, so nothing ends its wait for a window
// but a deadline.
func TestRefusalsBehindAShutWindow(t *testing.T) {
	for contentType, want := range map[string]string{
		"application/grpc":           "trailers 14",
		"application/grpc-web+proto": "reset",
		"application/proto":          "reset",
		"application/connect+proto":  "reset",
	} {
		synctest.Test(t, func(t *testing.T) {
			s, client := slowBubble(t, true, false, new(slowWriting), hold)
			s.refusing.Store(true)
			conn, err := client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			began := time.Now()
			got, body := callBehindWindow(t, conn, contentType, "1H", 0)
			if took := time.Since(began); got != want || body > 0 || took > closeTimeout {
				t.Errorf("%s ended with %s after %v, want %s within %v", contentType, got, took, want, closeTimeout)
			}
		})
	}
}
