package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/demo/demopb"
)

// nativeTimeout bounds the page's native call.
const nativeTimeout = 10 * time.Second

// A nativeResult is how the native gRPC call fared that the page asked for.
type nativeResult struct {
	Address    string   `json:"address"`
	Code       string   `json:"code"`
	Message    string   `json:"message"`
	DurationMS int64    `json:"durationMs"`
	Tokens     uint32   `json:"tokens"`
	ToolCalls  uint32   `json:"toolCalls"`
	Seen       []string `json:"seen"` // what the inspecting proxy refused of it
}

// callNative holds a conversation by native gRPC, directly with culvert or
// through the inspecting proxy.
func (s *stage) callNative(ctx context.Context, viaProxy bool) nativeResult {
	ctx, cancel := context.WithTimeout(ctx, nativeTimeout)
	defer cancel()
	address := dialable(s.pageListener.Addr())
	if viaProxy {
		address = dialable(s.proxyListener.Addr())
	}
	begin := time.Now()
	var local localAddrs
	talk, err := converseNative(ctx, address, local.dial)
	st := status.Convert(err)
	return nativeResult{
		Address:    address,
		Code:       codeName(st.Code()),
		Message:    st.Message(),
		DurationMS: time.Since(begin).Milliseconds(),
		Tokens:     talk.end.GetTokens(),
		ToolCalls:  talk.end.GetToolCalls(),
		Seen:       s.inspector.refusedFrom(local.all()),
	}
}

// localAddrs dials and remembers the local end of each connection, by which
// the inspector knows it.
type localAddrs struct {
	mu    sync.Mutex
	addrs []string
}

func (l *localAddrs) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
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
	return l.addrs
}

// converseNative holds a conversation by grpc-go over what dial gives.
func converseNative(ctx context.Context, address string, dial func(context.Context, string) (net.Conn, error)) (heard, error) {
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dial), // also keeps the environment's proxies out
	)
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
	text string
	end  *demopb.AnswerEnd
}

// turns is the client's end of a conversation, whatever carries it. Recv
// returns io.EOF after the status OK, else an error with the status.
type turns interface {
	Send(*demopb.ConverseRequest) error
	Recv() (*demopb.ConverseResponse, error)
	CloseSend() error
}

// toolOutput is what converse answers a tool call with.
const toolOutput = "noon, as far as this program knows"

// converse asks one question, runs the tool that the server calls to answer
// it, and half-closes when it has the answer.
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

// sendTurn sends one turn. io.EOF says only that Recv has the status.
func sendTurn(stream turns, req *demopb.ConverseRequest) error {
	if err := stream.Send(req); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// check reports an answer that isn't whole, or that lacks what the tool said.
func (h heard) check() error {
	if h.end == nil {
		return fmt.Errorf("the conversation ended in the middle of an answer: %q", h.text)
	}
	if !strings.Contains(h.text, toolOutput) {
		return fmt.Errorf("the answer lacks the tool's output: %q", h.text)
	}
	return nil
}
