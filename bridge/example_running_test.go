package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
)

// A program applies a changed configuration while calls run. Apply refuses the whole
// configuration if it changes a key that needs a restart.
func ExampleServer_Apply() {
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	defer server.Stop()
	backend, stop := bridge.InProcess(server)
	defer stop()

	cfg := bridge.Config{Backend: backend}
	b, err := bridge.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	address, closeBridge := listenAndServe(b.Serve, b.Close)
	defer closeBridge()
	fmt.Println(check(address))

	cfg.DenyMethods = []string{"grpc.health.v1.Health/*"}
	if err := b.Apply(cfg); err != nil {
		log.Fatal(err)
	}
	fmt.Println(check(address))

	cfg.DenyMethods, cfg.StandardHTTP2 = nil, true
	var restart *bridge.RestartError
	if err := b.Apply(cfg); errors.As(err, &restart) {
		fmt.Println(restart.Keys, check(address))
	}
	// Output:
	// SERVING
	// Unimplemented
	// [http2_server] Unimplemented
}

// A snapshot is for gauges, and for people who look at it.
func ExampleServer_Snapshot() {
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	defer server.Stop()
	backend, stop := bridge.InProcess(server)
	defer stop()

	b, err := bridge.New(bridge.Config{Backend: backend})
	if err != nil {
		log.Fatal(err)
	}
	address, closeBridge := listenAndServe(b.Serve, b.Close)
	defer closeBridge()

	cc := connect(address)
	defer cc.Close()
	watch, err := healthpb.NewHealthClient(cc).Watch(context.Background(), &healthpb.HealthCheckRequest{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		log.Fatal(err)
	}

	snapshot := b.Snapshot()
	for _, c := range snapshot.Calls {
		fmt.Println("calls:", c.Calls, "by", c.Transport)
	}
	for _, c := range snapshot.Connections {
		fmt.Println("connections:", c.Open, "of", c.Transport)
	}
	// Output:
	// calls: 1 by grpc
	// connections: 1 of h2
}

// users are who may call, by their token.
type users map[string]string

// Authenticate tells the backend the user's name. It replaces what the client says of
// that.
func (u users) Authenticate(_ context.Context, r *bridge.AuthRequest) (*bridge.Identity, error) {
	token, bearer := strings.CutPrefix(strings.Join(r.Metadata["authorization"], ""), "Bearer ")
	name, ok := u[token]
	if !ok || !bearer {
		return nil, status.Error(codes.Unauthenticated, "want a bearer token")
	}
	r.Delete("authorization")
	r.Set("x-user", name)
	return &bridge.Identity{Name: name}, nil
}

// An Authenticator refuses calls before the backend sees them.
func ExampleAuthenticator() {
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		fmt.Println("the backend is called by", metadata.ValueFromIncomingContext(ctx, "x-user"))
		return handler(ctx, req)
	}))
	healthpb.RegisterHealthServer(server, health.NewServer())
	defer server.Stop()
	backend, stop := bridge.InProcess(server)
	defer stop()

	b, err := bridge.New(bridge.Config{
		Backend:        backend,
		Authenticator:  users{"secret": "alice"},
		VouchedHeaders: []string{"x-user"}, // and its spellings, which some backends take for the same
	})
	if err != nil {
		log.Fatal(err)
	}
	address, closeBridge := listenAndServe(b.Serve, b.Close)
	defer closeBridge()

	fmt.Println(check(address, "x-user", "root"))
	fmt.Println(check(address, "x-user", "root", "authorization", "Bearer secret"))
	// Output:
	// Unauthenticated
	// the backend is called by [alice]
	// SERVING
}
