package e2e

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/relay"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// culvert is stopped and goes on, as in a virtual machine that is frozen or a
// container that is throttled, while answers to its pings are under way. It finds
// them in its sockets, later than it had to, and no call is lost.
func TestStoppedCulvert(t *testing.T) {
	t.Parallel()
	const (
		perTransport = 32
		spread       = 8 * time.Second  // over which the calls begin
		delay        = 2 * time.Second  // each way
		stop         = 29 * time.Second // when some pings of each transport are unanswered
		stopped      = 20 * time.Second
		length       = 54 * time.Second // of a call
	)
	// Over TCP the backend's kernel would give culvert up: grpc-go's default
	// (TCP_USER_TIMEOUT) allows its data 20 s to be taken.
	b := startBackend(t, backendOptions{listen: "unix:"})
	c := startCulvert(t, b.address, culvertOptions{})
	far, err := relay.New(c.address, func(int) relay.Fate { return relay.Fate{Delay: delay} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(far.Close)
	scripts := []probe.Script{
		{HeaderEarly: true, Replies: 1, ReplyEvery: probe.Millis(length.Milliseconds())},
		{Replies: int(length / time.Second), ReplyBytes: 1000, ReplyEvery: 1000, KeepPace: true},
	}
	var calls sync.WaitGroup
	for after, signal := range map[time.Duration]syscall.Signal{stop: syscall.SIGSTOP, stop + stopped: syscall.SIGCONT} {
		calls.Go(func() {
			<-time.After(after)
			if err := c.cmd.Process.Signal(signal); err != nil {
				t.Error(err)
			}
		})
	}
	for _, transport := range wire.All {
		for i := range perTransport {
			script := scripts[i%len(scripts)]
			calls.Go(func() {
				<-time.After(spread * time.Duration(i) / perTransport)
				if err := lateCall(t, transport, far.Addr(), script); err != nil {
					t.Errorf("%s, with %d replies: %v", transport, script.Replies, err)
				}
			})
		}
	}
	calls.Wait()
}

// lateCall makes a call over a new connection on which all takes long.
func lateCall(t *testing.T, transport wire.Transport, address string, script probe.Script) error {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	conn, err := wire.Dial(ctx, transport, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute)) // a call that hangs shall fail
	call, err := conn.Post(ctx, wire.ServerStream, wire.Metadata(newID(t), script), wire.Request(0, 0))
	if err != nil {
		return err
	}
	defer call.Close()
	if e := finish(call, 0); e.status == nil || e.status.Code != codes.OK || int(e.replies) != script.Replies {
		return fmt.Errorf("%v", e)
	}
	return nil
}
