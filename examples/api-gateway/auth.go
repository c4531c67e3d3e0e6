package main

import (
	"context"
	"crypto/subtle"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// The only user. A real service verifies a signed token here.
const (
	user  = "ada"
	token = "Bearer token-of-ada"
)

// authenticate checks the metadata of a call. All four services do, as they would
// without a gateway: culvert passes the client's authorization unchanged.
func authenticate(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	got := md.Get("authorization")
	if len(got) != 1 || subtle.ConstantTimeCompare([]byte(got[0]), []byte(token)) != 1 {
		return status.Error(codes.Unauthenticated, "this token is not valid")
	}
	return nil
}

// newServer returns a gRPC server that answers authenticated calls only.
func newServer() *grpc.Server {
	return grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := authenticate(ctx); err != nil {
				return nil, err
			}
			return handler(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if err := authenticate(stream.Context()); err != nil {
				return err
			}
			return handler(srv, stream)
		}),
	)
}
