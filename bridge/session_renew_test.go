package bridge

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/path"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// refreshes asks for a new credential, and returns the code of the answer and culvert's reason.
func refreshes(t *testing.T, cc *grpc.ClientConn, token string) (codes.Code, report.Reason) {
	t.Helper()
	var reply []byte
	ctx := within(t, patience)
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	err := cc.Invoke(ctx, path.Refresh, []byte{}, &reply)
	if err == nil && len(reply) > 0 {
		t.Errorf("the reply is %q, want an empty one", reply)
	}
	return status.Code(err), reasonFor(err)
}

// ended waits for the end of a stream and returns culvert's reason for it.
func ended(t *testing.T, stream grpc.ClientStream) report.Reason {
	t.Helper()
	ends := make(chan error, 1)
	go func() { ends <- stream.RecvMsg(new([]byte)) }() // ends with the stream, which the test waits for
	return reasonFor(await(t, "the end of a call", ends))
}

// echoes checks that a running call of echo goes on.
func echoes(t *testing.T, stream grpc.ClientStream, what string) {
	t.Helper()
	var back []byte
	err := stream.SendMsg([]byte("hello"))
	if err == nil {
		err = stream.RecvMsg(&back)
	}
	if err != nil {
		t.Errorf("%s: %v, want it to go on", what, err)
	}
}

// TestRefresh renews the credential of a tunnel: the calls under way go on, later ones get the
// new token, and calls of other callers end when their own tokens expire.
func TestRefresh(t *testing.T) {
	d := &doorman{}
	seen := make(chan string, 16)
	s := newServer(t, Config{Authenticator: d, Backend: Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		seen <- strings.Join(md["authorization"], "+")
		return echo(ss)
	})}})
	cc := dialTunnel(t, serve(t, s), bearer(expiring("alice@home", 2*time.Second)))
	stream := open(within(t, patience), t, cc, testMethod)
	echoes(t, stream, "the call")
	own := open(metadata.AppendToOutgoingContext(within(t, patience), "authorization", "Bearer "+expiring("carol@home", 3500*time.Millisecond)), t, cc, testMethod)
	echoes(t, own, "the call with its own token")
	<-seen
	<-seen
	for token, want := range map[string]report.Reason{
		"":                                   report.ReasonUnauthenticated,
		"junk":                               report.ReasonUnauthenticated,
		"bob@home":                           report.ReasonPermissionDenied,
		"alice@work":                         report.ReasonPermissionDenied,
		expiring("alice@home", -time.Second): report.ReasonUnauthenticated,
	} {
		if _, got := refreshes(t, cc, token); got != want {
			t.Errorf("a refresh with %q: %q, want %s", token, got, want)
		}
	}
	newer := expiring("alice@home", time.Hour)
	if code, reason := refreshes(t, cc, newer); code != codes.OK {
		t.Fatalf("a refresh: %v %s", code, reason)
	}
	if reason := ended(t, own); reason != report.ReasonTokenExpired { // calls were looked at meanwhile
		t.Errorf("the call with its own token ended with %s, want %s", reason, report.ReasonTokenExpired)
	}
	before := d.conns.Load()
	echoes(t, stream, "the call behind the first token's time")
	if err := unary(within(t, patience), cc, testMethod); err != nil {
		t.Errorf("a later call: %v", err)
	}
	if got := await(t, "the later call", seen); got != "Bearer "+newer {
		t.Errorf("the backend gets %q, want the new token", got)
	}
	if d.conns.Load() != before {
		t.Error("it was asked about the connection again")
	}
}

// TestRefreshThatFails: the calls under way end with the old token.
func TestRefreshThatFails(t *testing.T) {
	s := newServer(t, Config{Authenticator: &doorman{}, Backend: Backend{Target: startBackend(t, echo)}})
	cc := dialTunnel(t, serve(t, s), bearer(expiring("alice@home", 1500*time.Millisecond)))
	stream := open(within(t, patience), t, cc, testMethod)
	echoes(t, stream, "the call")
	if _, reason := refreshes(t, cc, "bob@home#99999999999999"); reason != report.ReasonPermissionDenied {
		t.Errorf("a refresh for another one: %s", reason)
	}
	if reason := ended(t, stream); reason != report.ReasonTokenExpired {
		t.Errorf("the call ended with %s, want %s", reason, report.ReasonTokenExpired)
	}
	if code, reason := refreshes(t, cc, "alice@home"); code != codes.OK {
		t.Errorf("a refresh behind the old token's end: %v %s", code, reason)
	}
	if err := unary(within(t, patience), cc, testMethod); err != nil {
		t.Errorf("a call behind it: %v", err)
	}
}

