package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// rawCodec hands messages through as bytes.
type rawCodec struct{}

func (rawCodec) Name() string { return "raw" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

var _ encoding.CodecV2 = rawCodec{}

func dialGRPC(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() }) // at the end
	return cc
}

// grpcEcho is a gRPC server of one method: it sends each message back.
func grpcEcho(w http.ResponseWriter, r *http.Request) {
	w.Header()["Date"] = nil
	w.Header().Set("Content-Type", "application/grpc")
	echo(w, r)
	w.Header().Set(http.TrailerPrefix+"grpc-status", "0")
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

// TestGRPC is grpc-go's client with messages of all sizes, many streams at
// once on one connection.
func TestGRPC(t *testing.T) {
	cc := dialGRPC(t, serve(t, grpcEcho))
	ctx := within(t, 3*patience)
	var streams sync.WaitGroup
	for i := range 50 {
		streams.Go(func() {
			stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/a.B/C")
			if err != nil {
				t.Error(err)
				return
			}
			for _, size := range []int{0, 1, 100, 1000, 5000, 17_000, 100_000, 300_000, i} {
				want := pattern(size)
				if err := stream.SendMsg(want); err != nil {
					t.Error(err)
					return
				}
				var got []byte
				if err := stream.RecvMsg(&got); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes came back as %d, %v", len(want), len(got), err)
					return
				}
			}
			_ = stream.CloseSend() // always nil
			if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
				t.Errorf("the call ended with %v, want OK", err)
			}
		})
	}
	streams.Wait()
}

// TestGRPCBulk sends both ways without waiting.
func TestGRPCBulk(t *testing.T) {
	cc := dialGRPC(t, serve(t, grpcEcho))
	ctx := within(t, 3*patience)
	var streams sync.WaitGroup
	for range 4 {
		stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/a.B/C")
		if err != nil {
			t.Fatal(err)
		}
		const messages, size = 100, 64 << 10
		streams.Go(func() {
			for range messages {
				if err := stream.SendMsg(pattern(size)); err != nil {
					t.Error(err)
					return
				}
			}
			_ = stream.CloseSend() // always nil
		})
		streams.Go(func() {
			for i := range messages {
				var got []byte
				if err := stream.RecvMsg(&got); err != nil || !bytes.Equal(got, pattern(size)) {
					t.Errorf("message %d: %d bytes, %v", i, len(got), err)
					return
				}
			}
			if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
				t.Errorf("the call ended with %v, want OK", err)
			}
		})
	}
	streams.Wait()
}

// TestGRPCTrailersOnly: an answer without a body is one HEADERS frame.
func TestGRPCTrailersOnly(t *testing.T) {
	cc := dialGRPC(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header()["Content-Length"] = nil
		w.Header().Set("grpc-status", "5")
		w.Header().Set("grpc-message", "gone")
	}))
	err := cc.Invoke(within(t, patience), "/a.B/C", []byte("x"), new([]byte))
	if status.Code(err) != codes.NotFound || status.Convert(err).Message() != "gone" {
		t.Errorf("got %v, want NotFound: gone", err)
	}
}

// TestGRPCCancel reaches the handler, as the end of its context and of its
// reads and writes.
func TestGRPCCancel(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan error, 1)
	cc := dialGRPC(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush() // the client waits for nothing
		close(begun)
		<-r.Context().Done()
		_, err := r.Body.Read(make([]byte, 1))
		if _, werr := w.Write(make([]byte, 64<<10)); werr == nil {
			err = errors.New("a write after the reset passes")
		}
		ended <- err
	}))
	ctx, cancel := context.WithCancel(within(t, patience))
	defer cancel()
	if _, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/a.B/C"); err != nil {
		t.Fatal(err)
	}
	await(t, "the handler", begun)
	cancel()
	if err := await(t, "the handler's end", ended); !errors.As(err, new(resetError)) {
		t.Errorf("the body reads as %v, want the reset", err)
	}
}

// TestHTTPClient is net/http's client.
func TestHTTPClient(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Trailer-Was", r.Trailer.Get("X-T"))
		_, _ = fmt.Fprintf(w, "%s %s %s %s %d %d", r.Method, r.RequestURI, r.Host, r.Proto, r.ContentLength, len(body)) // seen by the client
	})
	client := h2c(t)
	req, err := http.NewRequestWithContext(within(t, patience), http.MethodPost, "http://"+address+"/a?b=c", bytes.NewReader(pattern(200_000)))
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-T": {"t"}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	want := fmt.Sprintf("POST /a?b=c %s HTTP/2.0 200000 200000", address)
	if err != nil || string(got) != want || res.Header.Get("X-Trailer-Was") != "t" {
		t.Errorf("got %q, %v, %v; want %q and the trailer", got, res.Header, err, want)
	}
	if res.Header.Get("Content-Length") == "" || res.Header.Get("Date") == "" || res.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("a short answer has the header %v, want its length, type and date", res.Header)
	}
}
