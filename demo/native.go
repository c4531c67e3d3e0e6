package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/demo/demopb"
)

// nativeTimeout bounds the native client's calls for the page.
const nativeTimeout = 10 * time.Second

// A lane is how the native gRPC client reaches the backend.
type lane string

const (
	laneDirect  lane = "direct"  // native gRPC to the backend, without culvert
	laneCulvert lane = "culvert" // HTTP/2 in a WebSocket, to culvert
)

// A nativeResult reports the native gRPC client's calls over one lane.
type nativeResult struct {
	Address string       `json:"address"`
	Calls   []nativeCall `json:"calls"`
	Seen    []string     `json:"seen"` // by the inspecting proxy, on this client's connections
}

// A nativeCall reports one call of the native gRPC client.
type nativeCall struct {
	Method   string `json:"method"`
	Code     string `json:"code"`
	Message  string `json:"message"`
	Messages int    `json:"messages"` // from the backend
	Answered bool   `json:"answered"` // by the backend: the trailers echo the call's metadata
}

// callNative makes the page's three calls with grpc-go over the lane.
func (s *stage) callNative(ctx context.Context, by lane, viaProxy bool) (nativeResult, error) {
	ctx, cancel := context.WithTimeout(ctx, nativeTimeout)
	defer cancel()
	ln, proxyListener, proxy := s.backendListener, s.backendProxyListener, s.backendInspector
	if by == laneCulvert {
		ln, proxyListener, proxy = s.pageListener, s.proxyListener, s.inspector
	}
	seenFrom := func([]string) []string { return []string{} }
	if viaProxy {
		ln, seenFrom = proxyListener, proxy.watch()
	}
	r := nativeResult{Address: dialable(ln.Addr())}
	var local localAddrs
	dial := local.dial
	if by == laneCulvert {
		// No Proxy: the calls stay on this machine, whatever the environment says.
		transport := &http.Transport{DialContext: local.dialNetwork}
		defer transport.CloseIdleConnections()
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			return dialTunnel(ctx, &http.Client{Transport: transport}, "http://"+address)
		}
	}
	conn, err := newNativeClient(r.Address, dial)
	if err != nil {
		return r, err
	}
	defer func() { _ = conn.Close() }() // nothing is left to fail
	r.Calls = callAll(ctx, demopb.NewDemoClient(conn))
	r.Seen = seenFrom(local.all())
	return r, nil
}

// callAll makes the three calls at the same time and waits for them.
func callAll(ctx context.Context, client demopb.DemoClient) []nativeCall {
	methods := []struct {
		name string
		call func(context.Context, demopb.DemoClient, ...grpc.CallOption) (messages int, err error)
	}{
		{"Converse", converseOnce},
		{"Countdown", countDown},
		{"Reserve", reserveWrongly},
	}
	ctx = metadata.NewOutgoingContext(ctx, echoed)
	calls := make([]nativeCall, len(methods))
	var running sync.WaitGroup
	for i, m := range methods {
		running.Go(func() {
			var end ending
			messages, err := m.call(ctx, client, grpc.Header(&end.header), grpc.Trailer(&end.trailer))
			st := status.Convert(err)
			calls[i] = nativeCall{
				Method:   m.name,
				Code:     codeName(st.Code()),
				Message:  st.Message(),
				Messages: messages,
				Answered: checkEcho(end) == nil,
			}
		})
	}
	running.Wait()
	return calls
}

func converseOnce(ctx context.Context, client demopb.DemoClient, opts ...grpc.CallOption) (messages int, err error) {
	stream, err := client.Converse(ctx, opts...)
	if err != nil {
		return 0, err
	}
	h, err := converse(stream)
	return h.messages, err
}