// TestRefreshesAtOnce: each is judged, and the connection has one of the credentials whole.
func TestRefreshesAtOnce(t *testing.T) {
	s := newServer(t, Config{Authenticator: &doorman{}, Backend: startTelling(t, "x-culvert-subject", "authorization")})
	cc := dialTunnel(t, serve(t, s), bearer("alice@home"))
	var calling sync.WaitGroup
	for i := range 20 {
		token := "alice@home"
		if i%2 == 1 {
			token = "mallory@home"
		}
		calling.Go(func() {
			code, _ := refreshes(t, cc, token)
			if want := map[string]codes.Code{"alice@home": codes.OK, "mallory@home": codes.PermissionDenied}[token]; code != want {
				t.Errorf("%s is answered %v, want %v", token, code, want)
			}
		})
		calling.Go(func() {
			if got := asks(within(t, patience), cc, testMethod); got != "alice Bearer alice@home" {
				t.Errorf("meanwhile a call is %q", got)
			}
		})
	}
	calling.Wait()
}

// TestRefreshElsewhere: outside of a tunnel there is no such method, and without an
// Authenticator nothing to renew.
func TestRefreshElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		auth   Authenticator
		opened string
		tunnel bool
		want   codes.Code
		reason report.Reason
	}{
		"outside of a tunnel":                {&doorman{}, "alice@home", false, codes.Unimplemented, report.ReasonNoRoute},
		"outside, without Authenticator":     {nil, "", false, codes.Unimplemented, report.ReasonNoRoute},
		"without an Authenticator":           {nil, "alice@home", true, codes.OK, ""},
		"of an Authenticator of calls alone": {authenticator(func(context.Context, string, Peer, metadata.MD) (*Identity, error) { return nil, nil }), "alice@home", true, codes.Unimplemented, report.ReasonNoRoute},
		"of a tunnel of nobody":              {&doorman{nobody: true}, "", true, codes.PermissionDenied, report.ReasonPermissionDenied},
		"of a tunnel with an invalid token":  {&doorman{}, "junk", true, codes.PermissionDenied, report.ReasonPermissionDenied},
	} {
		s := newServer(t, Config{Authenticator: c.auth, Backend: nowhere, PassPath: true, DenyMethods: []string{"culvert.v1.*/*"}})
		address := serve(t, s)
		header := http.Header{}
		if c.opened != "" {
			header = bearer(c.opened)
		}
		cc := dial(t, address)
		if c.tunnel {
			cc = dialTunnel(t, address, header)
		}
		if code, reason := refreshes(t, cc, "alice@home"); code != c.want || reason != c.reason {
			t.Errorf("%s: %v %s, want %v %s", name, code, reason, c.want, c.reason)
		}
	}
}

// TestRefreshMessage renews the credential of a stream of bare messages, wherever that was.
func TestRefreshMessage(t *testing.T) {
	for name, c := range map[string]struct {
		method   string
		first    bool   // the first message has the token, else the upgrade
		messages string // of the method, before the others
		half     string // behind them
	}{
		"of the upgrade":          {"Method", false, "", ""},
		"of the first message":    {"Method", true, "", ""},
		"behind the half-close":   {"Method", false, "", "bye"},
		"behind the only message": {"Pure", false, "{}", ""},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			obs, got, end := newObserver(), make(chan string, 16), make(chan struct{})
			_, address := serveChat(t, func(ss grpc.ServerStream) error {
				go func() { // ends with the stream
					var m []byte
					for ss.RecvMsg(&m) == nil {
						got <- string(m)
					}
				}()
				select {
				case <-end:
					return nil
				case <-ss.Context().Done():
					return ss.Context().Err()
				}
			}, func(cfg *Config) {
				cfg.Authenticator, cfg.Observer, cfg.Backend.Descriptors = &doorman{}, obs, describedChat(t)
				cfg.Routes = chat(func(r *Route) {
					r.Message.Framing, r.Message.Refresh, r.Message.HalfClose = FramingJSON, "@authorization", "bye"
					r.Message.Method = "test.Service/" + c.method
					if c.first {
						r.Message.FirstMessage = "authorization"
					}
				})
			})
			opens := func(token string) *coder.Conn {
				header := bearer(token)
				if c.first {
					header = nil
				}
				ws := dialMessages(t, address, "/ws/chat", header)
				if c.first {
					say(t, ws, coder.MessageText, "Bearer "+token)
				}
				ws.CloseRead(t.Context()) // it answers the close frame
				return ws
			}
			ws := opens(expiring("alice@home", 2*time.Second))
			if c.messages != "" {
				say(t, ws, coder.MessageText, c.messages)
			}
			say(t, ws, coder.MessageText, `{"@authorization":"Bearer bob@home"}`, `{"@authorization":"Bearer junk"}`, `{"@authorization":"Bearer `+expiring("alice@home", -time.Second)+`"}`)
			if c.half != "" {
				say(t, ws, coder.MessageText, c.half)
			}
			for range 3 {
				if r := await(t, "the refusal", obs.refused); r.Key != report.KeyMessageRefresh {
					t.Errorf("refused by %s, want %s", r.Key, report.KeyMessageRefresh)
				}
			}
			say(t, ws, coder.MessageText, `{"@authorization":"Bearer `+expiring("alice@home", time.Hour)+`"}`)
			opens(expiring("carol@home", 3500*time.Millisecond)) // calls are looked at between its time and the first token's
			if info := await(t, "the other call's end", obs.ended); info.Identity != "carol" || info.Reason != report.ReasonTokenExpired {
				t.Fatalf("the call of %s ended with %s (%s), want carol's to", info.Identity, info.Reason, info.Cause)
			}
			close(end)
			if info := await(t, "the end", obs.ended); info.Code != codes.OK || int(info.MessagesIn) != len(c.messages)/2 {
				t.Errorf("the call ended with %v (%s) behind %d messages, want OK and %q", info.Code, info.Cause, info.MessagesIn, c.messages)
			}
			if len(got) > len(c.messages)/2 {
				t.Errorf("the backend got the message %q", <-got)
			}
		})
	}
}

