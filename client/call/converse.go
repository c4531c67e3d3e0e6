package call

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// An exchange is one call: what to call, and the form of its messages.
type exchange struct {
	c      *caller
	book   *book              // nil: there are no descriptors
	method *descriptor.Method // nil: its descriptors aren't known
	q      request
	json   bool // messages cross as JSON
}

// call makes the call of a method. Without words, the URL alone says which one.
func (c *caller) call(ctx context.Context, words []string) error {
	path := ""
	if len(words) > 0 {
		var err error
		if path, err = parseMethod(words[0]); err != nil {
			return &Misuse{err}
		}
	}
	x := &exchange{c: c, json: inJSON(c.via), q: request{path: path, metadata: c.metadata, page: c.page}}
	if bare(c.via) {
		var err error
		if x.q.path, err = c.routePath(path); err != nil {
			return err
		}
		c.target.Prefix = ""
	}
	in, err := c.input()
	if err != nil {
		return err
	}
	if in != nil {
		defer close(in.stop)
	}
	w, name, err := c.open(ctx)
	if err != nil {
		return c.failed(ctx, err)
	}
	defer w.close()
	c.via = name
	if err := x.describe(ctx, w, path); err != nil {
		return c.failed(ctx, err)
	}
	if c.page != nil && x.method != nil && x.method.ClientStreams && !slices.Contains([]string{viaWebSocket, viaH2TS, viaMessageJSON}, c.via) {
		return &forbidden{c.page.Origin, "its requests stream, and a browser's fetch can't stream them over HTTP/1.1: use --via websocket or --via h2ts"}
	}
	x.q.streams = x.method != nil && (x.method.ClientStreams || x.method.ServerStreams)
	x.q.single = x.method == nil && c.via != viaMessageJSON || x.method != nil && !x.method.ClientStreams
	return c.failed(ctx, x.run(ctx, w, in))
}

// open returns the way, and its name.
func (c *caller) open(ctx context.Context) (way, string, error) {
	if c.via == viaAuto {
		return c.automatic(ctx)
	}
	w, err := c.newWay(ctx, c.via)
	return w, c.via, err
}

// failed says what an error means to the call: the end of the time is a status of the call, as
// a client of gRPC has it.
func (c *caller) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if told, ok := errors.AsType[*StatusError](err); ok {
		return told
	}
	if errors.Is(context.Cause(ctx), errMaxTime) {
		return c.out.status(status.Newf(codes.DeadlineExceeded, "no end within --max-time %s", c.cfg.MaxTime), nil, nil)
	}
	return because(ctx, err)
}

// input begins to read the requests. It returns nil if none were given.
func (c *caller) input() (*values, error) {
	if c.cfg.Data == nil {
		return nil, nil
	}
	from, source, err := openInput(*c.cfg.Data, c.cfg.Stdin)
	if err != nil {
		return nil, &Misuse{err}
	}
	return newValues(from, source), nil
}

// next waits for the next value. ok is false at the input's end.
func (c *caller) next(ctx context.Context, in *values) (v value, ok bool, err error) {
	if in == nil {
		return value{}, false, nil
	}
	select {
	case v, ok = <-in.read:
		if !ok && in.err != nil {
			err = &Misuse{in.err}
		}
		return v, ok, err
	case <-ctx.Done():
		return value{}, false, context.Cause(ctx)
	}
}

func (x *exchange) run(ctx context.Context, w way, in *values) error {
	var only []byte // the request, if it is one message
	if x.q.single {
		var err error
		if only, err = x.single(ctx, in); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	x.c.watch.wait("the answer of "+x.c.target.Address(), false)
	s, err := w.open(ctx, &x.q)
	if err != nil {
		return err
	}
	var sending sync.WaitGroup
	typing, stopTyping := context.WithCancel(ctx)
	defer stopTyping()
	sending.Go(func() {
		if err := x.send(typing, s, only, in); err != nil && !errors.Is(err, io.EOF) && typing.Err() == nil {
			cancel(err)
		}
	})
	err = x.receive(ctx, s)
	stopTyping()
	late := time.AfterFunc(sendPatience, func() { cancel(errEnded) }) // a server may take no more
	sending.Wait()
	late.Stop()
	s.close()
	return err
}

// sendPatience is how long a request's message may still take once the call has ended.
const sendPatience = time.Second

var errEnded = errors.New("the call has ended")

// single returns the only message of a request.
func (x *exchange) single(ctx context.Context, in *values) ([]byte, error) {
	if in == nil {
		return x.toWire(ctx, value{text: []byte("{}"), line: 1, column: 1}, "-d")
	}
	x.c.watch.wait("a JSON value from "+in.source, false)
	v, ok, err := x.c.next(ctx, in)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, misuse("%s has no JSON value: the method takes one message, such as {}", in.source)
	}
	m, err := x.toWire(ctx, v, in.source)
	if err != nil || in.source == stdinName && x.c.cfg.StdinIsTerminal {
		return m, err // nobody types more
	}
	more, ok, err := x.c.next(ctx, in)
	if err != nil {
		return nil, err
	}
	if ok {
		return nil, &Misuse{&inputError{in.source, more.line, more.column, "a second JSON value, but the method takes one message"}}
	}
	return m, nil
}

