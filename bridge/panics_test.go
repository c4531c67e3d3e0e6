package bridge

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// A lockedBuffer is a bytes.Buffer for a logger.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// panicLog returns a logger, and a function that waits for a panic's line with these parts.
func panicLog(t *testing.T, s func() *Server) (*slog.Logger, func(parts ...string)) {
	var log lockedBuffer
	return slog.New(slog.NewTextHandler(&log, nil)), func(wants ...string) {
		t.Helper()
		parts.Poll(t, func() string {
			if s().Snapshot().Panics == 0 {
				return "no panic is counted"
			}
			for _, want := range append(wants, `level=ERROR msg="culvert panicked"`, "stack=") {
				if !strings.Contains(log.String(), want) {
					return "the log has no " + want + ": " + log.String()
				}
			}
			return ""
		})
	}
}

// TestPanicInHandshakeIsLogged: net/http recovers it, and tells only its ErrorLog.
func TestPanicInHandshakeIsLogged(t *testing.T) {
	var s *Server
	log, logged := panicLog(t, func() *Server { return s })
	s = newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Logger: log})
	ln := listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	serving.Go(func() {
		config := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { panic("no such name") }, MinVersion: tls.VersionTLS12}
		if err := s.ServeListener(ln, Listener{TLS: config}); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = s.Close() // again, in newServer's cleanup
		serving.Wait()
	})
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	if c, err := d.DialContext(within(t, patience), "tcp", ln.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("the handshake succeeded")
	}
	logged(`panic="no such name"`, "peer=127.0.0.1", "readClientHello")
}

// TestPanicInAnEmbeddersHandler: the fallback's, over both versions of HTTP.
func TestPanicInAnEmbeddersHandler(t *testing.T) {
	var s *Server
	log, logged := panicLog(t, func() *Server { return s })
	s = newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Logger: log, Fallback: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("no such page") })})
	address := serve(t, s)
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(h2.CloseIdleConnections)
	for i, client := range []*http.Client{{Transport: &http.Transport{DisableKeepAlives: true}}, {Transport: h2}} {
		r, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, "http://"+address+"/page", nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := client.Do(r); err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			t.Errorf("an answer came: %s, %v", res.Status, err)
		}
		if got := s.Snapshot().Panics; got != int64(i+1) {
			t.Errorf("%d panics are counted, want %d", got, i+1)
		}
	}
	logged(`panic="no such page"`)
	if err := unary(within(t, patience), dial(t, address), testMethod); err != nil {
		t.Errorf("a call: %v", err)
	}
}

// TestPanicBeforeTheCall: the call's protocol tells it.
func TestPanicBeforeTheCall(t *testing.T) {
	var s *Server
	log, logged := panicLog(t, func() *Server { return s })
	s = newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Logger: log})
	ln := listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	serving.Go(func() {
		l := Listener{LoopbackOnly: true, Serves: func(string) bool { panic("no such certificate") }}
		if err := s.ServeListener(ln, l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = s.Close() // again, in newServer's cleanup
		serving.Wait()
	})
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	cc := dial(t, ln.Addr().String(), grpc.WithAuthority("name.example:"+port))
	wantInternal(t, unary(within(t, patience), cc, testMethod))
	logged(`panic="no such certificate"`)
	poll(t, func() string {
		if n := s.policy.Load().users.n.Load(); n != 1 {
			return "a user of the policy is left"
		}
		return ""
	})
}

// A badHandler is a Logger's handler that panics.
type badHandler struct{ slog.Handler }

func TestLoggerThatPanics(t *testing.T) {
	s := newServer(t, Config{
		Backend: Backend{Target: startBackend(t, echo)}, Logger: slog.New(badHandler{}), DenyMethods: []string{"test.Denied/*"},
		Authenticator: panickyAuthenticator{},
	})
	cc := dial(t, serve(t, s))
	wantInternal(t, unary(within(t, patience), cc, testMethod))
	if got := s.Snapshot().Panics; got < 2 {
		t.Errorf("%d panics are counted, want those of the Authenticator and of the Logger", got)
	}
}

func (badHandler) Enabled(context.Context, slog.Level) bool { return true }

func (badHandler) Handle(context.Context, slog.Record) error { panic("no log") }

func (h badHandler) WithAttrs([]slog.Attr) slog.Handler { panic("no attributes") }

type panickyAuthenticator struct{}

