package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/e2e/bare"
)

// newGRPCClient returns a maker of clients of native gRPC with so many connections.
func newGRPCClient(connections int) func(*peer) client {
	return func(p *peer) client {
		c := &grpcClient{}
		carrier := insecure.NewCredentials()
		if p.tls != nil {
			carrier = credentials.NewTLS(p.tls)
		}
		for range connections {
			cc, err := grpc.NewClient("passthrough:///"+p.address, grpc.WithTransportCredentials(carrier),
				grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bare.Codec{})), grpc.WithNoProxy())
			if err != nil {
				panic("BUG: a client without a connection: " + err.Error())
			}
			c.conns = append(c.conns, cc)
		}
		return c
	}
}

type grpcClient struct{ conns []*grpc.ClientConn }

func (c *grpcClient) close() {
	for _, cc := range c.conns {
		_ = cc.Close() // nothing runs on it any more
	}
}

var bidi = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

func (c *grpcClient) open(ctx context.Context, n int, method string, header map[string]string) (stream, error) {
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(ctx, metadata.New(header)))
	s, err := c.conns[n%len(c.conns)].NewStream(ctx, bidi, method, grpc.WaitForReady(true))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open: %w", err)
	}
	return &grpcStream{s, cancel}, nil
}

type grpcStream struct {
	s      grpc.ClientStream
	cancel context.CancelFunc
}

func (s *grpcStream) send(message []byte) error {
	return s.s.SendMsg(mem.BufferSlice{mem.SliceBuffer(message)})
}

func (s *grpcStream) closeSend() error { return s.s.CloseSend() }

func (s *grpcStream) recv() (int, error) {
	var m mem.BufferSlice
	if err := s.s.RecvMsg(&m); err != nil {
		return 0, err
	}
	defer m.Free()
	return m.Len(), nil
}

func (s *grpcStream) close() { s.cancel() }
