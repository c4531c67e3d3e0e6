package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
)

// countingPool counts the buffers that are out.
type countingPool struct {
	mem.BufferPool
	out atomic.Int64
}

func (p *countingPool) Get(n int) *[]byte {
	p.out.Add(1)
	return p.BufferPool.Get(n)
}

func (p *countingPool) Put(b *[]byte) {
	p.out.Add(-1)
	p.BufferPool.Put(b)
}

// TestReaderHoldsNoBufferWhileItWaits, and reads all that comes, in order, to
// the end. A deadline that passes loses nothing.
func TestReaderHoldsNoBufferWhileItWaits(t *testing.T) {
	server, client := tcpPair(t)
	pool := &countingPool{BufferPool: mem.DefaultBufferPool()}
	r := NewReader(wrapper{server}, pool)
	if err := server.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if buf, err := r.Read(); buf != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("with nothing to read it returned %v, %v; want %v", buf, err, os.ErrDeadlineExceeded)
	}
	if n := pool.out.Load(); n != 0 {
		t.Errorf("%d buffers are out after a wait in vain", n)
	}
	if err := server.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 200<<10)
	for i := range want {
		want[i] = byte(i >> 8)
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		if _, err := client.Write(want); err != nil {
			t.Error(err)
		}
		_ = client.Close() // the end is what is looked for
	})
	var got []byte
	for {
		buf, err := r.Read()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("it ended with %v, want %v", err, io.EOF)
			}
			break
		}
		got = append(got, *buf...)
		pool.Put(buf)
	}
	sending.Wait()
	if !bytes.Equal(got, want) {
		t.Errorf("the %d bytes that were read differ from the %d that were sent", len(got), len(want))
	}
	if n := pool.out.Load(); n != 0 {
		t.Errorf("%d buffers are out at the end", n)
	}
}

func TestNoReaderWithoutASocket(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	if NewReader(one, mem.DefaultBufferPool()) != nil {
		t.Error("a pipe is read as a socket")
	}
}
