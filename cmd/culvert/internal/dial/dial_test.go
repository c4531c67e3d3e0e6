package dial

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/client"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/parts/box"
)

var ways = []client.Way{client.GRPC, client.WebSocket, client.GRPCWeb}

// whoAmI answers with what the backend sees of the call. The edge tells it what its own name was.
func whoAmI(ss grpc.ServerStream) error {
	if err := ss.RecvMsg(new([]byte)); err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(ss.Context())
	method, _ := grpc.MethodFromServerStream(ss)
	return ss.SendMsg(fmt.Appendf(nil, "%s %q %q %q", method, md["x-forwarded-host"], md["authorization"], md["x"]))
}

// TestAuthorityAndMetadata: the edge sees its own name, and metadata crosses.
func TestAuthorityAndMetadata(t *testing.T) {
	for _, way := range ways {
		t.Run(string(way), func(t *testing.T) {
			edge := startEdge(t, bridge.Config{PathPrefix: "/pre"}, whoAmI)
			address, _ := start(t, Options{Edge: "http://" + edge + "/pre", Client: []client.Option{client.WithWay(way)}})
			cc := connect(t, address)
			var reply []byte
			ctx := metadata.AppendToOutgoingContext(parts.Within(t, parts.Patience), "authorization", "Bearer own", "x", "1")
			if err := cc.Invoke(ctx, "/a.B/C", []byte{}, &reply); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf(`/a.B/C [%q] ["Bearer own"] ["1"]`, edge); string(reply) != want {
				t.Errorf("the backend saw %s, want %s", reply, want)
			}
		})
	}
}

// TestManyStreams: 250 streams at once need several connections, since an edge takes 100 on
// one.
func TestManyStreams(t *testing.T) {
	for _, way := range ways {
		t.Run(string(way), func(t *testing.T) {
			edge := startEdge(t, bridge.Config{}, parts.Echo)
			address, _ := start(t, Options{Edge: "http://" + edge, Client: []client.Option{client.WithWay(way)}})
			cc := connect(t, address)
			var all sync.WaitGroup
			var begun sync.WaitGroup
			begun.Add(250)
			for i := range 250 {
				all.Go(func() {
					s, err := cc.NewStream(parts.Within(t, parts.Patience), bidi, "/a.B/Echo")
					if err != nil {
						t.Error(err)
						begun.Done()
						return
					}
					for n := range 5 {
						sent, came := fmt.Sprint(i, n), []byte(nil)
						if err := errors.Join(s.SendMsg([]byte(sent)), s.RecvMsg(&came)); err != nil || string(came) != sent {
							t.Errorf("stream %d: %q, %v", i, came, err)
							break
						}
						if n == 0 {
							begun.Done()
							begun.Wait() // all at once
						}
					}
					_ = s.CloseSend() // RecvMsg tells
					if err := s.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
						t.Errorf("stream %d ended with %v", i, err)
					}
				})
			}
			all.Wait()
		})
	}
}

// TestCut: calls under way end UNAVAILABLE with a reason, the local connection stays, and new
// calls wait for a way.
func TestCut(t *testing.T) {
	for _, way := range ways {
		t.Run(string(way), func(t *testing.T) {
			edge := startRelay(t, startEdge(t, bridge.Config{}, parts.Echo))
			address, out := start(t, Options{Edge: "http://" + edge.address, Client: []client.Option{client.WithWay(way)}})
			local := startRelay(t, address)
			cc := connect(t, local.address)
			s, err := cc.NewStream(parts.Within(t, parts.Patience), bidi, "/a.B/Echo")
			if err != nil {
				t.Fatal(err)
			}
			var came []byte
			if err := errors.Join(s.SendMsg([]byte("x")), s.RecvMsg(&came)); err != nil {
				t.Fatal(err)
			}
			edge.cut(true)
			err = s.RecvMsg(&came)
			if st := status.Convert(err); st.Code() != codes.Unavailable || parts.ErrorInfo(t, st).GetDomain() != "culvert" {
				t.Errorf("the call under way ended with %v", err)
			}
			again := make(chan error, 1)
			go func() {
				again <- cc.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("y"), &came)
			}()
			parts.Poll(t, func() string {
				if !strings.Contains(out.String(), "no way to") {
					return "it doesn't say that there is no way: " + out.String()
				}
				return ""
			})
			edge.cut(false)
			if err := parts.Await(t, "a new call", again); err != nil || string(came) != "y" {
				t.Errorf("the new call: %q, %v", came, err)
			}
			local.mu.Lock()
			defer local.mu.Unlock()
			if local.total != 1 {
				t.Errorf("%d local connections, want 1", local.total)
			}
		})
	}
}

