// Command oracle is what culvert is compared with: improbable-eng's Go wrapper
// before the same backend, put together as their grpcwebproxy does it, which
// can't be built with a grpc-go of today. All pages may call.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/improbable-eng/grpc-web/go/grpcweb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/e2e/bare"
)

func main() {
	backend := flag.String("backend", "", "`address` of the gRPC server, host:port")
	flag.Parse()
	if err := run(*backend); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

// maxMessage is culvert's default; theirs are 4 MiB for a message, and 32 KiB
// for what a WebSocket carries of one.
const maxMessage = 16 << 20

func run(backend string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	cc, err := grpc.NewClient("passthrough:///"+backend, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bare.Codec{}), grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return err
	}
	defer cc.Close()
	server := grpc.NewServer(grpc.ForceServerCodecV2(bare.Codec{}), grpc.MaxRecvMsgSize(maxMessage),
		grpc.UnknownServiceHandler(func(_ any, down grpc.ServerStream) error { return forward(cc, down) }))
	anyone := func(string) bool { return true }
	wrapped := grpcweb.WrapServer(server,
		grpcweb.WithCorsForRegisteredEndpointsOnly(false),
		grpcweb.WithOriginFunc(anyone),
		grpcweb.WithWebsockets(true),
		grpcweb.WithWebsocketOriginFunc(func(*http.Request) bool { return true }),
		grpcweb.WithWebsocketsMessageReadLimit(maxMessage+4096))
	hs := &http.Server{Handler: wrapped, ReadHeaderTimeout: 10 * time.Second, Protocols: new(http.Protocols)}
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetUnencryptedHTTP2(true)

	ended := make(chan error, 1) // the one server's
	var serving sync.WaitGroup
	serving.Go(func() { ended <- hs.Serve(ln) })
	fmt.Printf("listening %s\n", ln.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	select {
	case <-ctx.Done():
	case err = <-ended: // nothing has told it to
	}
	_ = hs.Close() // the process ends
	serving.Wait()
	return err
}

// forward carries one call to the backend, as mwitkow/grpc-proxy does.
func forward(cc *grpc.ClientConn, down grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(down) // every stream has one
	md, _ := metadata.FromIncomingContext(down.Context())
	md = md.Copy()
	delete(md, "user-agent")
	delete(md, "connection")
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(down.Context(), md))
	up, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		cancel()
		return err
	}
	go func() { // ends with the call, which ends when forward returns
		if err := copyMessages(up, down); errors.Is(err, io.EOF) {
			_ = up.CloseSend() // the replies have the reason
		} else {
			cancel()
		}
	}()
	err = copyReplies(down, up)
	down.SetTrailer(up.Trailer())
	cancel()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return status.Convert(err).Err()
}

type receiver interface{ RecvMsg(m any) error }

type sender interface{ SendMsg(m any) error }

func copyReplies(down grpc.ServerStream, up grpc.ClientStream) error {
	md, err := up.Header()
	if err == nil && md != nil {
		if err := down.SendHeader(md); err != nil {
			return err
		}
	}
	return copyMessages(down, up)
}

// copyMessages returns why it could not go on, io.EOF at the end.
func copyMessages(to sender, from receiver) error {
	for {
		var m mem.BufferSlice
		if err := from.RecvMsg(&m); err != nil {
			return err
		}
		if err := to.SendMsg(m); err != nil {
			return err
		}
	}
}
