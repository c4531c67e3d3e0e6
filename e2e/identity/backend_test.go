package identity

import (
	"errors"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"
)

// startBackend starts a gRPC server that has all methods of the guides, and returns its address.
// It answers each message by one, and tells in its header what metadata it got: that of x-tenant
// as got-x-tenant.
func startBackend(t *testing.T) string {
	t.Helper()
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		got, _ := metadata.FromIncomingContext(s.Context())
		header := metadata.MD{}
		for name, values := range got {
			if !strings.HasPrefix(name, ":") {
				header["got-"+name] = values
			}
		}
		if err := s.SendHeader(header); err != nil {
			return err
		}
		for {
			m := new(emptypb.Empty)
			if s.RecvMsg(m) != nil {
				return nil // the end of the client's messages
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }() // the cleanup waits for it
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it was stopped before it began
			t.Error(err)
		}
	})
	return ln.Addr().String()
}