// TestToken is added on a unix socket that only this user can open, and never on a port.
func TestToken(t *testing.T) {
	edge := startEdge(t, bridge.Config{}, whoAmI)
	token := func(context.Context) (string, error) { return "secret", nil }
	err := Run(t.Context(), Options{Edge: "http://" + edge, Listen: "127.0.0.1:0", Token: token, Out: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "unix socket") {
		t.Errorf("on a port: %v", err)
	}
	path := filepath.Join(t.TempDir(), "s")
	address, out := start(t, Options{Edge: "http://" + edge, Listen: "unix:" + path, Token: token})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	cc := connect(t, address)
	for _, own := range []string{"", "Bearer own"} {
		ctx, want := parts.Within(t, parts.Patience), `["Bearer secret"]`
		if own != "" {
			ctx, want = metadata.AppendToOutgoingContext(ctx, "authorization", own), `["Bearer own"]`
		}
		var reply []byte
		if err := cc.Invoke(ctx, "/a.B/C", []byte{}, &reply); err != nil || !strings.Contains(string(reply), want) {
			t.Errorf("the backend saw %s, %v, want %s", reply, err, want)
		}
	}
	if strings.Contains(out.String(), "secret") {
		t.Error("the token is printed")
	}
}

// TestListen refuses addresses that other machines reach, unless told otherwise.
func TestListen(t *testing.T) {
	err := Run(t.Context(), Options{Edge: "http://127.0.0.1:1", Listen: "0.0.0.0:0", Out: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "--allow-remote") {
		t.Error(err)
	}
	start(t, Options{Edge: "http://127.0.0.1:1", Listen: "0.0.0.0:0", Anybody: true})
}

// TestPages: only native gRPC passes, so that no web page can call through the port.
func TestPages(t *testing.T) {
	edge := startEdge(t, bridge.Config{}, parts.Echo)
	address, _ := start(t, Options{Edge: "http://" + edge})
	for _, kind := range []string{"application/grpc-web+proto", "application/connect+proto", "application/json"} {
		if answer := post(t, "http://"+address+"/a.B/Echo", kind); !strings.Contains(answer, "accepts no calls by") {
			t.Errorf("%s: %q", kind, answer)
		}
	}
}

// post returns the header and the body of an answer.
func post(t testing.TB, url, kind string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(parts.Within(t, parts.Patience), http.MethodPost, url, strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	r.Close = true
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := httputil.DumpResponse(res, true)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// TestSilentWay: a way that goes silent ends its calls, and the next ones take another.
func TestSilentWay(t *testing.T) {
	edge := startEdge(t, bridge.Config{}, parts.Echo)
	for _, way := range []client.Way{client.GRPC, client.GRPCWeb} {
		t.Run(string(way), func(t *testing.T) {
			t.Parallel()
			o := box.Options{Tunnel: true, MaxDown: 30_000}
			if way == client.GRPCWeb {
				o = box.Options{Edge: edge, Upgrade: box.Refused} // it speaks HTTP/1.1
			}
			b := box.Start(t, o)
			options, target := []client.Option{client.WithProxy(b.Proxy)}, edge
			if way == client.GRPCWeb {
				options, target = nil, b.Address
			}
			address, out := start(t, Options{Edge: "http://" + target, Client: options})
			cc := connect(t, address)
			s, err := cc.NewStream(parts.Within(t, parts.Patience), bidi, "/a.B/Echo")
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			for n := 0; err == nil; n++ {
				if n == 3 && way == client.GRPCWeb {
					parts.Poll(t, func() string { // states are told later
						if !strings.Contains(out.String(), "connected by grpc-web") {
							return out.String()
						}
						return ""
					})
					b.Silence()
					begun = time.Now()
				}
				err = errors.Join(s.SendMsg(make([]byte, 5000)), s.RecvMsg(new([]byte)))
			}
			if st := status.Convert(err); st.Code() != codes.Unavailable || parts.ErrorInfo(t, st).GetDomain() != "culvert" {
				t.Errorf("the call ended with %v", err)
			}
			t.Log(time.Since(begun), err)
			err = cc.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("y"), new([]byte))
			if way == client.GRPCWeb { // nothing passes any more
				if st := status.Convert(err); st.Code() != codes.Unavailable || parts.ErrorInfo(t, st).GetDomain() != "culvert" {
					t.Errorf("the next call ended with %v", err)
				}
				return
			}
			if err != nil {
				t.Error(err)
			}
			parts.Poll(t, func() string { // as above
				if ways := regexp.MustCompile(`connected by ([a-z-]+)`).FindAllStringSubmatch(out.String(), -1); len(ways) < 2 || ways[0][1] == ways[1][1] {
					return out.String()
				}
				return ""
			})
		})
	}
}

// TestBoxes: dial carries a conversation wherever HTTP/2, a WebSocket or a streaming POST passes, and
// another one when the box has cut the first.
func TestBoxes(t *testing.T) {
	authority := parts.NewAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{authority.Server(t, "edge.test")}, NextProtos: []string{"h2", "http/1.1"}}
	edge := startEdgeAt(t, bridge.Config{}, bridge.Listener{TLS: config}, parts.Echo)
	// On a busy machine, a way that delivers requests only when they have ended may win at first.
	converse := func(t *testing.T, cc *grpc.ClientConn) (err error) {
		t.Helper()
		parts.Poll(t, func() string {
			if err = parts.Converse(t, cc, 5, 0); status.Code(err) == codes.Unimplemented {
				return err.Error()
			}
			return ""
		})
		return err
	}
	turns := make(chan struct{}, 4) // or they'd make the machine busy
	for _, test := range box.Cases() {
		if test.Way == "" || test.OneWay {
			continue
		}
		t.Run(test.Name, func(t *testing.T) {
			t.Parallel()
			turns <- struct{}{}
			defer func() { <-turns }()
			test.Roots = authority.Pool
			b := box.Start(t, test.Options)
			roots := b.CA
			if test.Tunnel {
				roots = authority.Pool
			}
			address, _ := start(t, Options{Edge: "https://edge.test", Client: []client.Option{
				client.WithProxy(b.Proxy), client.WithConnectTo(edge), client.WithTLS(&tls.Config{RootCAs: roots}),
			}})
			cc := connect(t, address)
			if err := converse(t, cc); err != nil {
				t.Fatal(err)
			}
			if test.Age == 0 || test.Ends == box.Quiet { // TestSilentWay has that
				return
			}
			s, err := cc.NewStream(parts.Within(t, parts.Patience), bidi, "/a.B/Echo")
			if err != nil {
				t.Fatal(err)
			}
			var came []byte
			if err := errors.Join(s.SendMsg([]byte("x")), s.RecvMsg(&came)); err != nil {
				t.Fatal(err)
			}
			b.Cut()
			err = s.RecvMsg(&came)
			if st := status.Convert(err); st.Code() != codes.Unavailable || parts.ErrorInfo(t, st).GetDomain() != "culvert" {
				t.Errorf("the call that was cut: %v", err)
			}
			if err := converse(t, cc); err != nil {
				t.Errorf("after the cut: %v", err)
			}
		})
	}
}

// TestTexts: errors name no setting that dial doesn't have, and no log.
func TestTexts(t *testing.T) {
	frames := map[string]string{
		"/a.B/Large":  "\x00\xff\xff\xff\xff",
		"/a.B/Broken": "\x00\x00\x00\x00\x05abc",
		"/a.B/Header": "\x80\x00\x00\x00\x10grpc-status: 0\r\n",
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1.1 has it
		w.Header().Set("Content-Type", "application/grpc-web+proto")
		if strings.HasPrefix(r.URL.Path, "/a.B/") {
			_, _ = io.Copy(io.Discard, r.Body) // until the half-close
		} else {
			w.Header().Set("Connection", "close") // net/http may panic if it reads the rest of a request itself
		}
		if r.URL.Path == "/a.B/Header" {
			w.Header().Set("X-Large", strings.Repeat("x", 60<<10))
		}
		_, _ = io.WriteString(w, cmp.Or(frames[r.URL.Path], "\x80\x00\x00\x00\x11grpc-status: 12\r\n")) // the client tells
	}))
	t.Cleanup(server.Close)
	address, _ := start(t, Options{Edge: server.URL, Client: []client.Option{client.WithWay(client.GRPCWeb)}})
	cc := connect(t, address)
	large := metadata.Pairs("x-large", strings.Repeat("x", 70<<10))
	for _, c := range []struct {
		method string
		md     metadata.MD
		code   codes.Code
	}{
		{"/a.B/Large", nil, codes.ResourceExhausted},
		{"/a.B/Broken", nil, codes.Unavailable},
		{"/a.B/Header", nil, codes.OK},
		{"/a.B/Broken", large, codes.ResourceExhausted},
		{"/a.B", nil, codes.Unimplemented},
		{"/a.B/Other", nil, codes.Unimplemented},
	} {
		var s grpc.ClientStream
		s, err := cc.NewStream(metadata.NewOutgoingContext(parts.Within(t, parts.Patience), c.md), bidi, c.method)
		if err == nil {
			_ = s.CloseSend() // RecvMsg tells
			if err = s.RecvMsg(new([]byte)); errors.Is(err, io.EOF) {
				err = nil
			}
		}
		t.Log(c.method, err)
		if status.Code(err) != c.code {
			t.Errorf("%s: %v, want %v", c.method, err, c.code)
		}
		for _, setting := range []string{"limits", "Limits", "culvert dial", "log", "--", "()", "raise"} {
			if strings.Contains(status.Convert(err).Message(), setting) {
				t.Errorf("%s names %q: %v", c.method, setting, err)
			}
		}
	}
}

