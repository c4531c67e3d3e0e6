package webcall

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/client/internal/answer"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// maxBlock bounds a block of metadata, in bytes.
const maxBlock = 1 << 20

// ofConnection are header fields of a request that the transport sets. RFC 9110 §7.6.1.
var ofConnection = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true, "Content-Length": true, "Content-Type": true,
}

// A fault is why a call ends that its backend hasn't ended.
type fault struct {
	code   codes.Code
	reason string
	text   string
}

// maxFault bounds the text of a fault, in bytes: clients bound the header that has it.
const maxFault = 1 << 10

// Error is printable: boxes on the way have a part in it.
func (f *fault) Error() string { return terminal.Short(f.text, maxFault) }

// ServeHTTP sends a call of the HTTP/2 end as gRPC-Web.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler) // its connection is closed
	}
	defer s.calls.Done()
	header, err := s.serve(w, r)
	f, ok := errors.AsType[*fault](err)
	if !ok {
		if err != nil {
			panic(http.ErrAbortHandler) // the client has gone: a reset tells it, if anything does
		}
		return
	}
	st := status.New(f.code, f.Error())
	if detailed, err := st.WithDetails(&errdetails.ErrorInfo{Domain: "culvert", Reason: f.reason}); err == nil {
		st = detailed
	}
	prefix := ""
	if header {
		prefix = http.TrailerPrefix
	} else {
		w.Header().Set("Content-Type", "application/grpc")
	}
	for name, value := range codec.Trailers(st, nil) {
		w.Header().Set(prefix+name, value)
	}
}

// serve is ServeHTTP without faults. It reports whether the header of the answer was written.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) (header bool, err error) {
	coding, ok := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc")
	if r.Method != http.MethodPost || !ok {
		http.Error(w, "gRPC only", http.StatusUnsupportedMediaType)
		return false, nil
	}
	q := &request{most: maxAhead}
	q.changed.L = &q.mu
	done := make(chan struct{})
	go func() {
		defer close(done)
		q.read(r.Body)
	}()
	defer func() {
		_ = q.Close()      // it can't fail
		_ = r.Body.Close() // it ends a Read that waits
		<-done
		q.free()
	}()
	length, err := q.whole(r.Context())
	if err == nil && length < 0 && !s.twoWay.Load() {
		length, err = q.gather(r.Context(), &s.gathered)
	}
	switch {
	case errors.Is(err, errHeld):
		return false, &fault{codes.Unimplemented, "NO_TWO_WAY", "on the only way to the edge, requests and answers can't cross at the same time, and this call's client waits for an answer before its requests end: call methods that are unary or stream in one direction, or ask the network team to let HTTP/2 or WebSockets pass"}
	case errors.Is(err, errTooMuch):
		return false, &fault{codes.ResourceExhausted, "REQUEST_TOO_LARGE", fmt.Sprintf("on the only way to the edge, requests and answers can't cross at the same time, so the requests of a call may have at most %d bytes in all", maxGathered)}
	case errors.Is(err, errTooMany):
		return false, &fault{codes.ResourceExhausted, "REQUESTS_OVER_BUDGET", fmt.Sprintf("on the only way to the edge, requests and answers can't cross at the same time, and the requests of all calls together have %d bytes, the most that this program keeps: make fewer calls with large requests at a time, or ask the network team to let HTTP/2 or WebSockets pass", maxGatheredInAll)}
	case err != nil:
		return false, err
	}
	ctx, c := s.path.enter(r.Context(), s.beats.Load() && s.twoWay.Load(), length >= 0)
	defer s.path.leave(c)
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.URL(r.URL.EscapedPath()), q)
	if err != nil {
		return false, &fault{codes.Internal, "BAD_REQUEST", "the path can't be sent: " + err.Error()}
	}
	out.ContentLength = length
	for name, values := range r.Header {
		if ofConnection[name] {
			continue
		}
		if strings.HasSuffix(name, "Idempotency-Key") {
			name = strings.ToLower(name) // net/http would make the call again, whatever has become of it
		}
		out.Header[name] = values
	}
	out.Header["Content-Type"] = []string{"application/grpc-web" + coding}
	out.Header["X-Grpc-Web"] = []string{"1"}
	if s.beats.Load() {
		out.Header[codec.Heartbeat] = []string{codec.HeartbeatWanted}
	}
	res, err := s.send(out, q, c)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	return s.answer(ctx, w, res, c)
}

