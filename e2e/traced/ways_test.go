package traced

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

const (
	method = "grpc.health.v1.Health/Check"
	empty  = "\x00\x00\x00\x00\x00" // a message
)

// ways are those of a unary call through culvert, by the transports as the log has them. Each
// sends the metadata.
var ways = map[string]func(ctx context.Context, address string, md map[string]string) error{
	"grpc": func(ctx context.Context, address string, md map[string]string) error {
		return check(ctx, address, md)
	},
	"h2ts+grpc": func(ctx context.Context, address string, md map[string]string) error {
		return check(ctx, address, md, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			ws, _, err := websocket.Dial(ctx, "ws://"+address+"/", &websocket.DialOptions{Subprotocols: []string{"h2ts"}, HTTPHeader: ofUpgrade(md)})
			if err != nil {
				return nil, err
			}
			return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
		}))
	},
	"grpc-web": func(ctx context.Context, address string, md map[string]string) error {
		return post(ctx, address, "application/grpc-web+proto", empty, "grpc-status: 0", md)
	},
	"grpc-web-text": func(ctx context.Context, address string, md map[string]string) error {
		return post(ctx, address, "application/grpc-web-text+proto", base64.StdEncoding.EncodeToString([]byte(empty)), "", md)
	},
	"grpc-websockets": overWebSocket,
	"connect": func(ctx context.Context, address string, md map[string]string) error {
		return post(ctx, address, "application/proto", "", "\x08\x01", md)
	},
	"connect in JSON": func(ctx context.Context, address string, md map[string]string) error {
		return post(ctx, address, "application/json", "{}", "SERVING", md)
	},
}

func check(ctx context.Context, address string, md map[string]string, o ...grpc.DialOption) error {
	conn, err := grpc.NewClient("passthrough:///"+address, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy()}, o...)...)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the call has ended
	_, err = healthpb.NewHealthClient(conn).Check(metadata.NewOutgoingContext(ctx, metadata.New(md)), &healthpb.HealthCheckRequest{})
	return err
}

// post makes a call by a POST, whose answer has a text.
func post(ctx context.Context, address, contentType, body, has string, md map[string]string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/"+method, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", contentType)
	for name, value := range md {
		r.Header.Set(name, value)
	}
	answer, err := exchange(r)
	if err == nil && !bytes.Contains(answer, []byte(has)) {
		err = fmt.Errorf("the answer is %q", answer)
	}
	return err
}

// ofUpgrade returns what only the request for a WebSocket can have: the client's address, by a
// proxy.
func ofUpgrade(md map[string]string) http.Header {
	h := http.Header{}
	if client, ok := md["x-forwarded-for"]; ok {
		h.Set("X-Forwarded-For", client)
	}
	return h
}

// overWebSocket has the metadata in the first message, and none in the upgrade.
func overWebSocket(ctx context.Context, address string, md map[string]string) error {
	ws, _, err := websocket.Dial(ctx, "ws://"+address+"/"+method, &websocket.DialOptions{Subprotocols: []string{"grpc-websockets"}, HTTPHeader: ofUpgrade(md)})
	if err != nil {
		return err
	}
	defer func() { _ = ws.CloseNow() }() // the call has ended
	var block strings.Builder
	block.WriteString("content-type: application/grpc-web+proto\r\n")
	for name, value := range md {
		fmt.Fprintf(&block, "%s: %s\r\n", name, value)
	}
	for _, m := range []string{block.String(), "\x00" + empty, "\x01"} {
		if err := ws.Write(ctx, websocket.MessageBinary, []byte(m)); err != nil {
			return err
		}
	}
	var last []byte
	for {
		_, m, err := ws.Read(ctx)
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			break
		}
		if err != nil {
			return err
		}
		last = m
	}
	if !bytes.Contains(last, []byte("grpc-status: 0")) {
		return fmt.Errorf("it ended with %q", last)
	}
	return nil
}
