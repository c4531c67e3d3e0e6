package upstream

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/bridge/memory"
)

// TestGrantedReplyCountsWithItsCall: from the moment a backend may send a large message
// its call holds all of it, and the account nothing besides. If the rest can't come, the
// call holds what came.
func TestGrantedReplyCountsWithItsCall(t *testing.T) {
	const size, came = 1 << 20, 300_000
	a := memory.New(64<<20, 0)
	near, far := net.Pipe()
	c := newWindowConn(near, a)
	defer c.Close()
	go io.Copy(io.Discard, far) //nolint:errcheck // it ends with the pipe
	held := a.NewEntry()
	f := &flow{entry: held, id: "one"}
	c.expect(f)

	var block, sent bytes.Buffer
	if err := hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: idHeader, Value: "one"}); err != nil {
		t.Fatal(err)
	}
	sent.WriteString(http2.ClientPreface)
	client := http2.NewFramer(&sent, nil)
	_ = client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	_ = client.WriteWindowUpdate(1, size)
	if _, err := c.Write(sent.Bytes()); err != nil {
		t.Fatal(err)
	}
	want := func(when string, all, arrived int64) {
		t.Helper()
		if got := held.Messages(); got != all {
			t.Errorf("%s the call holds %d bytes, want %d", when, got, all)
		}
		if got := held.Arrived(); got != arrived {
			t.Errorf("%s %d bytes have arrived, want %d", when, got, arrived)
		}
		if got := a.Used(); got != all {
			t.Errorf("%s the account has %d bytes, want the call's %d", when, got, all)
		}
	}
	const granted = size - streamWindow
	want("before anything has come", granted, 0)

	sending := make(chan error, 2)
	backend := http2.NewFramer(far, nil)
	read := func(bytes int) {
		t.Helper()
		for buf := make([]byte, bytes); bytes > 0; {
			n, err := c.Read(buf[:bytes])
			if err != nil {
				t.Fatal(err)
			}
			bytes -= n
		}
		if err := <-sending; err != nil {
			t.Fatal(err)
		}
	}
	go func() { sending <- backend.WriteSettings() }()
	read(frameHeaderBytes)
	go func() { sending <- backend.WriteData(1, false, make([]byte, came)) }()
	read(frameHeaderBytes + came)
	want("behind a part", granted, came)
	go func() { sending <- backend.WriteRSTStream(1, http2.ErrCodeCancel) }()
	read(frameHeaderBytes + 4)
	want("once the rest can't come", came, came)
	f.taken(1, came-prefixBytes)
	want("once it is taken", 0, 0)
}
