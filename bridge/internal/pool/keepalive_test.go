package pool

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestTooManyPings: after a GOAWAY that complains of PINGs, later connections have half as
// many. gRFC A8.
func TestTooManyPings(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	serving.Go(func() {
		for conn, err := ln.Accept(); err == nil; conn, err = ln.Accept() {
			serving.Go(func() { complainOfPings(conn) })
		}
	})
	p := poolTo(t, report.Backend{Keepalive: time.Minute, Target: ln.Addr().String()})
	t.Cleanup(func() { _ = ln.Close() }) // before the others
	for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 2 * time.Minute, 4 * time.Minute} {
		if e := makeCall(within(t, patience), t, p); e.status.Code() != codes.OK {
			t.Fatal(e.status)
		}
		poll(t, func() string {
			if got := time.Duration(p.keepalive.Load()); got != want {
				return fmt.Sprintf("later connections are pinged every %v, want %v", got, want)
			}
			return ""
		})
	}
}

// complainOfPings answers the calls of a connection with OK, and ends it after the second.
func complainOfPings(conn net.Conn) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	_ = framer.WriteSettings() // what fails shows when it reads
	for f, err := framer.ReadFrame(); err == nil; f, err = framer.ReadFrame() {
		id := f.Header().StreamID
		if f.Header().Type != http2.FrameHeaders {
			continue
		}
		writeHeaders(framer, id, false, ":status", "200", "content-type", "application/grpc")
		writeHeaders(framer, id, true, "grpc-status", "0")
		if id > 1 {
			_ = framer.WriteGoAway(id, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings"))
		}
	}
}
