package bridge

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/codec"
)

// aLine is a reply in protobuf, and what an event or a line has of it.
const aLine, inJSON = lineHello, `{"text":"hello"}`

// beatBubble serves a route of events or lines in a bubble. It returns a client and how to
// connect without one.
func beatBubble(t *testing.T, framing string, handle func(grpc.ServerStream) error, change func(*Config, *MessageRoute)) (*http.Client, func(context.Context) (net.Conn, error)) {
	t.Helper()
	connect := bareBubble(t, handle, func(c *Config) {
		c.Backend.Descriptors = describedChat(t)
		m := c.Routes[0].Message
		m.Framing, m.Method = framing, "test.Service/Pure"
		if change != nil {
			change(c, m)
		}
	})
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return connect(ctx) }}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, connect
}

// about reports whether a time is that of a beat: culvert looks once a second.
func about(got, want time.Duration) bool { return want <= got && got <= want+2*lookInterval }

// TestHeartbeats: a quiet answer begins after 15 s, and goes on with a comment or an empty
// line. The replies are the same as without heart-beats.
func TestHeartbeats(t *testing.T) {
	for framing, want := range map[string]struct{ beat, reply, end string }{
		FramingSSE:    {":\n", "data: " + inJSON + "\n\n", "event: status\ndata: " + `{"@status":{"code":9,"status":"FAILED_PRECONDITION","message":"late"}}` + "\n\n"},
		FramingNDJSON: {"\n", inJSON + "\n", `{"@status":{"code":9,"status":"FAILED_PRECONDITION","message":"late"}}` + "\n"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			synctest.Test(t, func(t *testing.T) {
				client, _ := beatBubble(t, framing, func(ss grpc.ServerStream) error {
					time.Sleep(50 * time.Second)
					if err := ss.SendMsg([]byte(aLine)); err != nil {
						return err
					}
					time.Sleep(20 * time.Second)
					return status.Error(codes.FailedPrecondition, "late")
				}, nil)
				begun := time.Now()
				r, err := http.NewRequestWithContext(t.Context(), method, "http://culvert/ws/chat", strings.NewReader(map[string]string{http.MethodPost: "{}"}[method]))
				if err != nil {
					t.Fatal(err)
				}
				if method == http.MethodPost {
					r.Header.Set("Content-Type", "application/json")
				}
				res, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); res.StatusCode != http.StatusOK || !about(took, 15*time.Second) {
					t.Errorf("%s %s: answered %d after %v, want 200 after 15 s", method, framing, res.StatusCode, took)
				}
				body := bufio.NewReader(res.Body)
				for at := range 3 {
					line, err := body.ReadString('\n')
					if took := time.Since(begun); line != want.beat || err != nil || !about(took/time.Duration(at+1), 15*time.Second) {
						t.Errorf("%s %s: beat %d is %q, %v after %v", method, framing, at, line, err, took)
					}
				}
				rest, err := io.ReadAll(body)
				if got := blankless(string(rest)); got != blankless(want.reply+want.beat+want.end) || err != nil {
					t.Errorf("%s %s: %q, %v", method, framing, got, err)
				}
				_ = res.Body.Close()
			})
		}
	}
}

// TestNoHeartbeatInBusyAnswers, nor where they are off, and a call that fails before the
// first one has its HTTP status.
func TestNoHeartbeatInBusyAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		pause   time.Duration
		replies int
		every   time.Duration
		err     error
		code    int
		beats   int
	}{
		"busy":            {14 * time.Second, 10, 0, nil, 200, 0},
		"off":             {90 * time.Second, 3, -1, nil, 200, 0},
		"seldom":          {90 * time.Second, 3, time.Minute, nil, 200, 3},
		"fails at once":   {14 * time.Second, 0, 0, status.Error(codes.NotFound, "no"), 404, 0},
		"fails late":      {31 * time.Second, 0, 0, status.Error(codes.NotFound, "no"), 200, 1},
		"fails late, off": {31 * time.Second, 0, -1, status.Error(codes.NotFound, "no"), 404, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			client, _ := beatBubble(t, FramingSSE, func(ss grpc.ServerStream) error {
				for range c.replies {
					time.Sleep(c.pause)
					if err := ss.SendMsg([]byte(aLine)); err != nil {
						return err
					}
				}
				if c.err != nil {
					time.Sleep(c.pause)
				}
				return c.err
			}, func(_ *Config, m *MessageRoute) { m.Heartbeat = c.every })
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://culvert/ws/chat", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			res, body := send(t, client, r)
			events := strings.Count(body, "\n\n")
			if beats := strings.Count(body, ":\n"); res.StatusCode != c.code || beats < c.beats || beats > c.beats+1 || c.beats == 0 && beats > 0 || c.code == 200 && events != c.replies+1 {
				t.Errorf("%s: answered %d with %d beats and %d events: %q", name, res.StatusCode, beats, events, body)
			}
		})
	}
}

