package parts

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	healthserver "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
)

// Methods of a server WithHealth and WithReflection.
const (
	CheckHealth = "/grpc.health.v1.Health/Check"
	WatchHealth = "/grpc.health.v1.Health/Watch"
	Reflects    = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
)

// ServeDescribed serves a gRPC server, and counts the streams of reflection.
func ServeDescribed(t testing.TB, ln net.Listener, register ...func(*grpc.Server)) (streams *atomic.Int32, stop func()) {
	t.Helper()
	streams = new(atomic.Int32)
	gs := grpc.NewServer(grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		streams.Add(1)
		return h(srv, ss)
	}))
	for _, r := range register {
		r(gs)
	}
	served := make(chan error, 1)
	go func() { served <- gs.Serve(ln) }()
	stop = sync.OnceFunc(func() {
		gs.Stop()
		_ = Await(t, "the server's end", served)
	})
	t.Cleanup(stop)
	return streams, stop
}

// WithHealth adds the health service to a server.
func WithHealth(gs *grpc.Server) { healthpb.RegisterHealthServer(gs, healthserver.NewServer()) }

// WithReflection adds reflection to a server.
func WithReflection(gs *grpc.Server) { reflection.Register(gs) }

// WithHangingReflection adds reflection that never answers.
func WithHangingReflection(gs *grpc.Server) {
	gs.RegisterService(&grpc.ServiceDesc{ServiceName: "grpc.reflection.v1.ServerReflection", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "ServerReflectionInfo", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, ss grpc.ServerStream) error {
			<-ss.Context().Done()
			return ss.Context().Err()
		},
	}}}, nil)
}
