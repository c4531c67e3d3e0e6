package websocket

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	coder "github.com/coder/websocket"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// TestHandshakeOfTheLibrary: the answers to good and bad handshakes are those of another
// library, byte for byte, beside the Connection: close of refusals.
func TestHandshakeOfTheLibrary(t *testing.T) {
	const (
		get     = "GET / HTTP/1.1\r\nHost: a\r\n"
		upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
		version = "Sec-WebSocket-Version: 13\r\n"
		key     = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	)
	own, library := answers(t, handshake), answers(t, libraryHandshake)
	for name, request := range map[string]string{
		"plain":                     get + upgrade + version + key,
		"the protocol":              get + upgrade + version + key + "Sec-WebSocket-Protocol: test\r\n",
		"the protocol, in a list":   get + upgrade + version + key + "Sec-WebSocket-Protocol: a,, TEST ,b\r\nSec-WebSocket-Protocol: test\r\n",
		"another protocol":          get + upgrade + version + key + "Sec-WebSocket-Protocol: tests\r\n",
		"an extension":              get + upgrade + version + key + "Sec-WebSocket-Extensions: permessage-deflate\r\n",
		"lists of tokens":           get + "Connection: keep-alive, UPGRADE\r\nUpgrade: h2c\r\nUpgrade: WebSocket\r\n" + version + key,
		"a page's":                  get + upgrade + version + key + "Origin: https://elsewhere.example\r\n",
		"blanks around the key":     get + upgrade + version + "Sec-WebSocket-Key:  \tdGhlIHNhbXBsZSBub25jZQ== \r\n",
		"no version":                get + upgrade + key,
		"an unknown version":        get + upgrade + "Sec-WebSocket-Version: 8\r\n" + key,
		"no key":                    get + upgrade + version,
		"two keys":                  get + upgrade + version + key + key,
		"an empty key":              get + upgrade + version + "Sec-WebSocket-Key:\r\n",
		"a short key":               get + upgrade + version + "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n",
		"a long key":                get + upgrade + version + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZXM=\r\n",
		"a key that isn't base64":   get + upgrade + version + "Sec-WebSocket-Key: <script>\"'&\r\n",
		"a key without its padding": get + upgrade + version + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n",
	} {
		if got, want := own(request+"\r\n"), library(request+"\r\n"); got != want {
			t.Errorf("%s:\n%s\nthe library answers\n%s", name, got, want)
		}
	}
}

func handshake(w http.ResponseWriter, r *http.Request) {
	ws, err := Accept(w, r, Options{
		Subprotocol: rules.FindToken(r.Header["Sec-Websocket-Protocol"], "test"), Pool: mem.DefaultBufferPool(),
		Refused: func() { w.Header().Set("Connection", "close") },
	})
	if err == nil {
		ws.Drop()
	}
}

func libraryHandshake(w http.ResponseWriter, r *http.Request) {
	ws, err := coder.Accept(closing{w}, r, &coder.AcceptOptions{
		Subprotocols: []string{"test"}, InsecureSkipVerify: true, CompressionMode: coder.CompressionDisabled,
	})
	if err == nil {
		_ = ws.CloseNow() // the test sees what was sent
	}
}

// closing has the connections of refused requests close.
type closing struct{ http.ResponseWriter }

func (c closing) WriteHeader(code int) {
	if code != http.StatusSwitchingProtocols {
		c.Header().Set("Connection", "close")
	}
	c.ResponseWriter.WriteHeader(code)
}

func (c closing) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// answers returns a function that sends a request to the handler, and returns all that comes
// back but the time.
func answers(t *testing.T, h http.HandlerFunc) func(request string) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	date := regexp.MustCompile(`(?m)^Date: .*$`)
	return func(request string) string {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		return date.ReplaceAllString(string(all), "Date:")
	}
}

// TestServerThatCannotUpgrade: its ResponseWriter has no Hijack.
func TestServerThatCannotUpgrade(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		r.Header.Set(name, value)
	}
	answer := httptest.NewRecorder()
	handshake(answer, r)
	if answer.Code != http.StatusNotImplemented || answer.Header().Get("Connection") != "close" {
		t.Errorf("answered %d with Connection %q, want 501 and close", answer.Code, answer.Header().Get("Connection"))
	}
}