// TestRefreshMessageOverApply: the Authenticator in force judges the new credential, and none that was
// told that nobody asks it any more.
func TestRefreshMessageOverApply(t *testing.T) {
	for name, first := range map[string]bool{"of the upgrade": false, "of the first message": true} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			obs, began, end := newObserver(), make(chan struct{}, 2), make(chan struct{})
			old, next := &doorman{retired: make(chan struct{})}, &doorman{}
			var cfg Config
			s, address := serveChat(t, func(ss grpc.ServerStream) error {
				began <- struct{}{}
				select {
				case <-end:
					return nil
				case <-ss.Context().Done():
					return ss.Context().Err()
				}
			}, func(c *Config) {
				c.Authenticator, c.Observer, c.Backend.Descriptors = old, obs, describedChat(t)
				c.Routes = chat(func(r *Route) {
					r.Message.Framing, r.Message.Refresh, r.Message.Method = FramingJSON, "@authorization", "test.Service/Method"
					if first {
						r.Message.FirstMessage = "authorization"
					}
				})
				cfg = *c
			})
			opens := func(token string) *coder.Conn {
				header := bearer(token)
				if first {
					header = nil
				}
				ws := dialMessages(t, address, "/ws/chat", header)
				if first {
					say(t, ws, coder.MessageText, "Bearer "+token)
				}
				ws.CloseRead(t.Context()) // it answers the close frame
				await(t, "the call", began)
				return ws
			}
			ws := opens(expiring("alice@home", 3*time.Second))
			next.fails.Store(true)
			cfg.Authenticator = next
			apply(t, s, cfg)
			await(t, "the retirement", old.retired)
			asked := old.conns.Load()

			say(t, ws, coder.MessageText, `{"@authorization":"Bearer `+expiring("alice@home", time.Hour)+`"}`)
			if r := await(t, "the refusal", obs.refused); r.Key != report.KeyMessageRefresh || r.Reason != report.ReasonAuthUnavailable {
				t.Errorf("refused by %s with %s, want %s with the next one's %s", r.Key, r.Reason, report.KeyMessageRefresh, report.ReasonAuthUnavailable)
			}
			next.fails.Store(false)
			say(t, ws, coder.MessageText, `{"@authorization":"Bearer `+expiring("alice@home", time.Hour)+`"}`, `{"@authorization":"Bearer junk"}`)
			await(t, "the refusal of what follows the renewal", obs.refused)
			opens(expiring("carol@home", 4500*time.Millisecond)) // calls are looked at between its time and the first token's
			if info := await(t, "the other call's end", obs.ended); info.Identity != "carol" || info.Reason != report.ReasonTokenExpired {
				t.Fatalf("the call of %s ended with %s (%s), want carol's to", info.Identity, info.Reason, info.Cause)
			}
			close(end)
			if info := await(t, "the end", obs.ended); info.Code != codes.OK {
				t.Errorf("the call ended with %v (%s), want OK", info.Code, info.Cause)
			}
			if n := old.conns.Load() - asked; n > 0 {
				t.Errorf("the Authenticator that was replaced is asked %d times behind its retirement", n)
			}
		})
	}
}

