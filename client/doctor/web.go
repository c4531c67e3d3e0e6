package doctor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/pathservice"
)

// web examines HTTP/1.1. Each probe has a connection of its own.
func (x *examination) web(ctx context.Context, ways *sync.WaitGroup) {
	probe := func(p Probe, method string, streams bool, examine func(context.Context, *call) Finding) {
		ways.Go(func() {
			x.try(ctx, p, callLimit, func(ctx context.Context) Finding { return x.callBy(ctx, nil, method, streams, examine) })
		})
	}
	probe(probeWeb, pathservice.Echo, false, unary)
	probe(probeWebChunked, pathservice.Echo, true, unary)
	probe(probeWebStream, pathservice.Ticks, false, stream)
	probe(probeWebBidi, pathservice.Echo, true, bidi)
	post := func(p Probe, request posted) {
		ways.Go(func() {
			x.try(ctx, p, callLimit, func(ctx context.Context) Finding {
				if err := x.calls.wait(ctx); err != nil {
					return finding(err)
				}
				return x.post(ctx, request)
			})
		})
	}
	post(probeTypeConnect, posted{"application/connect+proto", framed(payload(0)), http.Header{"Connect-Protocol-Version": {"1"}}})
	post(probeTypeJSON, posted{"application/json", []byte("{}"), nil})
	post(probeLargeHeader, posted{typeWeb, framed(payload(0)), http.Header{"X-Culvert-Doctor": {strings.Repeat("x", largeHeader)}}})
	ways.Go(func() {
		x.try(ctx, probeService, callLimit, func(ctx context.Context) Finding {
			return x.callBy(ctx, nil, pathservice.Report, false, x.serviceReport)
		})
		x.try(ctx, probeLargeBody, callLimit, x.sendLargeBody)
	})
}

const (
	// largeHeader is what proxies often refuse: nginx takes headers of 8 KiB.
	largeHeader = 12 << 10

	maxAnswer = 2 * pathservice.LargeMessages * pathservice.LargeMessage // with its header
)

// sendLargeBody sends a request of over 1 MiB, and reads the answer meanwhile: whoever
// refuses it may answer before its end, and close the connection.
func (x *examination) sendLargeBody(ctx context.Context) Finding {
	if x.facts() == nil {
		if x.earlier(probeService).Cause != causeUnimplemented {
			return found(unknown, "this needs the service's report, which didn't come")
		}
		return found(unknown, "this needs the service's half: culvert serve --doctor")
	}
	if err := x.calls.wait(ctx); err != nil {
		return finding(err)
	}
	dialed, err := x.net.Dial(ctx, x.target, "http/1.1")
	if err != nil {
		return finding(err)
	}
	conn := &moving{Conn: dialed}
	defer func() { _ = conn.Close() }() // it may be closed
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	body := bytes.Repeat(framed(make([]byte, pathservice.LargeMessage)), pathservice.LargeMessages)
	r, err := x.request(ctx, pathservice.Echo, typeWeb, bytes.NewReader(body))
	if err != nil {
		return finding(err)
	}
	r.Close = true
	var writing sync.WaitGroup
	writing.Go(func() { _ = r.Write(conn) }) // the answer says more than an error
	f := readAnswer(conn, r)
	if slices.Contains(broken, f.Result) && ctx.Err() != nil && conn.moves() {
		f = found(unknown, "too slow to finish in time: %d bytes have come, and bytes still pass", conn.came.Load())
	}
	_ = conn.Close() // so that the writer ends
	writing.Wait()
	return f
}

// A moving connection knows when bytes have passed last.
type moving struct {
	net.Conn
	came atomic.Int64 // bytes
	last atomic.Int64 // UnixNano
}

func (c *moving) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.came.Add(int64(n))
	return c.passed(n, err)
}

func (c *moving) Write(p []byte) (int, error) { return c.passed(c.Conn.Write(p)) }

func (c *moving) passed(n int, err error) (int, error) {
	if n > 0 {
		c.last.Store(time.Now().UnixNano())
	}
	return n, err
}

func (c *moving) moves() bool { return time.Since(time.Unix(0, c.last.Load())) < patience }

func readAnswer(conn net.Conn, r *http.Request) Finding {
	answer, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), r) //nolint:bodyclose // the caller closes the connection
	if err != nil {
		return finding(err)
	}
	answer.Body = struct { // closing the other one reads it to its end
		io.Reader
		io.Closer
	}{answer.Body, conn}
	if f := fromService(typeWeb, answer); f.Result != works {
		return f
	}
	for came := 0; ; {
		f, m, err := codec.ReadFrame(answer.Body, codec.ParseFrameHeader, maxMessage)
		came += codec.FrameHeaderBytes + len(m)
		switch {
		case err == nil && f.Flags&codec.FlagTrailers == 0:
		case err == nil, errors.Is(err, io.EOF): // what follows the trailers may be late
			return found(works, "1 MiB each way")
		default:
			return found(cut, "the answer breaks off after %d bytes", came)
		}
	}
}

// A posted request for Echo has its body whole.
type posted struct {
	kind   string // content-type
	body   []byte
	header http.Header
}

// post sends a request over a connection of its own, and says whether the service answers.
func (x *examination) post(ctx context.Context, p posted) Finding {
	t := x.transport()
	defer t.CloseIdleConnections()
	r, err := x.request(ctx, pathservice.Echo, p.kind, bytes.NewReader(p.body))
	if err != nil {
		return finding(err)
	}
	for name, values := range p.header {
		r.Header[name] = values
	}
	answer, err := t.RoundTrip(r)
	if err != nil {
		return finding(err)
	}
	defer func() { _ = answer.Body.Close() }() // only read
	return fromService(p.kind, answer)
}

// fromService judges whether an answer to a content type is the service's, whatever it says.
func fromService(kind string, r *http.Response) Finding {
	family, _, _ := strings.Cut(kind, "+")
	if strings.HasPrefix(r.Header.Get("Content-Type"), family) && (r.StatusCode == http.StatusOK || family == "application/json") || r.Header.Get("Grpc-Status") != "" {
		return found(works, "")
	}
	a := answerOf(r.StatusCode, r.Header, r.Body)
	if a.Culvert {
		return found(works, "")
	}
	return refusedBy(a)
}
