package socket

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestReaderHoldsNoBufferWhileItWaits, and reads all that comes, in order, to
// the end. A deadline that passes loses nothing.
func TestReaderHoldsNoBufferWhileItWaits(t *testing.T) {
	server, client := tcpPair(t)
	pool := &parts.CountingPool{BufferPool: mem.DefaultBufferPool()}
	r := NewReader(seeThrough{server}, pool)
	if err := server.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if buf, err := r.Read(); buf != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("with nothing to read it returned %v, %v; want %v", buf, err, os.ErrDeadlineExceeded)
	}
	if n := pool.Out.Load(); n != 0 {
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
	if n := pool.Out.Load(); n != 0 {
		t.Errorf("%d buffers are out at the end", n)
	}
}

// seeThrough is a wrapper whose bytes are the socket's.
type seeThrough struct{ *net.TCPConn }

func (s seeThrough) NetConn() net.Conn { return s.TCPConn }

// TestPlainIsTheSocketItself, and nothing that changes what crosses it.
func TestPlainIsTheSocketItself(t *testing.T) {
	server, _ := tcpPair(t)
	pipe, other := net.Pipe()
	defer pipe.Close()
	defer other.Close()
	for _, c := range []struct {
		name string
		conn net.Conn
		want net.Conn
	}{
		{"a socket", server, server},
		{"a wrapper that is seen through", seeThrough{server}, server},
		{"one of those in another", struct{ seeThrough }{seeThrough{server}}, server},
		{"a wrapper", wrapper{server}, nil},
		{"a wrapper that hides what it is", struct{ *net.TCPConn }{server}, nil},
		{"TLS", tls.Server(server, &tls.Config{}), nil},
		{"TLS over a wrapper", tls.Server(seeThrough{server}, &tls.Config{}), nil},
		{"a pipe", pipe, nil},
		{"nothing", nil, nil},
	} {
		if got := Plain(c.conn); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if r := NewReader(c.conn, mem.DefaultBufferPool()); (r != nil) != (c.want != nil) {
			t.Errorf("%s: it has the reader %v", c.name, r)
		}
	}
}
