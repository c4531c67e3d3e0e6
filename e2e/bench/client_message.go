package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/coder/websocket"
)

// halfCloseText is the text message that ends a request of bare messages.
const halfCloseText = "end"

// newMessageClient is a client of bare messages in protobuf: a WebSocket a call.
func newMessageClient(p *peer) client { return messageClient{"ws://" + p.address} }

type messageClient struct{ base string }

func (messageClient) close() {}

func (c messageClient) open(ctx context.Context, _ int, method string, header map[string]string) (stream, error) {
	o := &websocket.DialOptions{HTTPHeader: make(http.Header)}
	for k, v := range header {
		o.HTTPHeader.Set(k, v)
	}
	return dialMessages(ctx, c.base+method, o)
}

// dialMessages opens a WebSocket for a call.
func dialMessages(ctx context.Context, url string, o *websocket.DialOptions) (*messageStream, error) {
	ws, _, err := websocket.Dial(ctx, url, o)
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	s := &messageStream{ws: ws}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s, nil
}

type messageStream struct {
	ctx    context.Context // its end breaks into a waiting read or write
	cancel context.CancelFunc
	ws     *websocket.Conn
}

func (s *messageStream) send(message []byte) error {
	return s.ws.Write(s.ctx, websocket.MessageBinary, message)
}

func (s *messageStream) closeSend() error {
	return s.ws.Write(s.ctx, websocket.MessageText, []byte(halfCloseText))
}

// recv takes the close frame with the code 1000 for OK.
func (s *messageStream) recv() (int, error) {
	typ, r, err := s.ws.Reader(s.ctx)
	switch {
	case websocket.CloseStatus(err) == websocket.StatusNormalClosure:
		return 0, io.EOF
	case err != nil:
		return 0, err
	case typ != websocket.MessageBinary:
		return 0, errors.New("a text message, want binary")
	}
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		err = fmt.Errorf("a message broke off: %w", err)
	}
	return int(n), err
}

func (s *messageStream) close() {
	s.cancel()
	_ = s.ws.CloseNow() // the call is over
}