// TestStateLine: an outage is one line, however many attempts it has.
func TestStateLine(t *testing.T) {
	out := &lines{}
	s := newStateLine(out, "E", nil)
	down := client.Status{State: connectivity.TransientFailure, Err: errors.New("down")}
	looking := client.Status{State: connectivity.Connecting}
	for _, status := range []client.Status{looking, down, looking, down, looking, down, {State: connectivity.Ready, Way: client.GRPC, TwoWay: true}, {State: connectivity.Idle}, looking, down} {
		s.show(status)
	}
	s.end()
	s.show(looking)
	want := "looking for a way to E\ndown\nconnected by grpc, 0s\nno connection to E at the moment\nlooking for a way to E\ndown\n"
	if got := out.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	tty := &lines{}
	s = newStateLine(tty, "E", func() int { return 40 })
	s.show(looking)
	s.announce("at %s", "A")
	s.show(down)
	long := strings.Repeat("x", 40)
	s.show(client.Status{State: connectivity.TransientFailure, Err: errors.New(long)})
	s.announce("at %s", "B")
	s.show(client.Status{State: connectivity.TransientFailure, Err: errors.New("\x1b[2J\u009b\n")})
	s.end()
	if got, want := tty.String(), "\r\x1b[Klooking for a way to E\r\x1b[Kat A\nlooking for a way to E\r\x1b[Kdown\r\x1b[K"+long+"\n\r\x1b[Kat B\n\r\x1b[K?[2J??\n"; got != want {
		t.Errorf("on a terminal %q, want %q", got, want)
	}
}

