package check

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// A rawServer is a service that does with each connection what it wants.
type rawServer struct {
	url  string
	done chan struct{} // closed at the test's end
}

// serveRaw runs handle for each connection, after its request.
func serveRaw(t *testing.T, handle func(s *rawServer, c net.Conn)) *rawServer {
	t.Helper()
	ln := parts.Listen(t, "127.0.0.1:0")
	s := &rawServer{url: "http://" + ln.Addr().String(), done: make(chan struct{})}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				readHead(c)
				handle(s, c)
			})
		}
	})
	t.Cleanup(func() {
		close(s.done)
		ln.Close()
		conns.Wait()
	})
	return s
}

// readHead reads a request without a body.
func readHead(c net.Conn) {
	var head []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); head = append(head, b...) {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// drip writes text again and again, slowly, until the client has gone.
func (s *rawServer) drip(c net.Conn, text string) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-s.done:
			return
		}
	}
}

// flood writes text again and again, until the client has gone.
func flood(c net.Conn, text string) (written int64) {
	text = strings.Repeat(text, 1+(32<<10)/len(text))
	for {
		n, err := io.WriteString(c, text)
		if written += int64(n); err != nil {
			return written
		}
	}
}

// askHTTP asks the service at url once.
func askHTTP(t *testing.T, url string, o Options) (Answer, error) {
	t.Helper()
	checker := closed(t)(NewHTTP(HTTP{URL: url, AnswerNames: []string{"x-user"}}, o))
	defer checker.Close()
	return checker.Check(t.Context(), aCall())
}

// decidedAlone reports whether a call was judged without the service.
func decidedAlone(answer Answer, err error) bool {
	r, refused := errors.AsType[*Refusal](err)
	return answer.Open != nil || refused && r.Kind == Unavailable
}

