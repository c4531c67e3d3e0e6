package docs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

// startWireBackend starts the server of the pages on what is on the wire: /package.Service/Method
// answers a message whose field 1 is "world" with one whose field 1 is "hello
// world"; /package.Service/Fail fails as its example of a header block does.
func startWireBackend(t testing.TB) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:9000")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var request, reply emptypb.Empty // all their fields are unknown ones, kept as they are
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		if method, _ := grpc.MethodFromServerStream(stream); strings.HasSuffix(method, "/Fail") {
			stream.SetTrailer(metadata.Pairs("x-b-bin", "\x00\x01\x02"))
			return status.Error(codes.NotFound, "no café: 100%")
		}
		_, _, n := protowire.ConsumeTag(request.ProtoReflect().GetUnknown())
		text, _ := protowire.ConsumeString(request.ProtoReflect().GetUnknown()[max(n, 1):])
		reply.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "hello "+text))
		return stream.SendMsg(&reply)
	}))
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) }) // until it is stopped
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
}

// An exchange is what a block shows of one HTTP request and its answer.
type exchange struct {
	request, response []string // the lines behind → and ←
}

func parseExchange(text string) (x exchange) {
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		if rest, ok := strings.CutPrefix(l, "→"); ok {
			x.request = append(x.request, strings.TrimSpace(rest))
		} else if rest, ok := strings.CutPrefix(l, "←"); ok {
			x.response = append(x.response, strings.TrimSpace(rest))
		}
	}
	return x
}

var remark = regexp.MustCompile(`\s{2,}.*$`)

// wireBytes are the bytes of a line: JSON, or hexadecimal digits with blanks, or base64,
// without the remark behind them.
func wireBytes(t testing.TB, line string) []byte {
	t.Helper()
	if json.Valid([]byte(line)) && line[0] == '{' {
		return []byte(line)
	}
	line = strings.ReplaceAll(remark.ReplaceAllString(line, ""), " ", "")
	if b, err := hex.DecodeString(line); err == nil {
		return b
	}
	if _, err := base64.StdEncoding.DecodeString(line); err != nil {
		t.Fatalf("neither hexadecimal digits nor base64: %q", line)
	}
	return []byte(line)
}

// runExchange sends what a block shows behind → to culvert, and holds what comes
// back to what it shows behind ←.
func runExchange(t *testing.T, b block) {
	if strings.Contains(b.text, "culvert.demo.v1.Demo") {
		startDemoBackend(t)
	} else {
		startWireBackend(t)
	}
	startCulvert(t)
	x := parseExchange(b.text)
	switch {
	case strings.HasPrefix(x.request[0], ":method"):
		exchangeHTTP2(t, x)
	case strings.HasPrefix(x.request[0], "POST"):
		exchangeHTTP1(t, x)
	default: // bodies alone, of the section's content type
		head := []string{"POST /package.Service/Method HTTP/1.1", "content-type: application/grpc-web-text", ""}
		answer := []string{"HTTP/1.1 200 OK", "content-type: application/grpc-web-text", ""}
		exchangeHTTP1(t, exchange{append(head, x.request...), append(answer, x.response...)})
	}
}