// TestHeartbeatOfStalledClients holds up nobody else, and ends as any write to such a client.
func TestHeartbeatOfStalledClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		obs := newObserver()
		client, connect := beatBubble(t, FramingNDJSON, func(ss grpc.ServerStream) error {
			<-ss.Context().Done()
			return ss.Context().Err()
		}, func(c *Config, _ *MessageRoute) {
			c.Observer, c.Limits.SlowConsumerTimeout = obs, 2*time.Minute
		})
		for range 20 { // nobody reads, and a pipe has no buffer
			conn, err := connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, "GET /ws/chat HTTP/1.1\r\nHost: culvert\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
		begun := time.Now()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://culvert/ws/chat", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body := bufio.NewReader(res.Body)
		for at := range 4 {
			if line, err := body.ReadString('\n'); line != "\n" || err != nil || !about(time.Since(begun)/time.Duration(at+1), 15*time.Second) {
				t.Errorf("beat %d is %q, %v after %v", at, line, err, time.Since(begun))
			}
		}
		for range 20 {
			if end := <-obs.ended; end.Reason != "SLOW_CONSUMER" {
				t.Errorf("a stalled call ended as %+v", end)
			}
		}
		if took := time.Since(begun); !about(took, 2*time.Minute+15*time.Second) && took > 3*time.Minute {
			t.Errorf("the stalled calls ended after %v", took)
		}
	})
}

// TestHeartbeatsOverSockets: beats and replies, over both versions of HTTP.
func TestHeartbeatsOverSockets(t *testing.T) {
	t.Parallel() // it waits for beats
	for version, choose := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) }, "HTTP/2": func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		t.Run(strings.ReplaceAll(version, "/", " "), func(t *testing.T) {
			transport := &http.Transport{Protocols: new(http.Protocols)}
			choose(transport.Protocols)
			t.Cleanup(transport.CloseIdleConnections)
			beatsAndReplies(t, transport)
		})
	}
}