// Authenticate implements Authenticator.
func (panickyAuthenticator) Authenticate(context.Context, *AuthRequest) (*Identity, error) {
	panic("no identity")
}

// wantInternal wants culvert's INTERNAL.
func wantInternal(t *testing.T, err error) {
	t.Helper()
	st := status.Convert(err)
	if info := errorInfo(t, st); st.Code() != codes.Internal || info.GetReason() != string(report.ReasonInternal) {
		t.Errorf("%v with %v, want INTERNAL", st, info)
	}
}

// TestLookThatPanics ends the call that it was at, and looks at the others.
func TestLookThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryOf(Limits{MaxAge: 5 * time.Second})
		g.panics = report.NewPanics(slog.New(slog.DiscardHandler))
		broken, brokenCtx := watchBy(t, g, 0, nil) // the look takes them for set
		other, otherCtx := watch(t, g)
		<-brokenCtx.Done()
		if cause := context.Cause(brokenCtx); !report.IsPanic(cause) || reasonOf(cause) != report.ReasonInternal {
			t.Errorf("the call ended with %v, want INTERNAL", cause)
		}
		g.remove(broken)
		<-otherCtx.Done()
		if cause := context.Cause(otherCtx); reasonOf(cause) != report.ReasonMaxAge {
			t.Errorf("the other call ended with %v, want %s", cause, report.ReasonMaxAge)
		}
		g.remove(other)
		if got := g.panics.Count(); got == 0 {
			t.Error("no panic is counted")
		}
	})
}

// TestSessionThatPanics ends with the poll that waits for it. The agent's next poll begins
// another one.
func TestSessionThatPanics(t *testing.T) {
	defer StageSteps()()
	s, address := serveAgents(t, parts.Echo, nil)
	p := &StagePanics{s: s}
	stagePanics.Store(s, p)
	for i, stage := range []string{"Recv", "SendHeader", "Send"} {
		m := fromAgent(byte(i), "hello")
		p.Arm(stage)
		res, err := http.DefaultClient.Do(newPoll(t, address, m))
		if err == nil {
			_ = res.Body.Close()
		}
		if err != nil || res.StatusCode != http.StatusInternalServerError {
			t.Errorf("%s: %v, %v, want 500", stage, res, err)
		}
		poll(t, func() string {
			now := s.Snapshot()
			if hits := p.Hits(); hits != int64(i+1) || now.Panics != hits {
				return fmt.Sprintf("%s: %d panics, of which %d are counted", stage, hits, now.Panics)
			}
			if n := s.polls.Sessions(); n != i {
				return fmt.Sprintf("%s: %d sessions of %d agents", stage, n, i)
			}
			return p.Left()
		})
		p.Arm("")
		polled(t, newPoll(t, address, m), m)
	}
}

// TestSessionsEndThatPanics: a session whose end panics is removed, and the agent's next
// poll begins another.
func TestSessionsEndThatPanics(t *testing.T) {
	defer StageSteps()()
	s, address := serveAgents(t, func(ss grpc.ServerStream) error {
		for {
			var m []byte
			if err := ss.RecvMsg(&m); err != nil || bytes.Contains(m, []byte("last")) {
				return err
			}
			if err := ss.SendMsg(m); err != nil {
				return err
			}
		}
	}, nil)
	p := &StagePanics{s: s, of: func(c *call) bool { return c.on == nil }} // not those of polls
	stagePanics.Store(s, p)
	first, last := fromAgent(0, "hello"), fromAgent(0, "last")
	for _, stage := range []string{"Finish", "Abort", "end"} {
		polled(t, newPoll(t, address, first), first)
		before := p.Hits()
		p.Arm(stage)
		if got := do(t, newPoll(t, address, last)); got.code != http.StatusInternalServerError && stage != "end" {
			t.Errorf("%s: %d %q, want 500", stage, got.code, got.body)
		}
		poll(t, func() string {
			if hits, n := p.Hits(), s.Snapshot().Panics; hits == before || n != hits {
				return fmt.Sprintf("%s: %d panics, %d before, and %d are counted", stage, hits, before, n)
			}
			if n := s.polls.Sessions(); n != 0 {
				return fmt.Sprintf("%s: %d sessions are left", stage, n)
			}
			return p.Left()
		})
		p.Arm("")
	}
	polled(t, newPoll(t, address, first), first)
}
