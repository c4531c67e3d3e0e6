package pool

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// slotOf returns the slot for which grpc-go connects, in a dialer or a handshake, or
// nil.
func slotOf(ctx context.Context) *slot {
	s, _ := credentials.ClientHandshakeInfoFromContext(ctx).Attributes.Value(slotKey{}).(*slot)
	return s
}

// noteFailure notes why an attempt to connect fails. The first reason stays. s may be nil.
func (s *slot) noteFailure(why error) {
	if s != nil {
		s.why.CompareAndSwap(nil, &why)
	}
}

// whyFailed returns why the attempts to connect since the last call have failed, with a hint
// what to try if there is one. otherwise is the reason that grpc-go tells.
func (s *slot) whyFailed(otherwise error) error {
	switch why := s.why.Swap(nil); {
	case why != nil:
		return explain(*why)
	case s.next != nil && !s.next.lost: // behind the handshake
		return cmp.Or(s.next.wire.Failure(), otherwise)
	}
	return otherwise
}

// explain adds a hint to the error of a dialer or a handshake.
func explain(err error) error {
	record, plain := errors.AsType[tls.RecordHeaderError](err)
	_, noALPN := errors.AsType[noALPNError](err)
	switch {
	case plain && record.Conn != nil: // it is the first record
		return fmt.Errorf("%w: does it speak plaintext? leave %s out", err, report.ToSet(report.KeyBackendTLS, ""))
	case noALPN, strings.Contains(err.Error(), "tls: no application protocol"):
		return fmt.Errorf("%s%w: is it a gRPC server?", wire.SaysOtherProtocol, err)
	}
	return err
}

// noConnection returns the fault for the cause that there is no connection that accepts
// calls. culvert's own words in its text tell its kind, and not its type: grpc-go makes a
// status of the text of what the picker returns.
func noConnection(cause error) *report.Fault {
	f := report.New(report.ReasonUpstreamUnreachable, "the backend could not be reached")
	if st, is := status.FromError(cause); is {
		cause = wire.Cause(st.Message(), st)
	}
	switch {
	case strings.Contains(cause.Error(), wire.SaysOtherProtocol):
		f.Reason, f.Text, f.Code = report.ReasonUpstreamNotGRPC, wire.SaysNotGRPC, report.ReasonUpstreamUnreachable.Row().Code
	case strings.HasPrefix(cause.Error(), saysUnhealthy):
		f = report.New(report.ReasonUpstreamUnhealthy, "the backend fails its health check")
	}
	f.Cause = cause
	return f
}