func beatsAndReplies(t *testing.T, transport *http.Transport) {
	next := make(chan struct{})
	address := serveJSON(t, FramingSSE, "Pure", func(ss grpc.ServerStream) error {
		for range next {
			if err := ss.SendMsg([]byte(aLine)); err != nil {
				return err
			}
		}
		return nil
	}, func(_ *Config, m *MessageRoute) { m.Heartbeat = time.Nanosecond })
	res, err := transport.RoundTrip(newRequest(t, http.MethodGet, "http://"+address+"/ws/chat", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body := bufio.NewReader(res.Body)
	for range 2 {
		if line, err := body.ReadString('\n'); line != ":\n" || err != nil {
			t.Fatalf("the beat is %q, %v", line, err)
		}
		next <- struct{}{}
		for {
			line, err := body.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line != ":\n" {
				if blankless(line) != blankless("data: "+inJSON+"\n") {
					t.Errorf("the event is %q", line)
				}
				break
			}
		}
		if line, err := body.ReadString('\n'); line != "\n" || err != nil {
			t.Errorf("an event ends with %q, %v", line, err)
		}
	}
	close(next)
	rest, err := io.ReadAll(body)
	if !strings.HasSuffix(blankless(string(rest)), blankless("event: status\ndata: "+`{"@status":{"code":0,"status":"OK"}}`+"\n\n")) || err != nil {
		t.Errorf("the end is %q, %v", rest, err)
	}
}

// TestHeartbeatsOfGRPCWeb: an answer has them if its request asks for them, also before there is
// metadata, which a frame brings then.
func TestHeartbeatsOfGRPCWeb(t *testing.T) {
	const whole, late = 20 * time.Second, 40 * time.Second
	for name, c := range map[string]struct {
		contentType string
		asks        bool
		header      time.Duration // when the backend sends metadata
		begins      time.Duration // when the answer does
		says        string
		beats       int
	}{
		"metadata at once":   {"application/grpc-web+proto", true, 0, 0, codec.HeaderWhole, 5},
		"late metadata":      {"application/grpc-web+proto", true, whole, codec.HeartbeatEvery, codec.HeaderLate, 4},
		"nobody asks":        {"application/grpc-web+proto", false, whole, whole, "", 0},
		"text":               {"application/grpc-web-text+proto", true, whole, whole, "", 0},
		"streams of Connect": {"application/connect+proto", true, whole, whole, "", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			connect := bareBubble(t, func(ss grpc.ServerStream) error {
				time.Sleep(c.header)
				if err := ss.SendHeader(metadata.Pairs("x-late", "a", "x-late", "b", "k-bin", "\x00")); err != nil {
					return err
				}
				time.Sleep(late - c.header)
				if err := ss.SendMsg([]byte("hello")); err != nil {
					return err
				}
				ss.SetTrailer(metadata.Pairs("x-end", "c"))
				return status.Error(codes.NotFound, "no")
			}, func(cfg *Config) { cfg.Routes = nil })
			transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return connect(ctx) }}
			defer transport.CloseIdleConnections()
			body := string(framed(0, []byte("hello")))
			if strings.Contains(c.contentType, "text") {
				body = base64.StdEncoding.EncodeToString([]byte(body))
			}
			r := newRequest(t, http.MethodPost, "http://culvert"+testMethod, body)
			r.Header.Set("Content-Type", c.contentType)
			if c.asks {
				r.Header.Set(codec.Heartbeat, codec.HeartbeatWanted)
			}
			begun := time.Now()
			res, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if took := time.Since(begun); res.StatusCode != http.StatusOK || !about(took, c.begins) || res.Header.Get(codec.Heartbeat) != c.says {
				t.Errorf("%s: answered %d with %q after %v", name, res.StatusCode, res.Header, took)
			}
			if c.says == "" {
				if rest, err := io.ReadAll(res.Body); time.Since(begun) != late || err != nil || len(rest) == 0 {
					t.Errorf("%s: %q, %v after %v", name, rest, err, time.Since(begun))
				}
				return
			}
			md, frames, beats := readBeating(t, res)
			if got := fmt.Sprint(md["X-Late"], md["K-Bin"]); got != "[a b] [AA]" {
				t.Errorf("%s: metadata %s", name, got)
			}
			if beats < c.beats || len(frames) != 2 || frames[0] != `0 "hello"` || !strings.Contains(frames[1], "grpc-status: 5") || !strings.Contains(frames[1], "x-end: c") {
				t.Errorf("%s: %d beats and %q", name, beats, frames)
			}
		})
	}
}

// readBeating reads an answer to its end: its metadata, its frames, and how many heart-beats it has. It is
// never quiet for longer than one lets it be.
func readBeating(t *testing.T, res *http.Response) (md http.Header, frames []string, beats int) {
	t.Helper()
	md = res.Header
	for {
		begun := time.Now()
		f, payload, err := codec.ReadFrame(res.Body, codec.ParseBeatingFrameHeader, 1<<10)
		if errors.Is(err, io.EOF) {
			return md, frames, beats
		}
		if err != nil {
			t.Fatal(err)
		}
		if pause := time.Since(begun); pause > codec.HeartbeatEvery+2*lookInterval {
			t.Errorf("nothing came for %v", pause)
		}
		switch {
		case f.Flags != codec.FlagHeader:
			frames = append(frames, fmt.Sprintf("%x %q", f.Flags, payload))
		case len(payload) == 0:
			beats++
		default:
			block, err := codec.ParseHeaderBlock(payload)
			if err != nil {
				t.Error(err)
			}
			md = http.Header{}
			for field, values := range block {
				md[http.CanonicalHeaderKey(field)] = values
			}
		}
	}
}
