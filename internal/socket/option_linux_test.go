package socket

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestStalledClientHoldsLittleOfTheKernel: for a client that takes nothing, the kernel
// holds unsentBytes beyond what is on its way, however much is written.
func TestStalledClientHoldsLittleOfTheKernel(t *testing.T) {
	ln := parts.Listen(t, "127.0.0.1:0")
	client, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	Probe(server, net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: time.Minute, Count: 3}, false)
	raw := rawConn(server)
	written, unsent := 0, 0
	_ = raw.Control(func(fd uintptr) { // it is open
		piece := make([]byte, 64<<10)
		for err == nil { // it is a socket that doesn't block
			var n int
			if n, err = unix.Write(int(fd), piece); n > 0 {
				written += n
			}
		}
		const notSent = 0x894b // SIOCOUTQNSD: tcp(7) has its relatives
		unsent, _ = unix.IoctlGetInt(int(fd), notSent)
	})
	if !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("writing ended with %v", err)
	}
	if most := unsentBytes + 128<<10; unsent > most { // a write that has begun may add its piece, and the kernel rounds
		t.Errorf("of %d bytes written the kernel holds %d that it hasn't sent, want %d at most", written, unsent, most)
	}
}
