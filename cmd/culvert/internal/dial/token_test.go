package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/client"
	"github.com/culvert-grpc/culvert/internal/guard"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// A tokenFile is a file whose token others replace.
type tokenFile struct {
	t    testing.TB
	path string
}

func newTokenFile(t testing.TB, claims guard.Claims) *tokenFile {
	t.Helper()
	f := &tokenFile{t, filepath.Join(t.TempDir(), "token")}
	f.replace(claims)
	return f
}

func (f *tokenFile) replace(claims guard.Claims) {
	f.t.Helper()
	if err := errors.Join(os.WriteFile(f.path+".new", []byte(claims.Token()), 0o600), os.Rename(f.path+".new", f.path)); err != nil {
		f.t.Error(err)
	}
}

func (f *tokenFile) read(context.Context) (string, error) {
	token, err := os.ReadFile(f.path)
	return string(token), err
}

func until(d time.Duration) float64 { return float64(time.Now().Add(d).UnixMilli()) / 1e3 }

// TestStreamsOutliveTheirToken, on several connections to the edge, if the file gets a newer one.
func TestStreamsOutliveTheirToken(t *testing.T) {
	const life, streams = 6 * time.Second, 5
	edge := startEdge(t, bridge.Config{Authenticator: guard.Guard{}, Limits: bridge.Limits{CallsPerConnection: 3}}, parts.Echo)
	file := newTokenFile(t, guard.Claims{Sub: "ada", Exp: until(life)})
	address, out := start(t, Options{
		Edge: "http://" + edge, Listen: "unix:" + filepath.Join(t.TempDir(), "s"), Token: file.read,
		Client: []client.Option{client.WithWay(client.WebSocket)},
	})
	cc := connect(t, address)
	end := time.Now().Add(3*life + life/2)
	var all sync.WaitGroup
	for i := range streams {
		all.Go(func() {
			if err := echoUntil(t, cc, end); err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
		})
	}
	all.Go(func() {
		for time.Now().Before(end) {
			file.replace(guard.Claims{Sub: "ada", Exp: until(life)})
			<-time.After(life / 6)
		}
	})
	all.Wait()
	if strings.Contains(out.String(), "token") {
		t.Errorf("it prints %s", out)
	}
}

// TestTokenThatIsRefused: the stream goes on until the token expires that it has, and a line tells why.
func TestTokenThatIsRefused(t *testing.T) {
	edge := startEdge(t, bridge.Config{Authenticator: guard.Guard{}}, parts.Echo)
	file := newTokenFile(t, guard.Claims{Sub: "ada", Exp: until(4 * time.Second)})
	address, out := start(t, Options{
		Edge: "http://" + edge, Listen: "unix:" + filepath.Join(t.TempDir(), "s"), Token: file.read,
		Client: []client.Option{client.WithWay(client.WebSocket)},
	})
	ended := make(chan error, 1)
	cc := connect(t, address)
	s, err := cc.NewStream(parts.Within(t, parts.Patience), bidi, "/a.B/Echo")
	if err == nil {
		err = errors.Join(s.SendMsg([]byte("x")), s.RecvMsg(new([]byte)))
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- s.RecvMsg(new([]byte)) }()
	file.replace(guard.Claims{Sub: "eve", Exp: until(time.Hour)})
	parts.Poll(t, func() string {
		if !strings.Contains(out.String(), "running calls end when their token expires, which can't be renewed: ") {
			return "it prints " + out.String()
		}
		return ""
	})
	err = parts.Await(t, "the end of the stream", ended)
	if info := parts.ErrorInfo(t, status.Convert(err)); status.Code(err) != codes.Unauthenticated || info.GetReason() != "TOKEN_EXPIRED" {
		t.Errorf("%v, %v", err, info)
	}
	if strings.Contains(out.String(), guard.Claims{}.Token()[:20]) {
		t.Error("a token is printed")
	}
}

// echoUntil sends numbered messages until then, and wants each one back once.
func echoUntil(t testing.TB, cc grpc.ClientConnInterface, end time.Time) error {
	t.Helper()
	s, err := cc.NewStream(parts.Within(t, parts.Patience), bidi, "/a.B/Echo")
	if err != nil {
		return err
	}
	for i := 0; time.Now().Before(end); i++ {
		sent := fmt.Sprintf("message %d", i)
		var came []byte
		if err := s.SendMsg([]byte(sent)); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err := s.RecvMsg(&came); err != nil {
			return err
		}
		if string(came) != sent {
			return fmt.Errorf("%s came back as %s", sent, came)
		}
		<-time.After(20 * time.Millisecond)
	}
	return s.CloseSend()
}
