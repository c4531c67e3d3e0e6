package e2e

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/probe"
)

// grpcClient returns a grpc-go client connection to culvert.
func grpcClient(t testing.TB, address string, o ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	o = append(o,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(probe.MaxPayload)))
	cc, err := grpc.NewClient("passthrough:///"+address, o...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() }) // a test may have closed it
	return cc
}

// throughTunnel makes a grpc-go client cross a WebSocket: the six lines that are
// all a program needs.
func throughTunnel(address string) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		ws, _, err := websocket.Dial(ctx, "ws://"+address+"/", &websocket.DialOptions{Subprotocols: []string{"h2ts"}})
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	})
}

// A goWay is one way of grpc-go to culvert, which can be cut.
type goWay struct {
	dial func(ctx context.Context, address string, header http.Header) (net.Conn, error)

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by address and origin: kept, as in a program
	pipes []net.Conn
}

// goWays are the ways by the names of clients.
func goWays(far farPath) map[string]*goWay {
	return map[string]*goWay{
		"go native": {dial: func(ctx context.Context, address string, _ http.Header) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}},
		"go h2ts": {dial: func(ctx context.Context, address string, h http.Header) (net.Conn, error) {
			return dialTunnel(ctx, "ws://"+address, &websocket.DialOptions{HTTPHeader: h})
		}},
		"go far": {dial: func(ctx context.Context, address string, h http.Header) (net.Conn, error) {
			return dialTunnel(ctx, "wss://"+far.front[address], &websocket.DialOptions{HTTPHeader: h, HTTPClient: far.client()})
		}},
	}
}

func dialTunnel(ctx context.Context, url string, o *websocket.DialOptions) (net.Conn, error) {
	o.Subprotocols = []string{"h2ts"}
	ws, _, err := websocket.Dial(ctx, url, o)
	if err != nil {
		return nil, err
	}
	return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
}

// run runs a job with a client that goes this way.
func (w *goWay) run(t testing.TB, j job) observation {
	address, header := strings.TrimPrefix(j.Address, "http://"), http.Header{}
	for _, f := range j.Metadata {
		if f.Name == "origin" { // a tunnel's origin is that of its upgrade
			header.Set(f.Name, f.Value)
		}
	}
	return runGRPC(w.conn(t, address, header), j)
}

func (w *goWay) conn(t testing.TB, address string, header http.Header) *grpc.ClientConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := address + header.Get("origin")
	if w.conns == nil {
		w.conns = map[string]*grpc.ClientConn{}
	}
	if w.conns[key] == nil {
		w.conns[key] = grpcClient(t, address, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			pipe, err := w.dial(ctx, address, header)
			if err == nil {
				w.mu.Lock()
				w.pipes = append(w.pipes, pipe)
				w.mu.Unlock()
			}
			return pipe, err
		}))
	}
	return w.conns[key]
}

// cut closes the connections under the calls.
func (w *goWay) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, pipe := range w.pipes {
		_ = pipe.Close() // on purpose
	}
}

// startGo runs the jobs of grpc-go. It ends with the test.
func startGo(t *testing.T, far farPath, jobs []job) *runner {
	t.Helper()
	ways := goWays(far)
	r := &runner{platform: "go", seen: make(chan observation)}
	stopped := make(chan struct{})
	steps := make(chan struct{}, len(phases)) // next need not wait
	r.next = func() { steps <- struct{}{} }
	step := func() {
		select {
		case <-steps:
		case <-stopped:
		}
	}
	// begin runs the jobs of a phase, those of each client one after the other.
	begin := func(phase place) *sync.WaitGroup {
		var calls sync.WaitGroup
		for name, way := range ways {
			calls.Go(func() {
				for _, j := range jobs {
					if j.Client != name || j.Phase != phase {
						continue
					}
					select {
					case r.seen <- way.run(t, j):
					case <-stopped:
					}
				}
			})
		}
		return &calls
	}
	var work sync.WaitGroup
	work.Go(func() {
		defer close(r.seen)
		last := len(phases) - 1
		for _, phase := range phases[:last] {
			begin(phase).Wait()
			step()
		}
		abandoned := begin(phases[last])
		step()
		for _, way := range ways {
			way.cut()
		}
		abandoned.Wait()
	})
	t.Cleanup(func() {
		close(stopped)
		work.Wait()
	})
	return r
}

