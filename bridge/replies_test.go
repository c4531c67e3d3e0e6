package bridge

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // as backends have it
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/codec"
)

// TestRepliesThatArriveTogether may leave together, unless one may have to wait for its
// decompression.
func TestRepliesThatArriveTogether(t *testing.T) {
	for name, c := range map[string]struct {
		subtype, coding string
		want            []bool
	}{
		"as they are": {"", "", []bool{true, true, false}},
		"compressed":  {"", "gzip", []bool{false, false, false}},
		"as JSON":     {"json", "", []bool{true, true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newChannelDown(t)
				d.headers = make(chan metadata.MD) // the client takes its header late
				_, wait := pumpedFrom(t, d, Backend{Descriptors: describedChat(t)}, c.subtype, func(ss grpc.ServerStream) error {
					if c.coding != "" {
						if err := grpc.SetSendCompressor(ss.Context(), c.coding); err != nil {
							return err
						}
					}
					for range 3 {
						if err := ss.SendMsg([]byte(lineHello)); err != nil {
							return err
						}
					}
					return hold(ss)
				})
				synctest.Wait()
				<-d.headers
				for range c.want {
					<-d.replies
				}
				synctest.Wait()
				if !slices.Equal(d.more, c.want) {
					t.Errorf("the client was told of more: %v, want %v", d.more, c.want)
				}
				d.cancel(errGone)
				<-d.end
				wait()
			})
		})
	}
}

// TestKeptReplyLeavesBeforeAWait: a reply that was kept for the next one doesn't wait with it for
// its conversion.
func TestKeptReplyLeavesBeforeAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newChannelDown(t)
		d.headers = make(chan metadata.MD) // the client takes its header late
		c, wait := pumpedFrom(t, d, Backend{Descriptors: describedChat(t)}, "json", func(ss grpc.ServerStream) error {
			for range 2 {
				if err := ss.SendMsg([]byte(lineHello)); err != nil {
					return err
				}
			}
			return hold(ss)
		})
		synctest.Wait() // both have come
		<-d.headers
		synctest.Wait() // the first one is being sent
		var ends []func()
		const most = 256 << 10 // of a small conversion
		for room := c.s.account.Messages() / 32; room > 0; room -= most {
			others := c.s.account.NewEntry()
			others.Own(new(memory.Address))
			done, _, err := others.Convert(t.Context(), min(room, most), nil)
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, done, others.Settle)
		}
		<-d.replies
		synctest.Wait()
		if n := d.flushes.Load(); n != 1 {
			t.Errorf("the client's end is told %d times that nothing follows, while the next reply waits", n)
		}
		for _, end := range ends {
			end()
		}
		<-d.replies
		d.cancel(errGone)
		<-d.end
		wait()
		if n := d.flushes.Load(); n != 1 {
			t.Errorf("at the end it was told so %d times", n)
		}
	})
}

// TestSmallRepliesAreGivenBack while more follow, also empty ones.
func TestSmallRepliesAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 100_000
		d := newChannelDown(t)
		c, wait := pumpedFrom(t, d, Backend{}, "", func(ss grpc.ServerStream) error {
			for range messages {
				if err := ss.SendMsg([]byte{}); err != nil {
					return err
				}
			}
			return nil
		})
		go close(d.requests)
		<-d.headers
		for range messages {
			synctest.Wait() // the client is the slowest
			<-d.replies
			if n := c.held.Total(); n > wire.MaxStreamWindow+44<<10 { // and a call's own
				t.Fatalf("the call holds %d bytes", n)
			}
		}
		<-d.end
		wait()
	})
}

// TestParkedReplyWaitsNoLonger: a client's end that parks sees what waits behind each reply.
func TestParkedReplyWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gs := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.WaitForHandlers(true), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
			for _, m := range []string{"first", "last"} {
				if err := ss.SendMsg([]byte(m)); err != nil {
					return err
				}
			}
			return hold(ss)
		}))
		backend, stop := InProcess(gs)
		defer stop()
		defer gs.Stop()
		s := newServer(t, Config{Backend: backend})
		d := &parkingDown{channelDown: newChannelDown(t)}
		s.sockets.Start(func() { newCallOf(s).handle(context.Background(), d, nil, nil) })
		synctest.Wait() // both replies have come
		for _, want := range []struct {
			reply  string
			behind int64
		}{{"first", int64(len("first") + len("last") + 2*codec.FrameHeaderBytes)}, {"last", int64(len("last") + codec.FrameHeaderBytes)}} {
			parked := make(chan struct{})
			d.replies(func() { close(parked) })
			<-parked
			if d.reply != want.reply || d.behind != want.behind {
				t.Errorf("%q came, with %d bytes waiting; want %q with %d", d.reply, d.behind, want.reply, want.behind)
			}
		}
		d.cancel(errDraining)
		d.replies(func() { t.Error("the call has parked at its end") })
		<-d.end
		s.sockets.Stop()
	})
}