// A stopped terminal takes a few texts, and no more.
type stopped struct {
	left int
	full chan struct{} // closed when it is
	life context.Context
}

func (s *stopped) Write(p []byte) (int, error) {
	if s.left--; s.left >= 0 {
		return len(p), nil
	}
	if s.left == -1 {
		close(s.full)
	}
	<-s.life.Done()
	return 0, s.life.Err()
}

// TestStoppedTerminal: dial ends, whatever its terminal does.
func TestStoppedTerminal(t *testing.T) {
	for left := range 2 {
		t.Run(fmt.Sprint(left), func(t *testing.T) {
			out := &stopped{left, make(chan struct{}), t.Context()}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- Run(ctx, Options{Edge: "http://127.0.0.1:1", Client: []client.Option{client.WithProxy("none")}, Listen: "127.0.0.1:0", Out: out})
			}()
			parts.Await(t, "a text", out.full)
			cancel()
			if err := parts.Await(t, "the end of dial", ended); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWrongPassword: a call waits its 10 s, and the proxy sees the password seldom meanwhile.
func TestWrongPassword(t *testing.T) {
	b := box.Start(t, box.Options{User: "u", Password: "right"})
	address, out := start(t, Options{Edge: "https://edge.test", Client: []client.Option{client.WithProxy("http://u:wrong@" + b.Address)}})
	parts.Poll(t, func() string {
		if !strings.Contains(out.String(), "the user or the password is wrong") {
			return "it doesn't say why there is no way: " + out.String()
		}
		return ""
	})
	if asked := b.Seen(); len(asked) != 1 {
		t.Errorf("the first attempt has asked the proxy %d times: %q", len(asked), asked)
	}
	cc := connect(t, address)
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			err := cc.Invoke(parts.Within(t, parts.Patience), "/a.B/C", []byte{}, new([]byte))
			if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the user or the password is wrong") {
				t.Errorf("a call ended with %v", err)
			}
		})
	}
	calls.Wait()
	if asked := b.Seen(); len(asked) > 6 { // about 0, 1, 2.6, 5.2 and 9.3 s after the first
		t.Errorf("the proxy was asked %d times: %q", len(asked), asked)
	}
}