// TestHostileHTTPServices: each costs its call at most a time-out. Silence is covered by
// fail-open, and nonsense isn't.
func TestHostileHTTPServices(t *testing.T) {
	const short = 50 * time.Millisecond // ends what would last for ever
	say := func(text string) func(*rawServer, net.Conn) {
		return func(_ *rawServer, c net.Conn) { _, _ = io.WriteString(c, text) } // and close
	}
	hold := func(text string) func(*rawServer, net.Conn) {
		return func(s *rawServer, c net.Conn) {
			_, _ = io.WriteString(c, text)
			<-s.done
		}
	}
	for name, c := range map[string]struct {
		timeout time.Duration
		handle  func(*rawServer, net.Conn)
		want    string // "open", "allowed", "denied", or a part of an unusable answer's cause
	}{
		"says nothing":        {short, hold(""), "open"},
		"hangs in its status": {short, hold("HTTP/1."), "open"},
		"hangs in its header": {short, hold("HTTP/1.1 200 OK\r\nX-User: al"), "open"},
		"drips its header": {short, func(s *rawServer, c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-User: ")
			s.drip(c, "a")
		}, "open"},
		"drips informational answers": {short, func(s *rawServer, c net.Conn) { s.drip(c, "HTTP/1.1 103 Early Hints\r\n\r\n") }, ""},
		"closes":                      {0, say(""), "open"},
		"closes in its status":        {0, say("HTTP/1.1 20"), "malformed HTTP status"},
		"closes in its header":        {0, say("HTTP/1.1 200 OK\r\nX-User: alice\r\n"), "open"},
		"speaks another protocol":     {0, say("SSH-2.0-OpenSSH_9.6\r\n\r\n"), "malformed HTTP"},
		"quotes the credential":       {0, say("Bearer abcdefghijkl.mnopqrstuvwx.yz0123456789\r\n\r\n"), "no text that a log may have"},
		"an odd status":               {0, say("HTTP/1.1 9 No\r\n\r\n"), "malformed HTTP status"},
		"a header without a colon":    {0, say("HTTP/1.1 200 OK\r\nX-User\r\n\r\n"), "malformed MIME header"},
		"a name with a blank":         {0, say("HTTP/1.1 200 OK\r\nX User: a\r\nContent-Length: 0\r\n\r\n"), "allowed"},
		"a CR in a value":             {0, say("HTTP/1.1 200 OK\r\nX-User: a\rX-Admin: 1\r\nContent-Length: 0\r\n\r\n"), ""},
		"a NUL in a value":            {0, say("HTTP/1.1 200 OK\r\nX-User: a\x00b\r\nContent-Length: 0\r\n\r\n"), ""},
		"invalid UTF-8":               {0, say("HTTP/1.1 200 OK\r\nX-User: \xff\xfe\r\nContent-Length: 0\r\n\r\n"), "has other bytes"},
		"two lengths":                 {0, say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), ""},
		"a negative length":           {0, say("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), ""},
		"10,000 headers":              {0, say("HTTP/1.1 200 OK\r\n" + strings.Repeat("X-User: a\r\n", 10_000) + "\r\n"), "headers exceeded"},
		"a header of 1 MiB":           {0, say("HTTP/1.1 200 OK\r\nX-User: " + strings.Repeat("a", 1<<20) + "\r\n\r\n"), "headers exceeded"},
		"a header without an end":     {0, func(_ *rawServer, c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-User: "); flood(c, "a") }, "headers exceeded"},
		"informational without end":   {0, func(_ *rawServer, c net.Conn) { flood(c, "HTTP/1.1 103 Early Hints\r\nX-A: a\r\n\r\n") }, ""},
		"switches protocols, hangs":   {0, hold("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"), "the status 101"},
		"hangs in its body, 200":      {short, hold("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), "allowed"},
		"hangs in its body, 403":      {short, hold("HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nno"), "denied"},
		"drips its body": {short, func(s *rawServer, c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 403 No\r\nContent-Length: 4000\r\n\r\n")
			s.drip(c, "a")
		}, "denied"},
		"closes in its body": {0, say("HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nno"), "denied"},
		"a broken chunk":     {0, say("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "denied"},
	} {
		for _, open := range []bool{true, false} {
			s := serveRaw(t, c.handle)
			o := patient()
			o.FailOpen = open
			if c.timeout > 0 {
				o.Timeout = c.timeout
			}
			answer, err := askHTTP(t, s.url, o)
			// On a slow machine even the header may be late.
			for (c.want == "allowed" || c.want == "denied") && decidedAlone(answer, err) && 2*o.Timeout <= MaxTimeout {
				o.Timeout *= 2
				answer, err = askHTTP(t, s.url, o)
			}
			switch c.want {
			case "allowed":
				if err != nil || answer.Open != nil {
					t.Errorf("%s: got %+v, %v", name, answer, err)
				}
				continue
			case "denied":
				if r := asRefusal(t, err); r.Kind != Denied || r.Message != deniedText {
					t.Errorf("%s: got %+v", name, r)
				}
				continue
			case "open":
				if open {
					if err != nil || answer.Open == nil {
						t.Errorf("%s: got %+v, %v", name, answer, err)
					}
					continue
				}
			}
			if err == nil {
				if c.want != "" || answer.Open == nil { // "" may be a time-out
					t.Errorf("%s: got %+v", name, answer)
				}
				continue
			}
			r := asRefusal(t, err)
			if r.Kind != Unavailable || c.want != "open" && !strings.Contains(r.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", name, r, c.want)
			}
			if text := r.Error() + r.Message; strings.Contains(text, "abcdefghijkl") || strings.Contains(text, s.url) || !httpguts.ValidHeaderFieldValue(text) || len(text) > 1000 {
				t.Errorf("%s: the texts are %q", name, text)
			}
		}
	}
}

// TestBodyOfAGiBIsLeft: culvert reads its beginning, and closes the connection.
func TestBodyOfAGiBIsLeft(t *testing.T) {
	for _, code := range []int{200, 403} {
		sent := make(chan int64, 1)
		s := serveRaw(t, func(_ *rawServer, c net.Conn) {
			fmt.Fprintf(c, "HTTP/1.1 %d Text\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", code, 1<<30)
			sent <- flood(c, "a")
		})
		c := closed(t)(NewHTTP(HTTP{URL: s.url}, patient()))
		_, err := c.Check(t.Context(), aCall())
		if code == 200 && err != nil {
			t.Error(err)
		}
		if code == 403 {
			if r := asRefusal(t, err); len(r.Message) > maxMessageBytes || !strings.HasPrefix(r.Message, "aaa") {
				t.Errorf("a message of %d bytes", len(r.Message))
			}
		}
		// The kernel's buffers of both ends take what nobody reads.
		if got := <-sent; got > 64<<20 {
			t.Errorf("%d: %d bytes were sent", code, got)
		}
	}
}

// TestHTTPServiceThatIsGoneAndBack: nobody listens, and then somebody does.
func TestHTTPServiceThatIsGoneAndBack(t *testing.T) {
	ln := parts.Listen(t, "127.0.0.1:0")
	address := ln.Addr().String()
	ln.Close()
	c := closed(t)(NewHTTP(HTTP{URL: "http://" + address}, patient()))
	if _, err := c.Check(t.Context(), aCall()); !strings.Contains(asRefusal(t, err).Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
	var asked atomic.Int64
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	ln = parts.Listen(t, address)
	go func() { served <- server.Serve(ln) }()
	if _, err := c.Check(t.Context(), aCall()); err != nil || asked.Load() != 1 {
		t.Errorf("got %v, asked %d times", err, asked.Load())
	}
	server.Close()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if _, err := c.Check(t.Context(), aCall()); asRefusal(t, err).Kind != Unavailable {
		t.Errorf("got %v", err)
	}
}