// runGRPC runs a job with grpc-go.
func runGRPC(cc *grpc.ClientConn, j job) observation {
	began := time.Now()
	o := observation{Client: j.Client, Scenario: j.Scenario, ID: j.ID}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(j.PatienceMS)*time.Millisecond)
	defer cancel()
	if j.TimeoutMS > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(j.TimeoutMS)*time.Millisecond)
		defer cancel()
	}
	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	ctx = withMetadata(ctx, j)
	var err error
	if j.Method == "Unary" || j.Method == "Missing" {
		err = o.unary(ctx, cc, j)
	} else {
		err = o.stream(ctx, cancel, cc, j)
	}
	st := status.Convert(err)
	o.Code, o.Message = st.Code(), st.Message()
	if err != nil {
		raw, err := proto.Marshal(st.Proto())
		if err != nil {
			o.Error = err.Error()
		}
		o.DetailsBin = base64.RawStdEncoding.EncodeToString(raw)
	}
	o.Cancelled = o.Code == codes.Canceled && ctx.Err() != nil
	o.Millis = int(time.Since(began).Milliseconds())
	return o
}

func (o *observation) unary(ctx context.Context, cc *grpc.ClientConn, j job) error {
	var header, trailer metadata.MD
	reply := new(e2epb.Reply)
	options := []grpc.CallOption{grpc.Header(&header), grpc.Trailer(&trailer)}
	if j.Compress {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	err := cc.Invoke(ctx, "/culvert.e2e.v1.Probe/"+j.Method, j.request(0), reply, options...)
	if err == nil {
		o.took(reply)
	}
	o.Header, o.Trailer = wireForm(header), wireForm(trailer)
	return err
}

func (o *observation) stream(ctx context.Context, cancel context.CancelFunc, cc *grpc.ClientConn, j job) error {
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/culvert.e2e.v1.Probe/"+j.Method)
	if err != nil {
		return err
	}
	// Requests go beside the replies, unless they wait for those.
	turns := make(chan struct{}, len(j.Requests)+1) // one for each, and the half-close
	var sending sync.WaitGroup
	sending.Go(func() { sendRequests(ctx, s, j, turns) })
	defer sending.Wait()
	defer cancel()
	turn := func(n int) {
		for range n {
			turns <- struct{}{}
		}
	}
	switch {
	case j.PingPong:
		turn(1)
	case j.RepliesFirst == 0:
		turn(len(j.Requests) + 1)
	}
	if j.CancelOnHeader {
		header, err := s.Header()
		if err != nil {
			return err
		}
		o.Header = wireForm(header)
		cancel()
	}
	for {
		reply := new(e2epb.Reply)
		err := s.RecvMsg(reply)
		if err != nil {
			header, _ := s.Header() // err says more
			o.Header, o.Trailer = wireForm(header), wireForm(s.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		o.took(reply)
		switch n := len(o.Replies); {
		case n == j.CancelAfter:
			cancel()
		case j.PingPong:
			turn(1)
		case n == j.RepliesFirst:
			turn(len(j.Requests) + 1)
		case n == 1 && j.PauseMS > 0:
			<-time.After(time.Duration(j.PauseMS) * time.Millisecond)
		}
	}
}

// sendRequests sends each request, and then the half-close, when it is its turn.
func sendRequests(ctx context.Context, s grpc.ClientStream, j job, turns <-chan struct{}) {
	for n := range len(j.Requests) + 1 {
		select {
		case <-turns:
		case <-ctx.Done():
			return
		}
		if n == len(j.Requests) {
			_ = s.CloseSend() // RecvMsg has the reason of an error
		} else if s.SendMsg(j.request(n)) != nil {
			return // RecvMsg has the reason of an error
		}
	}
}

func (o *observation) took(r *e2epb.Reply) {
	o.Replies = append(o.Replies, observedReply{
		Sequence: r.GetSequence(), Text: r.GetText(), Received: r.GetReceived(),
		Bytes: len(r.GetPayload()), SHA256: sum(r.GetPayload()),
	})
	if fields := r.GetMetadata(); len(fields) > 0 {
		md := metadata.MD{}
		for _, f := range fields {
			for _, v := range f.GetValues() {
				md.Append(f.GetName(), string(v))
			}
		}
		o.Metadata = wireForm(md)
	}
}

func (j job) request(n int) *e2epb.Request {
	return &e2epb.Request{Sequence: uint64(n), Text: j.Requests[n].Text, Payload: jobPayload(j.Requests[n].Bytes)}
}

// wireForm returns metadata with binary values in base64, as browsers show it.
func wireForm(md metadata.MD) map[string][]string {
	out := map[string][]string{}
	for name, values := range md {
		for _, v := range values {
			if strings.HasSuffix(name, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			out[name] = append(out[name], v)
		}
	}
	return out
}

// withMetadata returns ctx with the metadata of a job.
func withMetadata(ctx context.Context, j job) context.Context {
	for _, f := range j.Metadata {
		ctx = metadata.AppendToOutgoingContext(ctx, f.Name, probe.Field(f).Raw())
	}
	return ctx
}
