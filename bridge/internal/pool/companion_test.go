package pool

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
)

// An accompanied connection has a companion.
type accompanied struct {
	net.Conn
	run func(context.Context, grpc.ClientConnInterface)
}

func (a accompanied) Companion() func(context.Context, grpc.ClientConnInterface) { return a.run }

// TestCompanion calls on its own connection, also when that has no place for other calls, and ends with it.
func TestCompanion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 3)
		dial := b.Dial
		var begun, ended atomic.Int32
		again := make(chan struct{})
		b.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			c, err := dial(ctx, address)
			if err != nil {
				return nil, err
			}
			return accompanied{c, func(ctx context.Context, calls grpc.ClientConnInterface) {
				begun.Add(1)
				defer ended.Add(1)
				select {
				case <-again:
				case <-ctx.Done():
					return
				}
				s, err := calls.NewStream(ctx, bidi, testMethod, grpc.ForceCodecV2(bytesCodec{}))
				if err != nil {
					t.Errorf("a companion's call: %v", err)
				} else if err := s.SendMsg([]byte("hello")); err != nil {
					t.Errorf("a companion's call: %v", err)
				}
				<-ctx.Done()
			}}, nil
		}
		p := poolTo(t, b.Backend)
		ends := holding(t, p, 4)
		synctest.Wait()
		if got := b.CallsBy(); len(got) != 2 || got[0] != 2 || got[1] != 2 || begun.Load() != 2 {
			t.Errorf("%v calls, and %d companions; want 2 each", got, begun.Load())
		}
		close(again)
		synctest.Wait()
		if got := b.CallsBy(); len(got) != 2 || got[0] != 3 || got[1] != 3 {
			t.Errorf("%v calls, want one of each companion among 3", got)
		}
		b.Crash()
		synctest.Wait()
		if ended.Load() != 2 {
			t.Errorf("%d companions have ended with their connections, want 2", ended.Load())
		}
		endAll(ends)
	})
}
