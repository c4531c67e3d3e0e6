package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// newWebSocketClient is a client of grpc-websockets: a WebSocket a call.
func newWebSocketClient(p *peer) client {
	c := webSocketClient{base: "ws://" + p.address, http: http.DefaultClient}
	if p.tls != nil {
		c = webSocketClient{"wss://" + p.address, &http.Client{Transport: &http.Transport{TLSClientConfig: p.tls}}}
	}
	return c
}

type webSocketClient struct {
	base string
	http *http.Client
}

func (webSocketClient) close() {}

func (c webSocketClient) open(ctx context.Context, _ int, method string, header map[string]string) (stream, error) {
	call, err := dialMessages(ctx, c.base+method, &websocket.DialOptions{Subprotocols: []string{"grpc-websockets"}, HTTPClient: c.http})
	if err != nil {
		return nil, err
	}
	block := "content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n"
	for k, v := range header {
		block += k + ": " + v + "\r\n"
	}
	if err := call.send([]byte(block)); err != nil {
		return nil, err
	}
	return &webSocketStream{messageStream: call, reader: webReader{frames{r: &messages{ctx: call.ctx, ws: call.ws}}}}, nil
}

type webSocketStream struct {
	*messageStream
	out    []byte
	reader webReader
}

func (s *webSocketStream) send(message []byte) error {
	s.out = append(append(s.out[:0], 0), frame(message)...)
	return s.messageStream.send(s.out)
}

func (s *webSocketStream) closeSend() error { return s.messageStream.send([]byte{1}) }

func (s *webSocketStream) recv() (int, error) { return s.reader.next() }

// messages joins the messages of a WebSocket.
type messages struct {
	ctx context.Context // the stream's
	ws  *websocket.Conn
	r   io.Reader
}

func (m *messages) Read(p []byte) (int, error) {
	for {
		if m.r == nil {
			typ, r, err := m.ws.Reader(m.ctx)
			if err != nil {
				return 0, fmt.Errorf("the WebSocket ended: %s", strings.TrimSpace(err.Error()))
			}
			if typ != websocket.MessageBinary {
				return 0, fmt.Errorf("a message of type %v, want binary", typ)
			}
			m.r = r
		}
		n, err := m.r.Read(p)
		if errors.Is(err, io.EOF) {
			m.r, err = nil, nil
			if n == 0 {
				continue
			}
		}
		return n, err
	}
}
