package bridge

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coder/websocket"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// A slowDoorman answers about each call after a time.
type slowDoorman struct {
	after  time.Duration
	answer error
}

func (d *slowDoorman) Authenticate(ctx context.Context, _ *AuthRequest) (*Identity, error) {
	select {
	case <-time.After(d.after):
		return nil, d.answer
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// callFrames are those of a client's connection with a call of testMethod.
func callFrames() []byte {
	var b, block strings.Builder
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	fields := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", testMethod}, {":authority", "a"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		_ = fields.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) // a Builder takes all
	}
	_ = f.WriteSettings() // as above
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true})
	return []byte(b.String())
}

// TestProbation: a tunnel closes 10 s after its opening, unless a call of it was let pass. A call
// that is being judged then decides.
func TestProbation(t *testing.T) {
	const hello = http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	refused := status.Error(codes.Unauthenticated, "no")
	for name, c := range map[string]struct {
		say    []byte
		auth   Authenticator
		change func(*Config)
		at     time.Duration // 0: it stays
	}{
		"without an Authenticator":       {callFrames(), nil, nil, 0},
		"without a call":                 {[]byte(hello), &slowDoorman{}, nil, probationTime},
		"with a call that passes":        {callFrames(), &slowDoorman{}, nil, 0},
		"with a call that passes late":   {callFrames(), &slowDoorman{after: 25 * time.Second}, nil, 0},
		"with a call that is refused":    {callFrames(), &slowDoorman{answer: refused}, nil, probationTime},
		"with one that is refused late":  {callFrames(), &slowDoorman{after: 25 * time.Second, answer: refused}, nil, 25 * time.Second},
		"with one that would be refused": {callFrames(), &slowDoorman{answer: refused}, func(cfg *Config) { cfg.TryAuthenticator = true }, 0},
		"without a call, tried out":      {[]byte(hello), &slowDoorman{}, func(cfg *Config) { cfg.TryAuthenticator = true }, 0},
		"by net/http's HTTP/2":           {[]byte(hello), &slowDoorman{}, func(cfg *Config) { cfg.StandardHTTP2 = true }, probationTime},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				obs := newObserver()
				cfg := Config{Backend: nowhere, Authenticator: c.auth, Observer: obs, Limits: Limits{ConnectionIdleTimeout: -1, SlowSenderTimeout: -1}}
				if c.change != nil {
					c.change(&cfg)
				}
				s := newServer(t, cfg)
				ln := pipes{make(chan net.Conn)}
				hs := &http.Server{}
				s.ConfigureHTTP(hs)
				var serving sync.WaitGroup
				serving.Go(func() { _ = hs.Serve(ln) }) // ends with Close
				defer serving.Wait()
				defer hs.Close()
				conn, far := net.Pipe()
				ln.conns <- far
				end := wstest.Open(t, conn, "/", tunnelName)
				start := time.Now()
				end.Send(t, wstest.Binary, c.say)
				const patient = 35 * time.Second                                  // no ping comes then
				defer time.AfterFunc(patient, func() { _ = conn.Close() }).Stop() // net.Pipe's has no error
				var inside strings.Builder
				for {
					op, _, payload, err := end.Next()
					if err != nil {
						if c.at > 0 || time.Since(start) != patient {
							t.Fatalf("after %v: %v", time.Since(start), err)
						}
						return
					}
					if op == wstest.Ping {
						end.Send(t, wstest.Pong, payload)
					}
					if op == wstest.Binary {
						inside.Write(payload)
					}
					if op != wstest.Close {
						continue
					}
					if code, text := websocket.StatusCode(binary.BigEndian.Uint16(payload)), string(payload[2:]); code != websocket.StatusPolicyViolation || text != unproved.Text {
						t.Errorf("it is closed with %d %q, want %d %q", code, text, websocket.StatusPolicyViolation, unproved.Text)
					}
					break
				}
				if took := time.Since(start); c.at == 0 || took < c.at || took > c.at+2*time.Second {
					t.Errorf("it is closed after %v, want %v", took, c.at)
				}
				if told := strings.Contains(inside.String(), unproved.Text); told == cfg.StandardHTTP2 {
					t.Errorf("the goodbye of HTTP/2 says why: %v", told)
				}
				end.Send(t, wstest.Close, []byte{0x03, 0xe8})
				_ = conn.Close()
				synctest.Wait()
				info := <-obs.conns
				if !info.Tunnel { // the connection under it, which ends at the same time
					info = <-obs.conns
				}
				if info.Ended != report.EndedUnauthenticated {
					t.Errorf("the Observer is told of the end of %+v, want %s", info, report.EndedUnauthenticated)
				}
			})
		})
	}
}

// TestProbationOfCalls: the last of several calls that are judged decides, of those that began in
// time, and each order of the events ends once. F and P are of calls that didn't.
func TestProbationOfCalls(t *testing.T) {
	for events, want := range map[string]int{
		"":         0,
		"t":        1,
		"ttt":      1,
		"bft":      1,
		"btf":      1,
		"btp":      0,
		"bpt":      0,
		"bbtff":    1,
		"bbtfp":    0,
		"bbtpf":    0,
		"bbftf":    1,
		"bbpft":    0,
		"et":       0,
		"bte":      0,
		"btef":     0,
		"tbP":      1,
		"bptbFt":   0,
		"btbFf":    1,
		"btbPf":    0,
		"btbfbFbF": 1, // always one more
	} {
		closed, out := 0, false
		p := newProbation(func() { closed++ })
		for _, event := range events {
			switch event {
			case 'b':
				if inTime := p.begin(); inTime == out {
					t.Errorf("%q: a call began in time: %v", events, inTime)
				}
			case 'f', 'p':
				p.end(true, event == 'p')
			case 'F', 'P':
				p.end(false, event == 'P')
			case 't':
				p.runOut()
				out = true
			case 'e':
				p.pass()
			}
		}
		p.pass()
		if closed != want {
			t.Errorf("%q closes it %d times, want %d", events, closed, want)
		}
	}
}
