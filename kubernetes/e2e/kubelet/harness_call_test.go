package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// roundTrip makes a call on a connection of its own: three requests, each of which
// comes back.
func roundTrip(ctx context.Context, transport wire.Transport, address string) error {
	const messages = 3
	conn, err := wire.Dial(ctx, transport, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	call, err := conn.Open(ctx, wire.ClientStream, wire.Metadata("", probe.Script{}))
	if err != nil {
		return err
	}
	defer call.Close()
	for i := range uint64(messages) {
		if err := call.Send(wire.Request(i, 100)); err != nil {
			return err
		}
	}
	if err := call.CloseSend(); err != nil {
		return err
	}
	reply, err := wire.RecvReply(call, 0)
	if err != nil {
		return ended(call, err)
	}
	if n := reply.GetReceived(); n != messages {
		return fmt.Errorf("the service got %d messages, want %d", n, messages)
	}
	_, err = call.Recv()
	return ended(call, err)
}

// ended returns nil if a call has ended with OK.
func ended(call wire.Call, err error) error {
	if !errors.Is(err, io.EOF) || errors.Is(err, wire.ErrCut) {
		return fmt.Errorf("the call goes on: %w", err)
	}
	if s := call.Status(); s.Code != 0 {
		return &statusError{s}
	}
	return nil
}

// A statusError is the end of a call that wasn't OK.
type statusError struct{ status *wire.Status }

func (e *statusError) Error() string { return "the call ended with " + e.status.String() }

// transports are the ways to culvert that the tests try.
var transports = []wire.Transport{wire.GRPC, wire.Web, wire.WebText, wire.WebH2, wire.WebSocket, wire.Tunnel}

// callAll makes one call by each transport.
func callAll(t *testing.T, address string) {
	t.Helper()
	for _, transport := range transports {
		if err := roundTrip(t.Context(), transport, address); err != nil {
			t.Errorf("%s: %v", transport, err)
		}
	}
}
