package demo

import (
	"fmt"
	"io"
	"log"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/demo/demopb"
)

// maxPeerText is how many characters of a peer's text a line shows.
const maxPeerText = 100

// terminal writes the demo's lines. It is safe for concurrent use.
type terminal struct {
	out    *log.Logger
	colour bool
}

func newTerminal(w io.Writer, colour bool) *terminal {
	return &terminal{out: log.New(w, "", 0), colour: colour}
}

// A paint is an ANSI colour.
type paint string

const (
	green paint = "\x1b[32m"
	red   paint = "\x1b[31m"
	bold  paint = "\x1b[1m"
	faint paint = "\x1b[2m"
)

func (t *terminal) in(p paint, text string) string {
	if !t.colour || text == "" {
		return text
	}
	return string(p) + text + "\x1b[0m"
}

// welcome prints the addresses. The first URL is the page's.
func (t *terminal) welcome(s *stage) {
	page, backend := dialable(s.pageListener.Addr()), s.backendListener.Addr().String()
	proxy, backendProxy := dialable(s.proxyListener.Addr()), dialable(s.backendProxyListener.Addr())
	for _, text := range s.replaced {
		t.out.Println(text)
	}
	t.out.Printf(`
  %s   open this page and flip its switch

  culvert  %-21s  gRPC, gRPC-Web, Connect, JSON, gRPC over WebSocket, HTTP/2 in a WebSocket
  backend  %-21s  the example service, a plain grpc-go server
  proxy    %-21s  culvert behind an inspecting proxy that speaks only HTTP/1.1
  proxy    %-21s  the backend behind the same kind of proxy

  Try next
    grpcurl -plaintext %s list
    grpcurl -plaintext -d '{"from": 3}' %s %s/Countdown
    grpcurl -plaintext %s list      # fails: the proxy breaks HTTP/2
    culvert serve --backend %s --listen 127.0.0.1:0
    culvert demo --check

  The terminal shows each call when it ends. Press Ctrl-C to stop.
`, t.in(bold, "http://"+page+"/"), page, backend, proxy, backendProxy, page, page, demopb.Demo_ServiceDesc.ServiceName, backendProxy, backend)
}

// A Call is a call that has ended.
type Call struct {
	Transport, Method       string
	Status                  *status.Status
	Duration                time.Duration
	MessagesIn, MessagesOut int64 // from the client; to it
	BytesIn, BytesOut       int64
}

// A Refusal reports what culvert refused. The reason is culvert's; the other
// fields are a peer's text.
type Refusal struct{ Reason, Peer, Detail string }

func (t *terminal) call(c Call) {
	colour, text := green, ""
	if c.Status.Code() != codes.OK {
		colour, text = red, "  "+printable(c.Status.Message())
	}
	t.event(colour, codeName(c.Status.Code()), fmt.Sprintf("%-15s  %s  %s%s", c.Transport, printable(strings.TrimPrefix(c.Method, "/")),
		t.in(faint, fmt.Sprintf("↑ %d msg %s  ↓ %d msg %s  %s", c.MessagesIn, byteCount(c.BytesIn), c.MessagesOut, byteCount(c.BytesOut), c.Duration.Round(time.Millisecond))), text))
}

func (t *terminal) refused(r Refusal) {
	t.event(red, r.Reason, printable(r.Peer)+"  "+printable(r.Detail))
}

func (t *terminal) event(colour paint, word, text string) {
	t.out.Printf("  %s  %s  %s", t.in(faint, time.Now().Format(time.TimeOnly)), t.in(colour, fmt.Sprintf("%-19s", word)), text)
}

func (t *terminal) check(name, detail string, err error) {
	if err != nil {
		t.out.Printf("%s %s: %s", t.in(red, "✗"), name, printable(err.Error()))
		return
	}
	t.out.Printf("%s %s%s", t.in(green, "✓"), name, t.in(faint, "  "+printable(detail)))
}

// printable makes a peer's text safe for a terminal. It escapes characters that
// could move the cursor or change colours or the writing direction, and it
// truncates the text.
func printable(text string) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > maxPeerText {
			b.WriteString("…")
			break
		}
		if unicode.IsPrint(r) { // excludes controls, format characters, odd blanks
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.String()
}

// codeName returns the code's name in the protocol, such as INVALID_ARGUMENT.
func codeName(c codes.Code) string { return code.Code(c).String() }

func byteCount(n int64) string {
	const kib = 1 << 10
	switch {
	case n < kib:
		return fmt.Sprintf("%d B", n)
	case n < kib*kib:
		return fmt.Sprintf("%.1f KiB", float64(n)/kib)
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/kib/kib)
	}
}