// countDown reads the stream of the page's card.
func countDown(ctx context.Context, client demopb.DemoClient, opts ...grpc.CallOption) (messages int, err error) {
	stream, err := client.Countdown(ctx, &demopb.CountdownRequest{From: 12, IntervalMs: 50}, opts...)
	if err != nil {
		return 0, err
	}
	for ; ; messages++ {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return messages, nil
		} else if err != nil {
			return messages, err
		}
	}
}

// wrongReservation has three invalid fields.
var wrongReservation = &demopb.ReserveRequest{Seats: 12, Day: "someday"}

// reserveWrongly makes the call that the backend refuses.
func reserveWrongly(ctx context.Context, client demopb.DemoClient, opts ...grpc.CallOption) (messages int, err error) {
	if _, err := client.Reserve(ctx, wrongReservation, opts...); err != nil {
		return 0, err
	}
	return 1, nil
}

// localAddrs dials and records the local address of each connection. The
// inspecting proxy knows a client by this address.
type localAddrs struct {
	mu    sync.Mutex
	addrs []string
}

func (l *localAddrs) dial(ctx context.Context, address string) (net.Conn, error) {
	return l.dialNetwork(ctx, "tcp", address)
}

func (l *localAddrs) dialNetwork(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.addrs = append(l.addrs, conn.LocalAddr().String())
	}
	return conn, err
}

func (l *localAddrs) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.addrs)
}

func newNativeClient(address string, dial func(context.Context, string) (net.Conn, error)) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dial), // also ignores the environment's proxies
	)
}

func converseNative(ctx context.Context, address string, dial func(context.Context, string) (net.Conn, error)) (heard, error) {
	conn, err := newNativeClient(address, dial)
	if err != nil {
		return heard{}, err
	}
	defer func() { _ = conn.Close() }() // nothing is left to fail
	stream, err := demopb.NewDemoClient(conn).Converse(ctx)
	if err != nil {
		return heard{}, err
	}
	return converse(stream)
}

// heard is what the server said in a conversation.
type heard struct {
	messages int
	text     string
	end      *demopb.AnswerEnd
}

// turns is the client's end of a conversation over any transport. Recv returns
// io.EOF after the status OK, and otherwise an error with the status.
type turns interface {
	Send(*demopb.ConverseRequest) error
	Recv() (*demopb.ConverseResponse, error)
	CloseSend() error
}

// toolOutput is converse's answer to a tool call.
const toolOutput = "noon, as far as this program knows"

// converse asks one question, runs the tool that the server calls to answer
// it, and half-closes after the answer.
func converse(stream turns) (heard, error) {
	var h heard
	prompt := &demopb.Prompt{Text: "What time is it?", Tools: []string{"local_time"}}
	if err := sendTurn(stream, &demopb.ConverseRequest{Turn: &demopb.ConverseRequest_Prompt{Prompt: prompt}}); err != nil {
		return h, err
	}
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return h, h.check()
		}
		if err != nil {
			return h, err
		}
		h.messages++
		h.text += res.GetToken().GetText()
		if call := res.GetToolCall(); call != nil {
			result := &demopb.ToolResult{CallId: call.GetCallId(), Outcome: &demopb.ToolResult_Output{Output: toolOutput}}
			err = sendTurn(stream, &demopb.ConverseRequest{Turn: &demopb.ConverseRequest_ToolResult{ToolResult: result}})
		}
		if end := res.GetEnd(); end != nil {
			h.end = end
			err = stream.CloseSend()
		}
		if err != nil {
			return h, err
		}
	}
}

// sendTurn sends one turn. It drops io.EOF, because Recv returns the status.
func sendTurn(stream turns, req *demopb.ConverseRequest) error {
	if err := stream.Send(req); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// check returns an error if the answer isn't whole or lacks the tool's output.
func (h heard) check() error {
	if h.end == nil {
		return fmt.Errorf("the conversation ended in the middle of an answer: %q", h.text)
	}
	if !strings.Contains(h.text, toolOutput) {
		return fmt.Errorf("the answer lacks the tool's output: %q", h.text)
	}
	return nil
}