// TestRefreshMessageIsOff: without the key, or an Authenticator, nothing is renewed.
func TestRefreshMessageIsOff(t *testing.T) {
	for name, refresh := range map[string]string{"off": "", "without an Authenticator": "@authorization"} {
		obs := newObserver()
		_, address := serveChat(t, parts.Echo, func(cfg *Config) {
			cfg.Observer, cfg.Backend.Descriptors = obs, describedChat(t)
			cfg.Routes = chat(func(r *Route) {
				r.Message.Method, r.Message.Framing, r.Message.Refresh, r.Message.HalfClose = "test.Service/Method", FramingJSON, refresh, "bye"
			})
		})
		ws := dialMessages(t, address, "/ws/chat", nil)
		say(t, ws, coder.MessageText, `{"@authorization":"Bearer alice@home"}`, "bye")
		for {
			_, _, err := ws.Read(t.Context())
			var told coder.CloseError
			if errors.As(err, &told) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		want := int64(1)
		if refresh != "" {
			want = 0
		}
		if info := await(t, "the end", obs.ended); info.MessagesIn != want || info.Code != codes.OK {
			t.Errorf("%s: %d messages reached the backend, and then %v; want %d and OK", name, info.MessagesIn, info.Code, want)
		}
	}
}

// TestExpiryOfBareMessages is told in the form of each framing.
func TestExpiryOfBareMessages(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	begins := func(ss grpc.ServerStream) error {
		if err := ss.SendMsg([]byte("\x0a\x05hello")); err != nil {
			return err
		}
		<-ss.Context().Done()
		return ss.Context().Err()
	}
	const said = "the credential of this call has expired"
	info := base64.RawStdEncoding.EncodeToString([]byte("\x0a\x0d" + report.ReasonTokenExpired)) // the beginning of an ErrorInfo
	t.Run("socket", func(t *testing.T) {
		t.Parallel()
		_, address := serveChat(t, begins, func(c *Config) { c.Authenticator = &doorman{} })
		ws := dialMessages(t, address, "/ws/chat", bearer(expiring("alice@home", 2*time.Second)))
		hears(t, ws, coder.MessageBinary, "\x0a\x05hello")
		closes(t, ws, 4016, "TOKEN_EXPIRED: "+said)
	})
	for framing, want := range map[string][2]string{
		FramingNDJSON: {`{"text":"hello"}` + "\n" + `{"@status":{"code":16,"status":"UNAUTHENTICATED",`, "\n"},
		FramingSSE:    {`data: {"text":"hello"}` + "\n\nevent: status\n" + `data: {"@status":{"code":16,"status":"UNAUTHENTICATED",`, "\n\n"},
	} {
		t.Run(framing, func(t *testing.T) {
			t.Parallel()
			address := serveJSON(t, framing, "Pure", begins, func(c *Config, _ *MessageRoute) { c.Authenticator = &doorman{} })
			res, body := request(t, http.MethodGet, "http://"+address+"/ws/chat", "", "Authorization", "Bearer "+expiring("alice@home", 2*time.Second))
			body = strings.ReplaceAll(body, `": "`, `":"`)
			if res.StatusCode != http.StatusOK || !strings.HasPrefix(body, want[0]) || !strings.HasSuffix(body, want[1]) || !strings.Contains(body, said) || !strings.Contains(body, info) {
				t.Errorf("answered %d %q", res.StatusCode, body)
			}
		})
	}
}

// TestExpiryOverApply: running calls keep the verdict that let them in until it ends, whatever
// judges the calls behind them.
func TestExpiryOverApply(t *testing.T) {
	for name, next := range map[string]Authenticator{
		"another one":              &doorman{},
		"one that refuses":         refuser{status.Error(codes.PermissionDenied, "not you")},
		"without an Authenticator": nil,
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			cfg := Config{Authenticator: &doorman{}, Backend: Backend{Target: startBackend(t, echo)}}
			s := newServer(t, cfg)
			address := serve(t, s)
			token := expiring("alice@home", 3*time.Second)
			tunnel := dialTunnel(t, address, bearer(token))
			native := open(metadata.AppendToOutgoingContext(within(t, patience), "authorization", "Bearer "+token), t, dial(t, address), testMethod)
			inTunnel := open(within(t, patience), t, tunnel, testMethod)
			echoes(t, native, "the call")
			echoes(t, inTunnel, "the call of the tunnel")
			cfg.Authenticator = next
			apply(t, s, cfg)
			echoes(t, native, "the call behind Apply")
			echoes(t, inTunnel, "the call of the tunnel behind Apply")
			for _, stream := range []grpc.ClientStream{native, inTunnel} {
				if reason := ended(t, stream); reason != report.ReasonTokenExpired {
					t.Errorf("it ended with %s, want %s", reason, report.ReasonTokenExpired)
				}
			}
		})
	}
}
