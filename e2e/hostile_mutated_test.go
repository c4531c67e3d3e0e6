package e2e

import (
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var mutateTime = flag.Duration("mutate", 3*time.Second, "how long TestMutatedBytes sends")

// Bytes like those of the tables, but with something changed by chance, break
// nothing: the program lives, others are served, and nothing is left behind.
func TestMutatedBytes(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "limits: {message_bytes: 1MiB}\n", args: []string{"--log-level", "debug"}})
	warm(t, c)
	descriptors := c.descriptors(t)
	var senders sync.WaitGroup
	var sent atomic.Int64
	until := time.Now().Add(*mutateTime)
	for range 32 {
		senders.Go(func() {
			dice := rand.New(rand.NewPCG(rand.Uint64(), 0))
			for time.Now().Before(until) && !t.Failed() {
				f := hostileFamilies[dice.IntN(len(hostileFamilies))]
				text := f.table[dice.IntN(len(f.table))].send
				if dice.IntN(4) == 0 {
					text += f.table[dice.IntN(len(f.table))].send
				}
				f.throw(t, c.address, mutated(dice, text), dice)
				if n := sent.Add(1); n%100 == 0 {
					if err := works(t, f.after, c.address, 20*time.Second); err != nil {
						t.Errorf("a call meanwhile: %v", err)
					}
				}
			}
		})
	}
	senders.Wait()
	t.Logf("%d connections", sent.Load())
	b.idle(t, time.Minute) // a client that is held back is noticed within 45 s
	if err := eventually(patience, func() error { return sameDescriptors(t, c, descriptors) }); err != nil {
		t.Error(err)
	}
	for _, line := range c.output.all() {
		if strings.Contains(line, "panic") || strings.Contains(line, `"level":"ERROR"`) {
			t.Errorf("culvert's log: %s", line)
		}
	}
	if !t.Failed() {
		wantGoroutines(t, c, goroutinesAtRest(t, b))
	}
}

// mutated is b with some of it changed, lost, doubled or swapped.
func mutated(dice *rand.Rand, text string) []byte {
	b := []byte(text)
	for range 1 + dice.IntN(4) {
		if len(b) == 0 {
			break
		}
		at := dice.IntN(min(len(b), 4096))
		to := min(len(b), at+1+dice.IntN(16))
		switch dice.IntN(6) {
		case 0:
			b[at] ^= 1 << dice.IntN(8)
		case 1:
			b[at] = byte(dice.IntN(256))
		case 2:
			b[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[dice.IntN(5)]
		case 3:
			b = append(b[:at:at], b[to:]...)
		case 4:
			b = append(b[:to:to], b[at:]...)
		case 5:
			b = b[:at]
		}
	}
	return b
}

// throw sends b on a connection of its own, and takes what comes for a moment.
func (f hostileFamily) throw(t *testing.T, address string, b []byte, dice *rand.Rand) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second)) // just opened
	if f.begin != nil {
		if err := f.begin(conn); err != nil {
			t.Error(err)
			return
		}
	}
	if f.inTunnel {
		b = tunnelMessage(b)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Duration(20+dice.IntN(200)) * time.Millisecond)) // just opened
	var sending sync.WaitGroup
	sending.Go(func() {
		_, _ = conn.Write(b) // culvert may have closed
		if dice.IntN(2) == 0 {
			_ = conn.(*net.TCPConn).CloseWrite() // culvert may have closed
		}
	})
	_, _ = io.Copy(io.Discard, conn) // to the deadline
	sending.Wait()
	_ = conn.(*net.TCPConn).SetLinger(0) // or the kernel goes on with what is held back; culvert may have closed
}
