package websocket

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

const (
	interval = 20 * time.Second // of pings
	patience = 10 * time.Second // for an answer
)

// pair returns a WebSocket as the server has it, and the client's end of the
// connection under it, of which the kernel would hold so many bytes.
func pair(t testing.TB, holds int) (*Conn, *wstest.Client) { return pairWith(t, holds, nil) }

func pairWith(t testing.TB, holds int, closed func(net.Conn)) (*Conn, *wstest.Client) {
	t.Helper()
	ws, c := wstest.Pair(t, holds, "test", func(w http.ResponseWriter, r *http.Request) (*Conn, error) {
		return Accept(w, r, Options{Subprotocol: "test", Pool: mem.DefaultBufferPool(), Refused: func() { t.Error("the upgrade is refused") }, Closed: closed})
	})
	t.Cleanup(ws.Drop) // a test may have closed it
	return ws, c
}

// readAll reads as an owner does, until the connection ends.
func readAll(ws *Conn) {
	for {
		if _, err := ws.NextMessage(); err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, ws) // what comes next has the error
	}
}

// elapse lets a bubble's time pass, and what it sets off happen.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestClosingIsBounded, whatever the client does, and told once.
func TestClosingIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		client func(t *testing.T, c *wstest.Client)
		want   time.Duration
	}{
		"a client that answers": {func(t *testing.T, c *wstest.Client) {
			c.WantClose(t, StatusNormalClosure)
			c.Send(t, wstest.Close, []byte{0x03, 0xe8})
		}, 0},
		"a client that says nothing": {func(t *testing.T, c *wstest.Client) { c.WantClose(t, StatusNormalClosure) }, patience},
		"a client inside a message": {func(t *testing.T, c *wstest.Client) {
			if _, err := c.Write(wstest.Masked(wstest.Binary, make([]byte, 100))[:50]); err != nil {
				t.Error(err)
			}
			c.WantClose(t, StatusNormalClosure)
		}, patience},
		"a client that sends for ever": {func(t *testing.T, c *wstest.Client) {
			for {
				if _, err := c.Write(wstest.Masked(wstest.Binary, make([]byte, 100))); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		}, patience},
		"a client that is gone": {func(_ *testing.T, c *wstest.Client) { _ = c.Close() }, 0},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				closed := 0
				ws, end := pairWith(t, 1<<20, func(net.Conn) { closed++ })
				var client sync.WaitGroup
				client.Go(func() { c.client(t, end) })
				start := time.Now()
				ws.Close(StatusNormalClosure, "", patience, inNoHurry)
				if got := time.Since(start); got != c.want {
					t.Errorf("it took %v, want %v", got, c.want)
				}
				ws.Drop() // again is fine
				if closed != 1 {
					t.Errorf("the owner was told %d times, want once", closed)
				}
				if _, err := ws.NetConn().Write([]byte("x")); err == nil {
					t.Error("the connection under it is open")
				}
				client.Wait()
			})
		})
	}
}

// TestDropIsAtOnce, with a reader and a writer blocked.
func TestDropIsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := pair(t, 1<<10)
		var blocked sync.WaitGroup
		blocked.Go(func() { readAll(ws) })
		blocked.Go(func() {
			if err := ws.WriteMessage(Binary, nil, false, make([]byte, 8<<10)); err == nil {
				t.Error("a message that nobody takes was written")
			}
		})
		if _, err := c.Write(wstest.Masked(wstest.Binary, make([]byte, 100))[:50]); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		start := time.Now()
		ws.Drop()
		blocked.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// TestRefusedUpgradeIsTold before its answer's header goes out: it has to be the
// last request of its connection.
func TestRefusedUpgradeIsTold(t *testing.T) {
	for name, request := range map[string]string{
		"no upgrade":         "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"no key":             "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
		"an unknown version": "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
	} {
		answer := httptest.NewRecorder()
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
		if err != nil {
			t.Fatal(err)
		}
		if ws, err := Accept(answer, r, Options{
			Subprotocol: "test", Pool: mem.DefaultBufferPool(),
			Refused: func() { answer.Header().Set("Connection", "close") },
		}); err == nil {
			ws.Drop()
			t.Errorf("%s: it was accepted", name)
		}
		if answer.Code/100 != 4 || answer.Result().Header.Get("Connection") != "close" {
			t.Errorf("%s: answered %d with Connection %q, want an error and close", name, answer.Code, answer.Result().Header.Get("Connection"))
		}
	}
}

func inNoHurry() bool { return false }
