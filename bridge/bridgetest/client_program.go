package bridgetest

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// A Program is a client in another process, such as a page. It makes the calls that it is
// told to make through a WebSocket (e2e/node/scenarios.js):
//
//   - to it: the number of an order, its verb in a byte, and the number of the client or
//     the call that it is for (both numbers have four bytes), and its argument;
//   - from it: the number of the order, how it went in a byte, and the result.
type Program struct {
	conn *websocket.Conn

	mu    sync.Mutex
	last  uint32 // of the orders, clients and calls
	waits map[uint32]chan answer
	err   error // nil while the program is there
}

// An answer is what came of an order.
type answer struct {
	kind byte
	body []byte
}

// The verbs of orders.
const (
	orderClient  = 'n' // argument: culvert's URL
	orderRelease = 'd' // of a client
	orderOpen    = 'o' // argument: a programCall in JSON
	orderSend    = 's' // argument: a message
	orderEnd     = 'c' // the half-close
	orderHeader  = 'h' // result: fields in JSON
	orderReceive = 'r' // result: a message, or the end
	orderCancel  = 'x'
)

// The kinds of answers.
const (
	answerDone   = '+'
	answerFailed = '-' // result: why
	answerOver   = '.' // result: a programEnd in JSON
)

type programCall struct {
	Client   uint32      `json:"client"`
	Method   string      `json:"method"`
	Metadata [][2]string `json:"metadata"` // in base64 for -bin
	Millis   float64     `json:"millis"`   // 0: there is no deadline
}

type programEnd struct {
	Code    uint32      `json:"code"`
	Message string      `json:"message"`
	Trailer [][2]string `json:"trailer"`
	Details []struct {
		Type  string `json:"type"`
		Value []byte `json:"value"`
	} `json:"details"`
}

// NewProgram returns the program at the other end of the connection. It ends with the
// connection.
func NewProgram(conn *websocket.Conn) *Program {
	conn.SetReadLimit(-1) // it is the test's own
	p := &Program{conn: conn, waits: map[uint32]chan answer{}}
	go p.read()
	return p
}

func (p *Program) read() {
	for {
		_, b, err := p.conn.Read(context.Background())
		if err == nil && len(b) < 5 {
			err = fmt.Errorf("an answer of %d bytes", len(b))
		}
		p.mu.Lock()
		if err != nil {
			p.err = err
			for _, wait := range p.waits {
				close(wait)
			}
			p.waits = nil
			p.mu.Unlock()
			return
		}
		number := binary.BigEndian.Uint32(b)
		wait := p.waits[number]
		delete(p.waits, number)
		p.mu.Unlock()
		if wait != nil { // nobody has given it up
			wait <- answer{b[4], b[5:]}
		}
	}
}

// number returns a number that nothing else has.
func (p *Program) number() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	return p.last
}

