package webcall

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/culvert-grpc/culvert/client/internal/answer"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/pathservice"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// EchoPath is that of the method that every culvert answers itself, with the messages that it
// gets. Other servers refuse it in gRPC, which proves as much about the way.
const EchoPath = pathservice.Echo

// ErrNotFound is the error of an HTTP 404: a server that has gRPC at other paths may answer so,
// and boxes seldom do.
var ErrNotFound = errors.New("the edge answers HTTP status 404: is the path prefix right?")

// Once calls the method with one message, in a request with its length. It returns no error if
// the answer is gRPC, whatever its status: somebody on the other side speaks gRPC. The header has
// the content type, of gRPC or gRPC-Web. beats reports whether the edge has heart-beats.
func Once(ctx context.Context, trip http.RoundTripper, url string, h http.Header) (beats bool, err error) {
	h = h.Clone()
	h[codec.Heartbeat] = []string{codec.HeartbeatWanted}
	res, err := post(ctx, trip, url, h, bytes.NewReader(message()), func() {})
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	fields, err := readEnd(res)
	if err != nil {
		return false, err
	}
	return res.Header.Get(codec.Heartbeat) != "", refusesTransport(fields)
}

// Echo calls the method, and waits for the answer to each message before it sends the next. It
// returns nil if the answers come, or if the call is refused in gRPC while its request is open:
// then nothing on the way holds requests until they end. culvert reports whether culvert has
// answered, and not another server of gRPC.
func Echo(ctx context.Context, trip http.RoundTripper, url string, h http.Header) (culvert bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, request := io.Pipe()
	sent := message()
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() { _, _ = request.Write(sent) }) // the answer tells whether it has arrived
	over := func() { request.CloseWithError(context.Canceled) }
	defer over() // the transport stops reading
	defer context.AfterFunc(ctx, over)()
	res, err := post(ctx, trip, url, h, body, over)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	if res.Header.Get("Grpc-Status") != "" {
		return isCulverts(res.Header), refusesTransport(res.Header)
	}
	for more := true; ; more = false {
		switch f, payload, err := codec.ReadFrame(res.Body, codec.ParseFrameHeader, maxBlock); {
		case errors.Is(err, io.EOF) && res.Trailer.Get("Grpc-Status") != "":
			return isCulverts(res.Trailer), refusesTransport(res.Trailer)
		case err == nil && f.Flags&codec.FlagTrailers != 0:
			return false, refusesTransport(fieldsIn(payload))
		case err != nil:
			return false, cutOff(err)
		case !bytes.Equal(append(f.AppendTo(nil), payload...), sent):
			return false, errors.New("the answer to a message isn't the message")
		}
		if !more {
			return true, awaitEnd(res, request)
		}
		sent = message()
		if _, err := request.Write(sent); err != nil {
			return false, fmt.Errorf("the second message: %w", err)
		}
	}
}

// isCulverts reports whether a status is culvert's own.
func isCulverts(fields http.Header) bool {
	st, _, err := codec.ParseTrailers(fields)
	return err == nil && answer.Reason(st) != ""
}

// refusesTransport returns an error if culvert refuses the protocol: then the way leads to it, and
// no call by this way succeeds.
func refusesTransport(fields map[string][]string) error {
	st, _, err := codec.ParseTrailers(fields)
	if err != nil || answer.Reason(st) != "NO_ROUTE" || !strings.HasPrefix(st.Message(), pathservice.NoCallsBy) {
		return nil
	}
	return errors.New("culvert answered: " + terminal.Short(st.Message(), maxFault))
}

// fieldsIn returns the fields in the payload of a frame of trailers: none, if it is malformed.
func fieldsIn(payload []byte) map[string][]string {
	block, err := codec.ParseHeaderBlock(payload)
	if err != nil {
		return map[string][]string{}
	}
	return block
}

// awaitEnd ends the request, and waits for the status: boxes drop trailers.
func awaitEnd(res *http.Response, request *io.PipeWriter) error {
	_ = request.Close() // it can't fail
	fields, err := readEnd(res)
	if err == nil && fields == nil {
		err = errors.New("an answer of gRPC arrives without its trailers: a box on the way drops them")
	}
	return err
}

// readEnd reads an answer until its status, and returns the fields with it: nil for none. In gRPC-Web a frame
// has it, and the end behind that may never come.
func readEnd(res *http.Response) (fields map[string][]string, err error) {
	if res.Header.Get("Grpc-Status") != "" {
		return res.Header, nil
	}
	limited := io.LimitReader(res.Body, maxBlock)
	for {
		switch f, payload, err := codec.ReadFrame(limited, codec.ParseFrameHeader, maxBlock); {
		case errors.Is(err, io.EOF):
			if res.Trailer.Get("Grpc-Status") == "" {
				return nil, nil
			}
			return res.Trailer, nil
		case err != nil:
			return nil, cutOff(err)
		case f.Flags&codec.FlagTrailers != 0:
			return fieldsIn(payload), nil
		}
	}
}

func cutOff(err error) error {
	return fmt.Errorf("an answer of gRPC begins and is cut off: %w", err)
}

// post sends a request, and checks that the answer's header is gRPC's.
func post(ctx context.Context, trip http.RoundTripper, url string, h http.Header, body io.Reader, lost func()) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return nil, err
	}
	r.Header = h
	r, stop := whenLost(r, lost)
	defer stop()
	res, err := trip.RoundTrip(r)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.New("the connection was closed without an answer")
	}
	if err != nil {
		return nil, err
	}
	kind, _, _ := strings.Cut(h.Get("Content-Type"), "+")
	if res.StatusCode == http.StatusOK && strings.HasPrefix(res.Header.Get("Content-Type"), kind) {
		return res, nil
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusNotFound:
		return nil, ErrNotFound
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil, &GatewayError{foreign(res)}
	}
	return nil, foreign(res)
}

// A GatewayError is the answer of a box that can't reach the edge.
type GatewayError struct{ error }

// Unwrap returns what the box has answered.
func (e *GatewayError) Unwrap() error { return e.error }

// message returns one that nobody can guess: a google.protobuf.BytesValue of 16 bytes, framed.
func message() []byte {
	payload := append([]byte{0x0a, 16}, make([]byte, 16)...)
	_, _ = rand.Read(payload[2:]) // it never fails
	return append(codec.FrameHeader{Length: uint32(len(payload))}.AppendTo(nil), payload...)
}
