package upstream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// Helpers that several packages share, by short names.
const patience = parts.Patience

var (
	listen       = parts.Listen
	startBackend = parts.StartBackend
	serveBackend = parts.ServeBackend
	echo         = parts.Echo
	hold         = parts.Hold
	within       = parts.Within
	poll         = parts.Poll
	wantUsed     = parts.WantUsed
	errorInfo    = parts.ErrorInfo
	elapse       = parts.Elapse
	framed       = parts.Framed
	gzipped      = parts.Gzipped
	pattern      = parts.Pattern
	flip         = parts.Flip
)

// A bytesCodec hands messages through as plain bytes.
type bytesCodec = parts.BytesCodec

func await[T any](t testing.TB, what string, event <-chan T) T {
	t.Helper()
	return parts.Await(t, what, event)
}

// Numbers and names of package wire that the tests here compare with.
const (
	idHeader        = "x-request-id"
	detailsName     = "grpc-status-details-bin"
	prefixBytes     = 5
	queuedBytes     = 300      // that grpc-go takes for a queued message, besides its bytes
	maxDataBytes    = 16 << 10 // of a frame of DATA
	minConnWindow   = 64 << 10
	maxWithheld     = wire.MaxStreamWindow - wire.MaxStreamWindow/4 - maxDataBytes
	silencePatience = 10 * time.Second
)

// silencePing is culvert's own PING.
var silencePing = append([]byte{0, 0, 8, byte(http2.FramePing), 0, 0, 0, 0, 0}, "culvert?"...)

// prefixOf returns the prefix of a message.
func prefixOf(size uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0}, size) }

const testMethod = "/test.Service/Method"

// Why a call's context ends.
var (
	errFinished = errors.New("the call has ended")
	errDeadline = report.New(report.ReasonDeadlineExceeded, "the deadline passed")
)

// An outcome is what an error of a stream says.
type outcome struct {
	status *status.Status
	origin string
	reason report.Reason
	cause  string
}

// judge tells apart the kinds of errors that a stream returns: the backend's status,
// a fault, or context.DeadlineExceeded. Any other kind is a defect. nil is the
// backend's OK.
func judge(err error) outcome {
	var own Status
	var f *report.Fault
	switch {
	case err == nil:
		return outcome{status: status.New(codes.OK, ""), origin: report.OriginUpstream}
	case errors.As(err, &own):
		return outcome{status: own.Status, origin: report.OriginUpstream}
	case errors.As(err, &f):
	case errors.Is(err, context.DeadlineExceeded):
		f = errDeadline
	default:
		f = report.New(report.ReasonInternal, "BUG: neither a status nor a fault").Because(err)
	}
	v := outcome{status: f.In(parts.InFile).Status("id", false), origin: report.OriginCulvert, reason: f.Reason}
	if f.Cause != nil {
		v.cause = report.Words(parts.InFile).Say(f.Cause.Error())
	}
	return v
}

// leave has the headers of a call leave, on a connection of its own. The backend's answer there
// is trailers with these fields, if there are any.
func leave(t testing.TB, p *wire.Place, trailers ...string) {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	a := memory.New(1<<20, 0)
	c := wire.NewConn(near, wire.Options{Account: a, Window: wire.ConnWindow(a)})
	defer c.Close()
	if taken, err := c.Expect(t.Context(), p); !taken || err != nil {
		t.Fatal("the call isn't expected", err)
	}
	header := func(w io.Writer, ends bool, fields ...string) {
		var block bytes.Buffer
		e := hpack.NewEncoder(&block)
		for i := 0; i < len(fields); i += 2 {
			_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // to memory
		}
		_ = http2.NewFramer(w, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: ends}) // Read meets it
	}
	var sent bytes.Buffer
	sent.WriteString(http2.ClientPreface)
	header(&sent, false, idHeader, p.Call.ID)
	request := bytes.Clone(sent.Bytes())
	go func() {
		_, _ = io.CopyN(io.Discard, far, int64(len(request)))
		_ = http2.NewFramer(far, nil).WriteSettings()
		header(far, true, trailers...)
	}()
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	for len(trailers) > 0 && !p.Trailed() {
		if _, err := c.Read(make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
	}
}
