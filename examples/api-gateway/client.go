package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/examples/api-gateway/gatewaypb"
	"github.com/culvert-grpc/culvert/examples/internal/run"
)

// connect returns a grpc-go connection that is one WebSocket: HTTP/2 runs inside it.
// The token goes with the WebSocket's upgrade, once, and culvert adds it to each call.
func connect(address, authorization string) (*grpc.ClientConn, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		run.Say("client", "opens a WebSocket with authorization %q", authorization)
		ws, _, err := websocket.Dial(ctx, "ws://"+address+"/", &websocket.DialOptions{ //nolint:bodyclose // an upgrade has no body
			Subprotocols: []string{"h2ts"},
			HTTPHeader:   http.Header{"Authorization": {authorization}},
		})
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil //nolint:contextcheck // ctx ends with the dialing
	}
	return grpc.NewClient("passthrough:///"+address, grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
}

// shop calls all four services on one connection, while a chat stays open.
func shop(ctx context.Context, conn *grpc.ClientConn) error {
	chat, err := gatewaypb.NewSupportClient(conn).Chat(ctx)
	if err != nil {
		return err
	}
	if err := say(chat, "hello"); err != nil {
		return err
	}
	if err := whoAmI(ctx, conn); err != nil {
		return err
	}
	found, err := search(ctx, conn, "tea")
	if err != nil {
		return err
	}
	fill, err := gatewaypb.NewBasketClient(conn).Fill(ctx)
	if err != nil {
		return err
	}
	for _, p := range found {
		if err := fill.Send(p); err != nil {
			break // CloseAndRecv has the status
		}
	}
	sum, err := fill.CloseAndRecv()
	if err != nil {
		return err
	}
	run.Say("basket", "%d products, %d cents", sum.GetProducts(), sum.GetCents())

	if err := say(chat, "goodbye"); err != nil {
		return err
	}
	if err := chat.CloseSend(); err != nil {
		return err
	}
	if _, err := chat.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the chat didn't end: %w", err)
	}
	return nil
}

func whoAmI(ctx context.Context, conn *grpc.ClientConn) error {
	me, err := gatewaypb.NewAccountsClient(conn).WhoAmI(ctx, &gatewaypb.WhoAmIRequest{})
	if err != nil {
		return err
	}
	run.Say("accounts", "I am %s", me.GetName())
	return nil
}

// search returns what the catalog has.
func search(ctx context.Context, conn *grpc.ClientConn, text string) (found []*gatewaypb.Product, err error) {
	stream, err := gatewaypb.NewCatalogClient(conn).Search(ctx, &gatewaypb.SearchRequest{Text: text})
	if err != nil {
		return nil, err
	}
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		run.Say("catalog", "%s, %d cents", p.GetName(), p.GetCents())
		found = append(found, p)
	}
}

// say sends a message and waits for the answer.
func say(chat grpc.BidiStreamingClient[gatewaypb.ChatMessage, gatewaypb.ChatMessage], text string) error {
	if err := chat.Send(&gatewaypb.ChatMessage{Text: text}); err != nil && !errors.Is(err, io.EOF) { // Recv has the status
		return err
	}
	answer, err := chat.Recv()
	if err != nil {
		return err
	}
	run.Say("support", "%s", answer.GetText())
	return nil
}

// refused expects a status other than OK, and prints it.
func refused(what string, err error) error {
	if err == nil {
		return fmt.Errorf("%s: it went through", what)
	}
	s := status.Convert(err)
	run.Say("client", "%s: %s: %s", what, s.Code(), s.Message())
	return nil
}
