package traced

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// A tracedBackend is a grpc-go server with OpenTelemetry's instrumentation, which samples as its
// parent did, and all calls without one.
type tracedBackend struct {
	address string
	calls   chan metadata.MD // of each call; the test takes them
	goOn    chan struct{}    // the call "held" waits for its end
}

func startBackend(t *testing.T, r *receiver, o ...grpc.ServerOption) *tracedBackend {
	t.Helper()
	exporter, err := otlptracegrpc.New(context.Background(), otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(strings.TrimPrefix(r.grpc, "http://")))
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "backend"))))
	b := &tracedBackend{calls: make(chan metadata.MD, 100), goOn: make(chan struct{})}
	server := grpc.NewServer(append(o,
		grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(provider), otelgrpc.WithPropagators(propagation.TraceContext{}))),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			b.calls <- md
			switch id := md["x-request-id"][0]; {
			case id == "held":
				<-b.goOn
			case id == "retried" && md["grpc-previous-rpc-attempts"] == nil:
				return nil, status.Error(codes.Unavailable, "not yet")
			}
			return handle(ctx, req)
		}))...)
	healthpb.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.address = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }() // the cleanup waits for it
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it was stopped before it began
			t.Error(err)
		}
		_ = provider.Shutdown(context.Background()) // its receiver may refuse
	})
	return b
}