// send sends the requests, and half-closes. It returns an error that ends the call, or io.EOF once the
// call has ended: then the receiver learns how.
func (x *exchange) send(ctx context.Context, s stream, only []byte, in *values) error {
	if x.q.single {
		if err := s.send(only); err != nil {
			return err
		}
		return s.closeSend()
	}
	for {
		v, ok, err := x.c.next(ctx, in)
		if err != nil {
			return err
		}
		if !ok {
			return s.closeSend()
		}
		m, err := x.toWire(ctx, v, in.source)
		if err != nil {
			return err
		}
		if err := s.send(m); err != nil {
			return err
		}
	}
}

// receive prints what comes, until the end.
func (x *exchange) receive(ctx context.Context, s stream) error {
	c := x.c
	md, err := s.header()
	if err != nil {
		return because(ctx, err)
	}
	if err := c.out.header(md); err != nil {
		return err
	}
	streams := x.method == nil || x.q.streams
	one := x.method != nil && !x.method.ServerStreams
	for came := 0; ; came++ {
		c.watch.wait("the next message of "+c.target.Address(), streams)
		m, err := s.recv()
		if errors.Is(err, io.EOF) {
			if st, _ := s.end(); one && came == 0 && st.Code() == codes.OK {
				return &brokenError{codes.Internal, "cardinality violation: received no response message from non-server-streaming RPC"}
			}
			break
		}
		if err != nil {
			return because(ctx, err)
		}
		if one && came > 0 {
			return &brokenError{codes.Internal, "cardinality violation: expected <EOF> for non server-streaming RPCs, but received another message"}
		}
		text, err := x.fromWire(ctx, m)
		if err != nil {
			return because(ctx, err)
		}
		if err := c.out.reply(text); err != nil {
			return err
		}
	}
	st, trailer := s.end()
	c.trace.say(note, "the call ended with %s after %s", st.Code(), c.trace.passed())
	return c.out.status(st, trailer, x.details(ctx, st))
}

// toWire returns a value as it crosses.
func (x *exchange) toWire(ctx context.Context, v value, source string) ([]byte, error) {
	if x.json {
		var b bytes.Buffer
		if err := json.Compact(&b, v.text); err != nil {
			return nil, fmt.Errorf("BUG: %w", err) // values are JSON
		}
		return b.Bytes(), nil
	}
	wire, err := x.book.read(ctx, x.method.Request, v.text)
	if mistake, ok := errors.AsType[*descriptor.ReadError](err); ok {
		return nil, &Misuse{mistakeIn(source, v, mistake, x.method.Request)}
	}
	return wire, err
}

// mistakeIn returns an error about a value with its place in the input.
func mistakeIn(source string, v value, e *descriptor.ReadError, of descriptor.Message) error {
	what := e.Text
	if e.Path != "" {
		what = e.Path + ": " + what
	}
	if e.Line == 0 {
		return &inputError{source, v.line, v.column, what}
	}
	line, column := v.within(e.Line, e.Column)
	if name, ok := strings.CutPrefix(e.Text, "unknown field "); ok {
		if in := of.Around(e.Path); in != "" {
			what = fmt.Sprintf("%s has no field %s", in, name)
		}
	}
	return &inputError{source, line, column, what}
}

// fromWire returns a message that has come as JSON text.
func (x *exchange) fromWire(ctx context.Context, m []byte) ([]byte, error) {
	if x.json {
		if !json.Valid(m) {
			return nil, fmt.Errorf("a reply of %s isn't JSON", bytesOf(len(m)))
		}
		return m, nil
	}
	text, err := x.book.write(ctx, x.method.Reply, m)
	if err != nil {
		return nil, fmt.Errorf("a reply of %s can't be shown: %w", bytesOf(len(m)), err)
	}
	return text, nil
}
