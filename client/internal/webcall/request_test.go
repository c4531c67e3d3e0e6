package webcall

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestGather: a request may take its time, as long as it grows, and has a bound.
func TestGather(t *testing.T) {
	for name, test := range map[string]struct {
		write func(*io.PipeWriter)
		n     int64
		err   error
	}{
		"held": {func(w *io.PipeWriter) { _, _ = w.Write([]byte("x")) }, -1, errHeld},
		"slow": {func(w *io.PipeWriter) {
			for range 5 {
				_, _ = w.Write([]byte("x"))
				time.Sleep(gatherPatience - time.Second)
			}
			_ = w.Close()
		}, 5, nil},
		"large": {func(w *io.PipeWriter) { _, _ = w.Write(make([]byte, maxGathered)) }, -1, errTooMuch},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var a account
				a.left.Store(maxGatheredInAll)
				q := &request{most: maxAhead}
				q.changed.L = &q.mu
				r, w := io.Pipe()
				var running sync.WaitGroup
				running.Go(func() { test.write(w) })
				running.Go(func() { q.read(r) })
				if n, err := q.gather(t.Context(), &a); n != test.n || !errors.Is(err, test.err) {
					t.Errorf("%d, %v, want %d, %v", n, err, test.n, test.err)
				}
				_, _ = q.Close(), r.Close() // they can't fail
				running.Wait()
			})
		})
	}
}

// TestGatheredInAll: requests that are held until they are whole have a bound together. Their
// end makes room for others.
func TestGatheredInAll(t *testing.T) {
	s, cc := connect(t, webHead+"\r\n"+chunk(framed(0x80, "grpc-status: 0\r\n")))
	const many, one = 20, 12 << 20
	begin := func() grpc.ClientStream {
		c, err := cc.NewStream(parts.Within(t, parts.Patience), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/a.B/C")
		if err == nil {
			err = c.SendMsg(make([]byte, one))
		}
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return c
	}
	ends := make(chan error, many)
	var open []grpc.ClientStream
	for range many {
		c := begin()
		open = append(open, c)
		go func() { ends <- c.RecvMsg(new([]byte)) }() // all are awaited below
	}
	err := <-ends
	for _, c := range open {
		_ = c.CloseSend() // RecvMsg tells
	}
	for left := many; ; {
		st := status.Convert(err)
		if !errors.Is(err, io.EOF) && (st.Code() != codes.ResourceExhausted || len(st.Details()) != 1 || !strings.Contains(st.Message(), "fewer calls")) {
			t.Errorf("%v", err)
		} else if !errors.Is(err, io.EOF) {
			if info, ok := st.Details()[0].(*errdetails.ErrorInfo); !ok || info.GetDomain() != "culvert" || info.GetReason() != "REQUESTS_OVER_BUDGET" {
				t.Errorf("%v", st.Details())
			}
		}
		if left == many && errors.Is(err, io.EOF) {
			t.Error("no call was refused before its request had ended")
		}
		if left--; left == 0 {
			break
		}
		err = <-ends
	}
	parts.Poll(t, func() string {
		if left := s.gathered.left.Load(); left != maxGatheredInAll {
			return fmt.Sprintf("%d bytes are left of %d", left, maxGatheredInAll)
		}
		return ""
	})
	c := begin()
	if err := c.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := c.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
		t.Errorf("a call after those: %v", err)
	}
}
