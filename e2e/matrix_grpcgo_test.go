package e2e

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

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

// runGRPC runs a job with grpc-go.
func runGRPC(cc *grpc.ClientConn, j job) observation {
	began := time.Now()
	o := observation{Client: j.Client, Scenario: j.Scenario, ID: j.ID}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
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
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			o.Reasons = append(o.Reasons, info.GetReason())
		}
	}
	o.Cancelled = o.Code == codes.Canceled && ctx.Err() != nil
	o.Millis = int(time.Since(began).Milliseconds())
	return o
}

func (o *observation) unary(ctx context.Context, cc *grpc.ClientConn, j job) error {
	var header, trailer metadata.MD
	reply := new(e2epb.Reply)
	err := cc.Invoke(ctx, "/culvert.e2e.v1.Probe/"+j.Method, j.request(0), reply, grpc.Header(&header), grpc.Trailer(&trailer))
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
	sent := 0
	send := func() {
		_ = s.SendMsg(j.request(sent)) // RecvMsg has the reason of an error
		sent++
	}
	for sent < len(j.Requests) && (!j.PingPong || sent == 0) {
		send()
	}
	if !j.PingPong {
		_ = s.CloseSend() // likewise
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
		switch {
		case len(o.Replies) == j.CancelAfter:
			cancel()
		case j.PingPong && sent < len(j.Requests):
			send()
		case j.PingPong:
			_ = s.CloseSend() // RecvMsg has the reason of an error
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
