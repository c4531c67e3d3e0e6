package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/spawn"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// transfer carries messages through culvert in one call, in a process of its own.
func transfer(t *testing.T, address string, transport wire.Transport, up bool, messages, size int) {
	t.Helper()
	cmd := exec.Command(transferProgram, "-address", address, "-transport", string(transport),
		fmt.Sprintf("-up=%v", up), "-messages", strconv.Itoa(messages), "-size", strconv.Itoa(size), "-id", newID(t))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := spawn.Start(cmd); err != nil {
		t.Fatal(err)
	}
	timeout := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() }) // gone then, or hung
	defer timeout.Stop()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
}

var gigabyteTransports = []wire.Transport{wire.GRPC, wire.Web, wire.WebSocket, wire.Tunnel}

// A gigabyte in messages of 64 KiB grows culvert by less than 4 MiB, up or down. Short calls
// come first, until the collector has run: garbage gathers before that, whatever comes.
func TestGigabyteGrowsNothing(t *testing.T) {
	b := startBackend(t, backendOptions{})
	for _, direction := range []string{"down", "up"} {
		t.Run(direction, func(t *testing.T) {
			perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
				size := 1024 * mib
				if !slices.Contains(gigabyteTransports, transport) {
					size /= 8 // nothing in them that isn't in the others
				}
				c := startCulvert(t, b.address, culvertOptions{})
				fresh := c.rss(t)
				for range 1000 { // each with a connection, some 25 KiB of garbage
					if err := works(t, transport, c.address, 20*time.Second); err != nil {
						t.Fatal(err)
					}
				}
				transfer(t, c.address, transport, direction == "up", 16*mib/(64*kib), 64*kib)
				warm := c.rss(t)
				c.resetPeak(t)
				began := time.Now()
				transfer(t, c.address, transport, direction == "up", size/(64*kib), 64*kib)
				peak := c.peak(t)
				t.Logf("%d MiB in %v: %d KiB fresh, %d warm, %d at most", size/mib, time.Since(began).Round(time.Millisecond), fresh/kib, warm/kib, peak/kib)
				if grown := peak - warm; grown >= 4*mib {
					t.Errorf("culvert grew by %d KiB, want less than 4096", grown/kib)
				}
			})
		})
	}
}

// 16 clients that read slowly grow culvert by less than 24 MiB, however fast the
// backend could be.
func TestSlowReadersAreNotBufferedFor(t *testing.T) { // alone: it takes all of the machine
	const readers = 16
	b := startBackend(t, backendOptions{})
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		t.Parallel()
		c := startCulvert(t, b.address, culvertOptions{})
		if err := works(t, transport, c.address, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		before := c.rss(t)
		c.resetPeak(t)
		shared := dial(t, transport, c.address)
		var work sync.WaitGroup
		for range readers {
			conn := shared
			if !transport.Multiplexed() {
				conn = dial(t, transport, c.address)
			}
			call := post(t, conn, wire.ServerStream, probe.Script{Replies: 1 << 20, ReplyBytes: 64 * kib})
			work.Go(func() {
				pace := time.NewTicker(50 * time.Millisecond)
				defer pace.Stop()
				for i := range uint64(100) {
					<-pace.C
					if _, err := wire.RecvReply(call, i); err != nil {
						t.Errorf("reply %d: %v", i, err)
						return
					}
				}
			})
		}
		work.Wait()
		grown := c.peak(t) - before
		t.Logf("culvert grew by %d KiB", grown/kib)
		if grown >= 24*mib {
			t.Errorf("culvert grew by %d KiB, want less than %d", grown/kib, 24*kib)
		}
	})
}

// A length prefix costs nothing until the bytes come.
func TestLengthPrefixAllocatesNothing(t *testing.T) {
	b := startBackend(t, backendOptions{})
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		t.Parallel()
		c := startCulvert(t, b.address, culvertOptions{})
		if err := works(t, transport, c.address, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		before := c.rss(t)
		conn := dial(t, transport, c.address)
		for i := range 64 {
			if i > 0 && !transport.Multiplexed() {
				conn = dial(t, transport, c.address)
			}
			call := open(t, conn, wire.Bidi, probe.Script{Echo: true})
			if err := call.Write(append(wire.Frame(wire.Request(0, 16)), wire.Prefix(16*mib)...)); err != nil {
				t.Fatal(err)
			}
			// The answer to the message before shows that the prefix was read, too.
			if _, err := wire.RecvReply(call, 0); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		if grown := c.peak(t) - before; grown > 8*mib {
			t.Errorf("64 prefixes of 16 MiB grew culvert by %d KiB", grown/kib)
		}
	})
}