func exchangeHTTP1(t *testing.T, x exchange) {
	conn, err := net.Dial("tcp", "localhost:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second)) // a TCP connection takes one
	head, body := splitExchange(t, x.request)
	request := strings.Join(head, "\r\n") + fmt.Sprintf("\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n", len(body))
	if _, err := conn.Write(append([]byte(request), body...)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	wantHead, wantBody := splitExchange(t, x.response)
	if line := res.Proto + " " + res.Status; line != wantHead[0] {
		t.Errorf("the answer begins with %q, want %q", line, wantHead[0])
	}
	wantHeader(t, res.Header, ": ", wantHead[1:])
	if !bytes.Equal(got, wantBody) {
		t.Errorf("the answer is\n%x %q, want\n%x", got, got, wantBody)
	}
}

// splitExchange splits lines at the empty one into a head and the bytes of a body.
func splitExchange(t testing.TB, lines []string) (head []string, body []byte) {
	t.Helper()
	for i, l := range lines {
		if l != "" {
			continue
		}
		for _, l := range lines[i+1:] {
			body = append(body, wireBytes(t, l)...)
		}
		return lines[:i], body
	}
	t.Fatalf("no empty line in %q", lines)
	return nil, nil
}

func wantHeader(t testing.TB, got http.Header, colon string, want []string) {
	t.Helper()
	for _, f := range want {
		name, value, _ := strings.Cut(f, colon)
		if v := got.Get(name); v != value {
			t.Errorf("%s is %q, want %q", name, v, value)
		}
	}
}

func exchangeHTTP2(t *testing.T, x exchange) {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	var body []byte
	for _, l := range x.request[1:] {
		body = append(body, wireBytes(t, l)...)
	}
	fields := strings.Split(x.request[0], ", ")
	method, path := strings.TrimPrefix(fields[0], ":method "), strings.TrimPrefix(fields[1], ":path ")
	r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost:8080"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields[2:] {
		name, value, _ := strings.Cut(f, " ")
		r.Header.Set(name, value)
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	res.Header.Set(":status", fmt.Sprint(res.StatusCode))
	wantHeader(t, res.Header, " ", strings.Split(x.response[0], ", "))
	last := len(x.response) - 1
	wantHeader(t, res.Trailer, " ", []string{remark.ReplaceAllString(x.response[last], "")})
	var want []byte
	for _, l := range x.response[1:last] {
		want = append(want, wireBytes(t, l)...)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the answer is %x, want %x", got, want)
	}
}

// TestWebSocketExchange holds the bytes in the tables of docs/reference/websockets.md about
// grpc-websockets to a call.
func TestWebSocketExchange(t *testing.T) {
	var shown [][]byte // the client's: data's marker, its frame, half-close; the server's: header, message, trailers
	for _, p := range readPages(t) {
		within := false
		for _, l := range p.prose {
			if p.path != "docs/reference/websockets.md" || strings.HasPrefix(l.text, "## ") {
				within = p.path == "docs/reference/websockets.md" && l.text == "## grpc-websockets"
			}
			if !within || !strings.HasPrefix(l.text, "|") {
				continue
			}
			cells := strings.Split(l.text, "|")
			for _, m := range codeSpan.FindAllStringSubmatch(cells[len(cells)-2], -1) {
				if b, err := hex.DecodeString(strings.ReplaceAll(m[1], " ", "")); err == nil {
					shown = append(shown, b)
				}
			}
		}
	}
	if len(shown) != 6 {
		t.Fatalf("the tables show %x, want six pieces", shown)
	}
	startWireBackend(t)
	startCulvert(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://localhost:8080/package.Service/Method", &websocket.DialOptions{Subprotocols: []string{"grpc-websockets"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }() // closed already if all went well
	for _, m := range [][]byte{[]byte("content-type: application/grpc-web+proto\r\n"), append(bytes.Clone(shown[0]), shown[1]...), shown[2]} {
		if err := ws.Write(ctx, websocket.MessageBinary, m); err != nil {
			t.Fatal(err)
		}
	}
	var got [][]byte
	for {
		_, m, err := ws.Read(ctx)
		if err != nil {
			if code := websocket.CloseStatus(err); code != websocket.StatusNormalClosure {
				t.Errorf("closed with %v, want 1000", code)
			}
			break
		}
		got = append(got, m)
	}
	if len(got) != 3 || got[0][0] != shown[3][0] || !bytes.Equal(got[1], shown[4]) || !bytes.Equal(got[2], shown[5]) {
		t.Errorf("culvert sent %x, want a header, then %x and %x", got, shown[4], shown[5])
	}
}

// wantFrames holds each line of a block to be one whole frame.
func wantFrames(t *testing.T, b block) {
	for l := range strings.Lines(b.text) {
		f := wireBytes(t, strings.TrimSpace(l))
		if len(f) < 5 || int(binary.BigEndian.Uint32(f[1:5])) != len(f)-5 {
			t.Errorf("%x is no whole frame", f)
		}
	}
}

// wantTrailersBlock holds a block to the trailers of a call that fails so.
func wantTrailersBlock(t *testing.T, b block) {
	startWireBackend(t)
	startCulvert(t)
	res, err := http.Post("http://localhost:8080/package.Service/Fail", "application/grpc-web", bytes.NewReader(make([]byte, 5)))
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	got, err := io.ReadAll(res.Body)
	if err != nil || len(got) < 5 {
		t.Fatalf("%x, %v", got, err)
	}
	want := strings.ReplaceAll(strings.ReplaceAll(b.text, "\n", ""), `\r\n`, "\r\n")
	if string(got[5:]) != want {
		t.Errorf("the trailers are %q, want %q", got[5:], want)
	}
}
