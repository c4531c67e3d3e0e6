package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// packedCall makes a call of one compressed message.
func packedCall(t testing.TB, conn *wire.Conn, packed string) (end, error) {
	md := wire.Metadata(newID(t), probe.Script{AnyPayload: true})
	md["grpc-encoding"] = []string{"gzip"}
	call, err := conn.Open(context.Background(), wire.ClientStream, http.Header(md))
	if err != nil {
		return end{}, err
	}
	defer call.Close()
	if err := call.Write([]byte(prefixed(1, uint32(len(packed)), packed))); err != nil {
		return end{}, err
	}
	_ = call.CloseSend() // the end says more
	return finish(call, 0), nil
}

// One address sends, from ten connections, 500 messages a second of 15 MiB that are
// 15 KiB on the wire, the first 500 at once. culvert has one CPU. Half of that is left,
// by the default limits, and another address's compressed calls are all served.
func TestExpansionByOneAddress(t *testing.T) {
	const conns, each, lasts = 10, 50, 4 * time.Second
	t.Setenv("GOMAXPROCS", "1") // culvert has the environment of the tests; their own was read at their start
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	bomb := gzipped(protowire.AppendBytes(protowire.AppendTag(nil, 15, protowire.BytesType), make([]byte, 15*mib)))
	honest := gzipped(wire.Request(0, 4*kib))

	before, began := c.processor(t), time.Now()
	var passed, refused atomic.Int64
	var attack sync.WaitGroup
	for range conns {
		conn := dial(t, wire.GRPC, c.address)
		for range each {
			attack.Go(func() {
				pace := time.NewTicker(time.Second)
				defer pace.Stop()
				for time.Since(began) < lasts {
					switch e, err := packedCall(t, conn, bomb); {
					case err != nil:
						t.Errorf("an attacker's connection: %v", err)
						return
					case e.is(codes.ResourceExhausted, "LIMIT_EXCEEDED") && strings.Contains(e.status.Message, "limits.address.decompressed_bytes_per_second"):
						refused.Add(1)
					case e.is(codes.OK, ""):
						passed.Add(1)
					default:
						t.Errorf("an attacker's call: %v, want OK or a refusal by the address's limit", e)
					}
					<-pace.C
				}
			})
		}
	}

	other := dialFrom(t, wire.GRPC, clientIP, c.address)
	served := 0
	var slowest time.Duration
	for next := time.NewTicker(50 * time.Millisecond); time.Since(began) < lasts; <-next.C {
		asked := time.Now()
		if err := func() error {
			e, err := packedCall(t, other, honest)
			if err == nil && !e.is(codes.OK, "") {
				err = fmt.Errorf("%v", e)
			}
			return err
		}(); err != nil {
			t.Errorf("another address's call: %v", err)
		}
		served++
		slowest = max(slowest, time.Since(asked))
	}
	used, took := c.processor(t)-before, time.Since(began)
	attack.Wait()
	attacked := time.Since(began) // on a busy machine the last ones end much later
	sent := (passed.Load() + refused.Load()) * int64(len(bomb))
	t.Logf("%d MB of gzip came from one address in %v: %d messages passed, %d were refused; culvert took %v of CPU time; %d calls of another address, the slowest took %v",
		sent/1_000_000, took.Round(time.Millisecond), passed.Load(), refused.Load(), used, served, slowest.Round(time.Millisecond))
	if used > took/2 {
		t.Errorf("culvert took %v of CPU time in %v, want half of a CPU at most", used, took)
	}
	// A second's worth is there at first, and one message may be a debt.
	if most := int64((attacked.Seconds()+3)*16) / 15; passed.Load() > most {
		t.Errorf("%d of the attacker's messages passed, want %d at most", passed.Load(), most)
	}
	if passed.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d of the attacker's messages passed and %d were refused, want both", passed.Load(), refused.Load())
	}
}