// send sends a request, again and again for a while as long as there is no connection.
func (s *Server) send(out *http.Request, q *request, c *waiting) (*http.Response, error) {
	ctx := out.Context()
	patience, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	out, stop := whenLost(out, func() { _ = q.Close() }) // it can't fail
	defer stop()
	for {
		out.Body, out.GetBody = body{q}, nil
		if whole := q.rest(); whole != nil && out.ContentLength >= 0 {
			// The transport may find out that the connection it took had been closed.
			out.Body = io.NopCloser(bytes.NewReader(whole))
			out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(whole)), nil }
		}
		c.waits.Store(notSent)
		res, err := s.trip.RoundTrip(out)
		c.waits.Store(hasBytes)
		if err == nil {
			return res, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s.o.Lost(err)
		if !s.o.Unsent(err) {
			return nil, &fault{codes.Unavailable, "CONNECTION_LOST", "the connection to the edge failed before it answered: " + err.Error() + ": the call may have been made"}
		}
		select {
		case <-patience.Done():
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, &fault{codes.Unavailable, "CONNECTION_LOST", "the edge can't be reached: " + err.Error()}
		case <-time.After(connectPause):
		}
	}
}

const (
	connectPatience = 10 * time.Second // of a call that has no connection
	connectPause    = 300 * time.Millisecond
)

// body is a request as the transport's. It closes it also when there is no connection, and
// the request goes on then.
type body struct{ *request }

func (body) Close() error { return nil }

// answer sends the answer of the edge to the HTTP/2 end.
func (s *Server) answer(ctx context.Context, w http.ResponseWriter, res *http.Response, c *waiting) (header bool, err error) {
	coding, isWeb := strings.CutPrefix(res.Header.Get("Content-Type"), "application/grpc-web")
	if res.StatusCode != http.StatusOK || !isWeb {
		return false, foreign(res)
	}
	h := w.Header()
	for name, values := range res.Header {
		if !answer.OfHTTP(name) {
			h[name] = values
		}
	}
	h["Content-Type"] = []string{"application/grpc" + coding}
	beats := res.Header.Get(codec.Heartbeat)
	h.Del(codec.Heartbeat)
	parse, from := codec.ParseFrameHeader, io.Reader(res.Body)
	if beats != "" {
		parse, from = codec.ParseBeatingFrameHeader, &beating{res.Body, s.path, c}
	}
	body := bufio.NewReaderSize(from, 32<<10)
	if h.Get("Grpc-Status") != "" {
		if answer.More(body, res.Body) {
			return false, &fault{codes.Internal, "MISSING_TRAILERS", "the edge's answer has a status in its header, and messages"}
		}
		fields := map[string][]string{"grpc-status": h["Grpc-Status"]}
		for _, name := range [...]string{originalStatus, details} {
			if values := h[http.CanonicalHeaderKey(name)]; values != nil {
				fields[name] = values
				h.Del(name)
			}
		}
		restoreCode(fields)
		for name, values := range fields {
			h[http.CanonicalHeaderKey(name)] = values
		}
		return true, nil // trailers only
	}
	// The header leaves with the first message, or alone if that is late. Messages leave before
	// anything is waited for.
	flush := http.NewResponseController(w)
	for late := beats == codec.HeaderLate; ; {
		if !late && !frameIn(body) {
			_ = flush.Flush() // a lost client ends the context
			header = true
		}
		prefix, err := body.Peek(codec.FrameHeaderBytes)
		if err != nil {
			return header, s.cut(ctx, err, "between messages")
		}
		f, n, err := parse(prefix)
		if err != nil {
			return header, &fault{codes.Internal, "BAD_RESPONSE", "the edge's answer isn't gRPC-Web: " + err.Error()}
		}
		if f.Flags == codec.FlagHeader {
			_, _ = body.Discard(n) // they are there
			fields, err := s.block(ctx, body, f, "BAD_RESPONSE", "metadata")
			if err != nil {
				return header, err
			}
			c.expects.Store(true) // heart-beats aren't held on the way
			if late && f.Length > 0 {
				late = false
				for name, values := range fields {
					if name = http.CanonicalHeaderKey(name); !answer.OfHTTP(name) {
						h[name] = values
					}
				}
			}
			continue
		}
		late = false
		if f.Flags&codec.FlagTrailers != 0 {
			_, _ = body.Discard(n) // they are there
			if err := s.trailers(ctx, w, body, f); err != nil {
				return header, err
			}
			_ = flush.Flush() // the answer's end may be late
			if answer.More(body, res.Body) {
				return true, &fault{codes.Internal, "BAD_RESPONSE", "the edge's answer has bytes behind its trailers"}
			}
			return true, nil
		}
		if whole, err := copyMessage(w, body, int64(n)+int64(f.Length), &s.held); err != nil {
			return header || !whole, s.cut(ctx, err, "in a message")
		}
		header = true
	}
}

// frameIn reports whether the next frame is there: the server may hold its rest.
func frameIn(body *bufio.Reader) bool {
	there := body.Buffered()
	if there < codec.FrameHeaderBytes {
		return false
	}
	prefix, _ := body.Peek(codec.FrameHeaderBytes) // it is there
	f, n, err := codec.ParseFrameHeader(prefix)
	return err != nil || there >= n+int(f.Length)
}