// TestUnusedConnection: dial doesn't replace one that the edge has ended since nobody used it, until
// a call comes.
func TestUnusedConnection(t *testing.T) {
	for _, way := range []client.Way{client.GRPC, client.WebSocket} {
		t.Run(string(way), func(t *testing.T) {
			r := startRelay(t, startEdge(t, bridge.Config{Limits: bridge.Limits{ConnectionIdleTimeout: 50 * time.Millisecond}}, parts.Echo))
			address, out := start(t, Options{Edge: "http://" + r.address, Client: []client.Option{client.WithWay(way)}})
			parts.Poll(t, func() string {
				if !strings.Contains(out.String(), "no connection to ") {
					return "it has its connection still: " + out.String()
				}
				return ""
			})
			var reply []byte
			if err := connect(t, address).Invoke(parts.Within(t, parts.Patience), "/a.B/C", []byte("x"), &reply); err != nil || string(reply) != "x" {
				t.Errorf("%q, %v", reply, err)
			}
			if n := strings.Count(out.String(), "connected by"); n != 2 {
				t.Errorf("it has connected %d times, want 2: %s", n, out)
			}
		})
	}
}

// TestPath: culvert.v1.Path at the port is the edge's, so that clients and the doctor behind dial
// test the way to the edge.
func TestPath(t *testing.T) {
	for _, way := range ways {
		t.Run(string(way), func(t *testing.T) {
			edge := startEdge(t, bridge.Config{Doctor: true, Version: "of the edge"}, parts.Echo)
			address, _ := start(t, Options{Edge: "http://" + edge, Client: []client.Option{client.WithWay(way)}})
			var reply []byte
			err := connect(t, address).Invoke(parts.Within(t, parts.Patience), "/culvert.v1.Path/Report", []byte{}, &reply)
			if err != nil || !strings.Contains(string(reply), "of the edge") {
				t.Errorf("%q, %v", reply, err)
			}
		})
	}
}

// TestStockServer: a quiet call lasts at a server of grpc-go, which ends connections at the third
// ping within 5 minutes. With regular pings this took 41 s.
func TestStockServer(t *testing.T) {
	t.Parallel()
	// A backend of these tests is such a server.
	backend := parts.StartBackend(t, func(ss grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(ss); method != "/a.B/Echo" {
			return status.Error(codes.Unimplemented, "unknown service")
		}
		return parts.Echo(ss)
	})
	address, _ := start(t, Options{Edge: "http://" + backend, Client: []client.Option{client.WithWay(client.GRPC)}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := connect(t, address).NewStream(ctx, bidi, "/a.B/Echo")
	if err != nil {
		t.Fatal(err)
	}
	var came []byte
	if err := errors.Join(s.SendMsg([]byte("x")), s.RecvMsg(&came)); err != nil {
		t.Fatal(err)
	}
	<-time.After(45 * time.Second) // what doesn't happen has no signal
	if err := errors.Join(s.SendMsg([]byte("y")), s.RecvMsg(&came)); err != nil || string(came) != "y" {
		t.Errorf("%q, %v", came, err)
	}
}
