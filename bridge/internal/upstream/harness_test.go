package upstream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/rules"
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

// Times and numbers of package pool that the tests here compare with.
const (
	connectPatience = 5 * time.Second
	connectGrace    = time.Second
	avoidedPause    = time.Second
	maxPassed       = 1000
)

// balances are the names of the pool's policies.
var balances = []string{rules.RoundRobin, rules.LeastRequest, rules.PickFirst}

// Numbers and names of package wire that the tests here compare with.
const (
	idHeader        = "x-request-id"
	detailsName     = "grpc-status-details-bin"
	prefixBytes     = 5
	queuedBytes     = 300      // that grpc-go takes for a queued message, besides its bytes
	maxDataBytes    = 16 << 10 // of a frame of DATA
	minConnWindow   = 64 << 10
	maxWithheld     = wire.GRPCWindow - wire.GRPCWindow/4 - maxDataBytes
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
	v := outcome{status: f.In(rules.InFile).Status("id", false), origin: report.OriginCulvert, reason: f.Reason}
	if f.Cause != nil {
		v.cause = report.Words(rules.InFile).Say(f.Cause.Error())
	}
	return v
}

// severalAt returns a backend whose name has these addresses of TCP.
func severalAt(t testing.TB, addresses ...string) report.Backend {
	return report.Backend{Target: parts.NewNames(t, addresses...).Target, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}}
}

// A countedBackend is a parts.CountedBackend for New.
type countedBackend struct {
	report.Backend
	*parts.CountedBackend
}

func newCountedBackend(t testing.TB) *countedBackend {
	t.Helper()
	c := parts.NewCountedBackend(t, 100, nil)
	return &countedBackend{report.Backend{Target: "passthrough:///bubble", Dial: c.DialTo}, c}
}

// queued returns how many calls wait for a place, whether they have begun or not.
func queued() int {
	stacks := make([]byte, 16<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("(*Pool).wait("))
}