// maxWhole bounds a message that is sent when it is whole, in bytes: clients take an end in a
// message for INTERNAL, whatever status comes behind it.
const maxWhole = 16 << 20

// maxHeldInAll bounds the messages of all calls together that wait until they are whole, in bytes.
// Others are sent as they come. The buffers may have up to twice as many.
const maxHeldInAll = 64 << 20

// maxPooled bounds a buffer that is kept for other messages, in bytes.
const maxPooled = 1 << 20

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// copyMessage copies a message of n bytes: whole, or as it comes.
func copyMessage(w io.Writer, body *bufio.Reader, n int64, held *account) (whole bool, err error) {
	if n <= int64(body.Size()) {
		message, err := body.Peek(int(n))
		if err != nil {
			return true, err
		}
		_, _ = w.Write(message)     // a lost client ends the context
		_, _ = body.Discard(int(n)) // they are there
		return true, nil
	}
	if n > maxWhole || !held.take(int(n)) {
		_, err := io.CopyN(w, body, n)
		return false, err
	}
	defer held.give(int(n))
	b := buffers.Get().(*bytes.Buffer) //nolint:forcetypeassert // see New
	defer func() {
		if b.Cap() <= maxPooled {
			b.Reset()
			buffers.Put(b)
		}
	}()
	if _, err := io.CopyN(b, body, n); err != nil {
		return true, err
	}
	_, _ = w.Write(b.Bytes()) // as above
	return true, nil
}

// trailers sends the payload of the frame at the end.
func (s *Server) trailers(ctx context.Context, w http.ResponseWriter, body *bufio.Reader, f codec.FrameHeader) error {
	fields, err := s.block(ctx, body, f, "MISSING_TRAILERS", "trailers")
	if err != nil {
		return err
	}
	if _, err := strconv.ParseUint(strings.Join(fields["grpc-status"], ","), 10, 32); err != nil {
		return &fault{codes.Internal, "MISSING_TRAILERS", "the edge's trailers have no status"}
	}
	restoreCode(fields)
	for name, values := range fields {
		w.Header()[http.TrailerPrefix+http.CanonicalHeaderKey(name)] = values
	}
	return nil
}

// block reads the payload of a frame, which is a header block.
func (s *Server) block(ctx context.Context, body *bufio.Reader, f codec.FrameHeader, reason, what string) (map[string][]string, error) {
	if f.Flags&codec.FlagCompressed != 0 || f.Length > maxBlock {
		return nil, &fault{codes.Internal, reason, "the edge's " + what + " are compressed or too large"}
	}
	block := make([]byte, f.Length)
	if _, err := io.ReadFull(body, block); err != nil {
		return nil, s.cut(ctx, err, "in the "+what)
	}
	fields, err := codec.ParseHeaderBlock(block)
	if err != nil {
		return nil, &fault{codes.Internal, reason, "the edge's " + what + ": " + err.Error()}
	}
	return fields, nil
}

// restoreCode undoes what a server does for browsers: a code above 16 is UNKNOWN there, and the
// original one has a field of its own.
func restoreCode(fields map[string][]string) {
	original := strings.Join(fields[originalStatus], ",")
	code, err := strconv.ParseUint(original, 10, 32)
	if err != nil {
		return
	}
	fields["grpc-status"] = []string{original}
	delete(fields, originalStatus)
	md, err := codec.DecodeMetadata(map[string][]string{details: fields[details]})
	st := new(spb.Status)
	if err != nil || len(md[details]) != 1 || proto.Unmarshal([]byte(md[details][0]), st) != nil {
		return
	}
	st.Code = int32(code)
	for name, value := range codec.Trailers(status.FromProto(st), nil) {
		if name == details {
			fields[details] = []string{value}
		}
	}
}

const (
	originalStatus = "x-grpc-status-original"
	details        = "grpc-status-details-bin"
)

// cut returns why an answer has no end.
func (s *Server) cut(ctx context.Context, err error, where string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.o.Lost(err)
	return &fault{codes.Unavailable, "CONNECTION_LOST", "the edge's answer was cut off " + where + " (" + err.Error() + "): the edge, or a box on the way, has gone"}
}

// foreign returns the fault for an answer that isn't gRPC-Web.
func foreign(res *http.Response) error {
	code := codec.CodeFromHTTP(res.StatusCode)
	a, _ := answer.Of(res.StatusCode, res.Header, res.Body)
	if a.Culvert {
		return &fault{code, a.Reason, a.String()}
	}
	if code == codes.PermissionDenied || code == codes.Unauthenticated {
		code = codes.Unavailable // those would be the service's
	}
	return &fault{code, "FOREIGN_ANSWER", "not the service but something on the way " + a.String()}
}
