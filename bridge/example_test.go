package bridge_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
)

// A gRPC server in the same program, with an HTTP server of the program's own
// in front: browsers and native clients share its port with everything else.
func Example() {
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	defer server.Stop()

	backend, stop := bridge.InProcess(server)
	defer stop()
	b, err := bridge.New(bridge.Config{
		Backend:      backend,
		AllowOrigins: []string{"https://app.example.com"},
		Fallback: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, "the program's own page") // the client may be gone
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()

	web := &http.Server{Addr: "127.0.0.1:0"}
	b.ConfigureHTTP(web)
	address, closeWeb := listenAndServe(web.Serve, web.Close)
	defer closeWeb()

	fmt.Println(check(address))
	// Output: SERVING
}

// The same in front of a backend somewhere else, with a listener of its own.
func Example_address() {
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	backend, closeBackend := listenAndServe(server.Serve, func() error { server.Stop(); return nil })
	defer closeBackend()

	b, err := bridge.New(bridge.Config{
		Backend:     bridge.Backend{Target: backend},
		DenyMethods: []string{"acme.Admin/*"},
	})
	if err != nil {
		log.Fatal(err)
	}
	address, closeBridge := listenAndServe(b.Serve, b.Close)
	defer closeBridge()

	fmt.Println(check(address), b.MethodAllowed("/acme.Admin/Drop"))
	// Output: SERVING false
}

// listenAndServe serves on a free port of loopback. The function it returns
// closes the server and waits for it.
func listenAndServe(serve func(net.Listener) error, closeServer func() error) (address string, stop func()) {
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = serve(ln) }) // returns when it is closed
	return ln.Addr().String(), func() {
		if err := closeServer(); err != nil {
			log.Fatal(err)
		}
		serving.Wait()
	}
}

// check asks the health service at the address, with header fields. It returns what
// that says, or the code of the call's status.
func check(address string, header ...string) string {
	cc := connect(address)
	defer cc.Close()
	ctx := metadata.AppendToOutgoingContext(context.Background(), header...)
	answer, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return status.Code(err).String()
	}
	return answer.GetStatus().String()
}

func connect(address string) *grpc.ClientConn {
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		log.Fatal(err)
	}
	return cc
}