// order tells the program what to do and waits for what comes of it.
func (p *Program) order(ctx context.Context, verb byte, of uint32, argument []byte) (answer, error) {
	number, wait := p.number(), make(chan answer, 1)
	p.mu.Lock()
	if p.err != nil {
		p.mu.Unlock()
		return answer{}, p.err
	}
	p.waits[number] = wait
	p.mu.Unlock()
	b := append(binary.BigEndian.AppendUint32(nil, number), verb)
	b = append(binary.BigEndian.AppendUint32(b, of), argument...)
	// A Write whose context ends would close the connection of all scenarios.
	if err := p.conn.Write(context.Background(), websocket.MessageBinary, b); err != nil {
		return answer{}, err
	}
	select {
	case a, ok := <-wait:
		switch {
		case !ok:
			return a, p.err
		case a.kind == answerFailed:
			return a, errors.New(string(a.body))
		}
		return a, nil
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

const (
	programFrames   = "the package writes the frames itself"
	programHeaders  = "the package writes the header fields itself"
	programReplies  = "the package expands replies before anyone sees them"
	programCodings  = "the package has no coding but gzip, for messages of 1 KiB and more"
	programWrapped  = "a message is a field of a BytesValue"
	programOneType  = "the program has one type of messages"
	programDetails  = "the package shows a detail's type and value, not the status around them"
	headersJoin     = "Headers joins the values of a name"
	generatedMethod = "generated code has no such methods"
	sentAgain       = "the package sends a call again that was certainly not processed, so culvert and the backend see more of them"
)

// programLacks are the scenarios that a program with @culvert/web can't carry, with the
// reasons.
var programLacks = map[string]string{
	"request metadata of many values":        headersJoin,
	"response metadata of many values":       headersJoin,
	"metadata of an answer without a header": headersJoin,
	"methods that aren't":                    generatedMethod,
	"backend refuses the call":               sentAgain,
}

// RunProgram runs the scenarios that a client of gRPC in a WebSocket can carry with a
// program. It prints the others with the reasons. SetStages comes before.
func RunProgram(t *testing.T, p *Program) {
	t.Cleanup(noneLinger) // for a goleak at the end of the whole test
	for name := range programLacks {
		if !slices.ContainsFunc(scenarios, func(sc scenario) bool { return sc.name == name }) {
			t.Errorf("there is no scenario %q", name)
		}
	}
	transport{
		name: "h2ts grpc program", label: "h2ts+grpc", http2: true, browser: true, framing: valueFraming, lacking: programLacks,
		cannot: map[need]string{
			rawFrames: programFrames, halfMessages: programFrames, rawHeaders: programHeaders, nativeReplies: programReplies,
			codings: programCodings, exactSizes: programWrapped, manyTypes: programOneType, detailBytes: programDetails,
		},
		dial: p.dial,
	}.runAll(t)
}

// valueFraming has the bytes of a scenario's message in a google.protobuf.BytesValue,
// since a program with generated types can't send any bytes.
var valueFraming = &framing{described: true}

// dial starts a client of the program. Its connections go through a relay, which can be cut.
func (p *Program) dial(d *dialer, _ *tls.Config) (client, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &programClient{p: p, d: d, ln: ln, number: p.number()}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.relaying.Go(c.accept)
	if _, err := p.order(c.ctx, orderClient, c.number, []byte("http://"+ln.Addr().String())); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

type programClient struct {
	p      *Program
	d      *dialer
	number uint32

	ln       net.Listener
	ctx      context.Context // ends with close
	stop     context.CancelFunc
	relaying sync.WaitGroup
	once     sync.Once
}

func (c *programClient) accept() {
	for {
		near, err := c.ln.Accept()
		if err != nil {
			return // closed
		}
		c.relaying.Go(func() { c.relay(near.(*net.TCPConn)) })
	}
}

// relay carries a connection to culvert until either side ends it.
func (c *programClient) relay(near *net.TCPConn) {
	defer near.Close() // nothing is left to be lost
	conn, err := c.d.dial(c.ctx, "", "")
	if err != nil {
		_ = near.SetLinger(0) // refused
		return
	}
	far := conn.(*net.TCPConn)
	defer far.Close() // a cut may have
	if c.d.receiveBuffer > 0 {
		_ = near.SetWriteBuffer(c.d.receiveBuffer) // the program's own is the system's
	}
	defer context.AfterFunc(c.ctx, func() { _, _ = near.Close(), far.Close() })()
	var forth sync.WaitGroup
	forth.Go(func() { passOn(far, near) })
	passOn(near, far)
	forth.Wait()
}

// passOn copies to the end, and passes that on as it came.
func passOn(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		_ = to.SetLinger(0)
		_, _ = to.Close(), from.Close()
		return
	}
	_ = to.CloseWrite() // closed already if both sides end
}

func (c *programClient) cut(how cut) { c.d.cut(how) }

func (c *programClient) close() {
	c.once.Do(func() {
		_, _ = c.p.order(c.ctx, orderRelease, c.number, nil) // the program may be gone
		c.stop()
		_ = c.ln.Close() // accept is all that uses it
		c.relaying.Wait()
	})
}

func (c *programClient) open(ctx context.Context, rq call) (stream, error) {
	start := programCall{Client: c.number, Method: rq.method, Metadata: [][2]string{}}
	for name, values := range rq.metadata {
		for _, v := range values {
			if strings.HasSuffix(name, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			start.Metadata = append(start.Metadata, [2]string{name, v})
		}
	}
	if rq.timeout != "" {
		d, err := time.ParseDuration(grpcUnit.Replace(rq.timeout))
		if err != nil {
			return nil, fmt.Errorf("the program can't ask for a time-out of %q", rq.timeout)
		}
		start.Millis = float64(d) / float64(time.Millisecond)
	}
	argument, err := json.Marshal(start)
	if err != nil {
		return nil, err
	}
	s := &programStream{ctx: ctx, p: c.p, d: c.d, number: c.p.number()}
	_, err = c.p.order(ctx, orderOpen, s.number, argument)
	return s, err
}

type programStream struct {
	ctx    context.Context
	p      *Program
	d      *dialer
	number uint32

	st *status.Status
	md metadata.MD
}

func (s *programStream) order(verb byte, argument []byte) (answer, error) {
	return s.p.order(s.ctx, verb, s.number, argument)
}

func (s *programStream) send(b []byte) error {
	_, err := s.order(orderSend, s.d.sent(b))
	return err
}

func (s *programStream) closeSend() error {
	_, err := s.order(orderEnd, nil)
	return err
}

func (s *programStream) sendRaw([]byte) error   { return errors.ErrUnsupported }
func (s *programStream) status() *status.Status { return s.st }
func (s *programStream) trailer() metadata.MD   { return s.md }
func (s *programStream) compressed() int        { return 0 }
func (s *programStream) cancel()                { _, _ = s.order(orderCancel, nil) } // the program may be gone

func (s *programStream) header() (metadata.MD, error) {
	a, err := s.order(orderHeader, nil)
	if err != nil {
		return nil, err
	}
	var fields [][2]string
	if err := strictly(a.body, &fields); err != nil {
		return nil, err
	}
	return programMetadata(fields)
}

// programMetadata splits what Headers has joined where gRPC does: in binary values.
func programMetadata(fields [][2]string) (metadata.MD, error) {
	md := metadata.MD{}
	for _, f := range fields {
		if !strings.HasSuffix(f[0], "-bin") {
			md.Append(f[0], f[1])
			continue
		}
		for part := range strings.SplitSeq(f[1], ",") {
			b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(part), "="))
			if err != nil {
				return nil, violation("%s: %q is no base64", f[0], part)
			}
			md.Append(f[0], string(b))
		}
	}
	return md, nil
}

func (s *programStream) recv() ([]byte, error) {
	if s.st != nil {
		return nil, io.EOF
	}
	a, err := s.order(orderReceive, nil)
	switch {
	case err != nil:
		return nil, err
	case a.kind == answerOver:
		return nil, s.end(a.body)
	case s.d.typed:
		return typed(a.body), nil
	}
	return a.body, nil
}

// end reads the call's end.
func (s *programStream) end(b []byte) error {
	var end programEnd
	if err := strictly(b, &end); err != nil {
		return err
	}
	md, err := programMetadata(end.Trailer)
	if err != nil {
		return err
	}
	st := &statuspb.Status{Code: int32(codes.Code(end.Code)), Message: end.Message}
	for _, d := range end.Details {
		st.Details = append(st.Details, &anypb.Any{TypeUrl: anyHost + d.Type, Value: d.Value})
	}
	s.st, s.md = status.FromProto(st), maps.Clone(md)
	return io.EOF
}
