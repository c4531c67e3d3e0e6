package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A dialOutcome is what culvert dial makes of a box by auto.
type dialOutcome struct {
	way  string // that it takes; "": none passes
	half bool   // requests reach the service when they have ended
}

var (
	byGRPC        = dialOutcome{way: "grpc"}
	byWebSocket   = dialOutcome{way: "websocket"}
	byGRPCWeb     = dialOutcome{way: "grpc-web"}
	byHalfGRPCWeb = dialOutcome{way: "grpc-web", half: true}
	byNone        = dialOutcome{}
)

// judge runs culvert dial with the doctor's arguments. Where a way passes, it carries a
// conversation; elsewhere calls end with a status soon.
func (o dialOutcome) judge(t *testing.T, idle time.Duration, args []string) {
	t.Helper()
	late := lateness(t)
	url := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "https://") })
	d := startDial(t, args[url], slices.Concat(args[:url], args[url+1:])...)
	conn := dial(t, wire.GRPC, d.address)
	call := open(t, conn, wire.Bidi, probe.Script{Echo: true})
	begun := time.Now()
	err := converse(call, 0)
	took := time.Since(begun)
	if most := noticedWithin + late(); took > most {
		t.Errorf("%v passed until the answer or the end, want at most %v", took, most)
	}
	if o.way != "" && !o.half {
		if err != nil {
			t.Errorf("a conversation: %v\n%s", err, d.output.tail(10))
			return
		}
	} else {
		want := codes.Unavailable
		if o.half {
			want = codes.Unimplemented
		}
		if st := call.Status(); err == nil || st == nil || st.Code != want || st.Reason() == "" {
			t.Errorf("a conversation: %v, %v; want %v with a reason", err, st, want)
		}
		if !o.half {
			return
		}
		if err := works(t, wire.GRPC, d.address, patience); err != nil {
			t.Errorf("a unary call: %v", err)
		}
	}
	if idle > 0 {
		<-time.After(idle) // longer than the box waits
		if err := converse(call, conversation); err != nil && (call.Status() == nil || call.Status().Code != codes.Unavailable || call.Status().Reason() == "") {
			t.Errorf("after %v: %v, %v", idle, err, call.Status())
		} else {
			t.Logf("after %v: %v", idle, call.Status())
		}
	}
	o.awaitWay(t, d, begun)
}

// awaitWay waits until calls take the way. On a busy machine another one may deliver first, and
// is left a minute later.
func (o dialOutcome) awaitWay(t *testing.T, d *dialled, begun time.Time) {
	t.Helper()
	connected := "connected by " + o.way + ","
	if err := eventually(patience, func() error {
		if err := works(t, wire.GRPC, d.address, patience); err != nil {
			return err
		}
		for _, line := range d.output.all() {
			if strings.HasPrefix(line, connected) {
				return nil
			}
		}
		return fmt.Errorf("no way is %s:\n%s", o.way, d.output.tail(10))
	}); err != nil {
		t.Error(err)
	}
	t.Logf("%s, after %v", o.way, time.Since(begun).Round(time.Millisecond))
}

// conversation is how many messages converse exchanges.
const conversation = 5

// converse sends messages, from the number from on, each behind the answer to the one before.
func converse(c *call, from uint64) error {
	for n := from; n < from+conversation; n++ {
		if err := c.Send(wire.Request(n, 1000)); err != nil {
			_, _ = c.Recv() // it has the status
			return err
		}
		if _, err := wire.RecvReply(c, n); err != nil {
			return err
		}
	}
	return nil
}
