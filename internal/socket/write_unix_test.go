//go:build unix

package socket

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
)

// latePair returns both ends of a TCP connection. The first has a write deadline in the past.
func latePair(t *testing.T) (late *net.TCPConn, peer net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }() // it accepted all
	peer, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() }) // the test is over
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the test is over
	if err := c.SetWriteDeadline(LongAgo); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn), peer
}

// TestLateWrites send what the socket accepts, and wait for nothing.
func TestLateWrites(t *testing.T) {
	for name, write := range map[string]func(c net.Conn, p []byte) (int, error){
		"one piece": func(c net.Conn, p []byte) (int, error) {
			n, err := c.Write(p)
			return WriteLate(c, p, n, err)
		},
		"pieces": func(c net.Conn, p []byte) (int, error) {
			return WriteAll(c, &net.Buffers{p[:1], nil, p[1:2], p[2:]})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := latePair(t)
			small := []byte("the status")
			if n, err := write(c, small); n != len(small) || err != nil {
				t.Fatalf("a write that needn't wait: %d bytes and %v, want all", n, err)
			}
			large := bytes.Repeat([]byte("x"), 64<<20) // more than all buffers on the way
			n, err := write(c, large)
			if n == 0 || n == len(large) || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a write that must wait: %d bytes and %v, want a part and the deadline", n, err)
			}
			_ = c.Close() // the peer reads to the end
			got, err := io.ReadAll(peer)
			if want := len(small) + n; len(got) != want || err != nil {
				t.Errorf("the peer read %d bytes with %v, want %d", len(got), err, want)
			}
			if n, err := write(c, small); n != 0 || err == nil {
				t.Errorf("a write to a closed connection: %d bytes and %v", n, err)
			}
		})
	}
}

// TestLateWriteUnderTLS sends nothing around TLS.
func TestLateWriteUnderTLS(t *testing.T) {
	c, peer := latePair(t)
	over := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	if n, err := WriteLate(over, []byte("secret"), 0, os.ErrDeadlineExceeded); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d and %v, want nothing and the deadline", n, err)
	}
	_ = c.Close() // the peer reads to the end
	if got, _ := io.ReadAll(peer); len(got) > 0 {
		t.Errorf("the peer read %q in clear text", got)
	}
}
