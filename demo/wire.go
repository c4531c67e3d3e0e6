package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/coder/websocket"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/demo/demopb"
)

// maxWireMessageBytes is the longest message that these clients read.
const maxWireMessageBytes = 1 << 20

const webContentType = "application/grpc-web+proto"

// ending is a call's metadata from the server, without the status.
type ending struct{ header, trailer metadata.MD }

// callWeb makes a gRPC-Web call over HTTP/1.1 and passes each message to receive.
// The error has the call's status.
func callWeb(ctx context.Context, client *http.Client, base, method string, md metadata.MD, req proto.Message, receive func([]byte) error) (end ending, err error) {
	message, err := proto.Marshal(req)
	if err != nil {
		return end, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+method, bytes.NewReader(appendFrame(nil, message)))
	if err != nil {
		return end, err
	}
	for name, value := range codec.Fields(md) {
		r.Header.Add(name, value)
	}
	r.Header.Set("Content-Type", webContentType)
	r.Header.Set("X-Grpc-Web", "1")
	res, err := client.Do(r)
	if err != nil {
		return end, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 1 {
		return end, fmt.Errorf("answered %s %s, want HTTP/1.1 200", res.Proto, res.Status)
	}
	if end.header, err = codec.DecodeMetadata(res.Header); err != nil {
		return end, err
	}
	for {
		f, payload, err := codec.ReadFrame(res.Body, codec.ParseFrameHeader, maxWireMessageBytes)
		if err != nil {
			return end, fmt.Errorf("reading a frame: %w", err)
		}
		if f.Flags&codec.FlagTrailers != 0 {
			end.trailer, err = parseBlock(payload)
			return end, errors.Join(err, statusOf(end.trailer))
		}
		if err := receive(payload); err != nil {
			return end, err
		}
	}
}

// socketTurns is a conversation over grpc-websockets. It implements turns.
type socketTurns struct {
	ctx  context.Context // of the call
	conn *websocket.Conn
	ending
}

// dialTurns opens a conversation on its own WebSocket, for a call with this
// context. The caller must close conn.
func dialTurns(ctx context.Context, client *http.Client, base string, md metadata.MD) (*socketTurns, error) {
	conn, err := dialSocket(ctx, client, base+demopb.Demo_Converse_FullMethodName, "grpc-websockets")
	if err != nil {
		return nil, err
	}
	header := md.Copy()
	header.Set("content-type", webContentType)
	header.Set("x-grpc-web", "1")
	if err := conn.Write(ctx, websocket.MessageBinary, codec.AppendHeaderBlock(nil, codec.Fields(header))); err != nil {
		_ = conn.CloseNow() // err has the cause
		return nil, err
	}
	return &socketTurns{ctx: ctx, conn: conn}, nil
}

func (s *socketTurns) Send(req *demopb.ConverseRequest) error {
	message, err := proto.Marshal(req)
	if err != nil {
		return err
	}
	return s.conn.Write(s.ctx, websocket.MessageBinary, appendFrame([]byte{byte(codec.MarkerData)}, message))
}

func (s *socketTurns) CloseSend() error {
	return s.conn.Write(s.ctx, websocket.MessageBinary, []byte{byte(codec.MarkerHalfClose)})
}

func (s *socketTurns) Recv() (*demopb.ConverseResponse, error) {
	for {
		_, message, err := s.conn.Read(s.ctx)
		if err != nil {
			return nil, err
		}
		f, payload, err := codec.ReadFrame(bytes.NewReader(message), codec.ParseFrameHeader, maxWireMessageBytes)
		if err != nil {
			return nil, err
		}
		if f.Flags&codec.FlagTrailers == 0 {
			res := new(demopb.ConverseResponse)
			return res, proto.Unmarshal(payload, res)
		}
		md, err := parseBlock(payload)
		if err != nil {
			return nil, err
		}
		if len(md.Get("grpc-status")) == 0 {
			s.header = md
			continue
		}
		s.trailer = md
		if err := statusOf(md); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
}

// dialTunnel opens a WebSocket that carries HTTP/2. It returns the WebSocket as a
// connection for a grpc-go client.
func dialTunnel(ctx context.Context, client *http.Client, base string) (net.Conn, error) {
	conn, err := dialSocket(ctx, client, base+"/", "h2ts")
	if err != nil {
		return nil, err
	}
	// The context is for dialling only, and the connection outlives it.
	return websocket.NetConn(context.WithoutCancel(ctx), conn, websocket.MessageBinary), nil
}

func dialSocket(ctx context.Context, client *http.Client, url, subprotocol string) (*websocket.Conn, error) {
	conn, res, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{subprotocol}})
	if err != nil {
		return nil, err
	}
	if res.Body != nil {
		defer func() { _ = res.Body.Close() }() // empty after an upgrade
	}
	if got := conn.Subprotocol(); got != subprotocol {
		_ = conn.CloseNow() // the error below has the cause
		return nil, fmt.Errorf("the server chose the subprotocol %q, want %q", got, subprotocol)
	}
	conn.SetReadLimit(maxWireMessageBytes)
	return conn, nil
}

func appendFrame(b, message []byte) []byte {
	return append(codec.FrameHeader{Length: uint32(len(message))}.AppendTo(b), message...)
}

func parseBlock(payload []byte) (metadata.MD, error) {
	fields, err := codec.ParseHeaderBlock(payload)
	if err != nil {
		return nil, err
	}
	return codec.DecodeMetadata(fields)
}

// statusOf returns the error of a status with its details, or nil for OK.
func statusOf(trailer metadata.MD) error {
	code, err := strconv.ParseUint(strings.Join(trailer.Get("grpc-status"), ","), 10, 32)
	if err != nil {
		return fmt.Errorf("grpc-status: %w", err)
	}
	st := &spb.Status{
		Code:    int32(code),
		Message: codec.DecodeMessage(strings.Join(trailer.Get("grpc-message"), ",")),
	}
	if packed := trailer.Get("grpc-status-details-bin"); len(packed) == 1 {
		details := new(spb.Status)
		if err := proto.Unmarshal([]byte(packed[0]), details); err != nil {
			return fmt.Errorf("grpc-status-details-bin: %w", err)
		}
		st.Details = details.GetDetails()
	}
	return status.FromProto(st).Err()
}
