package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// speak writes a request to an address and returns the first line of the
// answer, with the headers.
func speak(t *testing.T, address, request string) (*bufio.Reader, string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	return r, strings.TrimSpace(line)
}

func TestInspectorSpeaksHTTP1Alone(t *testing.T) {
	runStage(t, func(_ context.Context, s *stage) {
		proxy := s.proxyListener.Addr().String()
		_, line := speak(t, proxy, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		if want := "HTTP/1.1 505 HTTP Version Not Supported"; line != want {
			t.Errorf("the preface of HTTP/2 is answered %q, want %q", line, want)
		}
		// A client that asks for h2c goes on with HTTP/1.1.
		_, line = speak(t, proxy, fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", proxy))
		if want := "HTTP/1.1 200 OK"; line != want {
			t.Errorf("an upgrade to h2c is answered %q, want %q", line, want)
		}
	})
}

func TestInspectorTakesNoEndlessRequest(t *testing.T) {
	runStage(t, func(_ context.Context, s *stage) {
		c := newChecker(s.proxyListener.Addr().String())
		defer c.client.CloseIdleConnections()
		res, _ := ask(t, c.client, http.MethodPost, "http://"+c.address+"/", strings.NewReader(strings.Repeat("x", maxInspectedBytes+1)))
		if res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %s, want 413", res.Status)
		}
	})
}

func TestInspectorForgetsOldSightings(t *testing.T) {
	p := newInspector(t.Context(), "127.0.0.1:1")
	defer p.close()
	seenFrom := p.watch()
	for i := range maxSightings + 1 {
		p.note(fmt.Sprint(i), "seen")
	}
	if got := seenFrom([]string{"0"}); len(got) != 0 {
		t.Errorf("the oldest of %d is still there: %q", maxSightings+1, got)
	}
	if got := seenFrom([]string{"1", fmt.Sprint(maxSightings)}); len(got) != 2 {
		t.Errorf("got %q, want the two newer ones", got)
	}
}

// A port that is used again belongs to another client.
func TestInspectorTellsClientsOfTheSamePortApart(t *testing.T) {
	p := newInspector(t.Context(), "127.0.0.1:1")
	defer p.close()
	for i := range 2*maxSightings + 1 { // past the point where it forgets
		p.note("reused", "before")
		seenFrom := p.watch()
		if got := seenFrom([]string{"reused"}); len(got) != 0 {
			t.Fatalf("after %d requests: got %q, want none of them", i+1, got)
		}
		p.note("reused", "after")
		if got := seenFrom([]string{"reused"}); !slices.Equal(got, []string{"after"}) {
			t.Fatalf("after %d requests and one: got %q, want the one", i+1, got)
		}
	}
}

// The client keeps an upgraded connection open after the server has closed it.
func TestInspectorClosesOnClientsThatStay(t *testing.T) {
	var lc net.ListenConfig
	behind, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	before, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := newInspector(t.Context(), behind.Addr().String())
	var serving sync.WaitGroup
	serving.Go(func() { _ = p.serve(before) })
	serving.Go(func() {
		conn, err := behind.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			t.Error(err)
		}
		_, _ = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"))
	})
	r, line := speak(t, before.Addr().String(), "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if want := "HTTP/1.1 101 Switching Protocols"; line != want {
		t.Errorf("got %q, want %q", line, want)
	}
	p.close()
	_ = behind.Close() // accepted all it needs
	serving.Wait()
	if _, err := io.Copy(io.Discard, r); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client's connection ends with %v, want its end", err)
	}
}

// The end of the demo ends open conversations with UNAVAILABLE, also behind the
// proxy.
func TestOpenConversationsAreToldOfTheEnd(t *testing.T) {
	ended := make(chan error, 2) // one of each conversation
	runStage(t, func(_ context.Context, s *stage) {
		for _, ln := range []net.Listener{s.pageListener, s.proxyListener} {
			c := newChecker(ln.Addr().String())
			defer c.client.CloseIdleConnections()
			stream, err := dialTurns(t.Context(), c.client, "http://"+c.address, nil)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				_, err := stream.Recv()
				_ = stream.conn.CloseNow() // all was heard
				ended <- err
			}()
		}
	})
	for range cap(ended) {
		if err := <-ended; status.Code(err) != codes.Unavailable {
			t.Errorf("a conversation ended with %v, want UNAVAILABLE", err)
		}
	}
}
