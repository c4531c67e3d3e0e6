package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

// must ends a program of the scripts.
func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// backendMain is a gRPC server: health, grpc.testing.TestService, and
// reflection unless it is told to do without.
func backendMain() {
	listen := flag.String("listen", "127.0.0.1:0", "")
	quiet := flag.Bool("no-reflection", false, "")
	secure := flag.Bool("tls", false, "with server.pem and server.key, for clients of ca.pem")
	flag.Parse()
	var options []grpc.ServerOption
	if *secure {
		options = append(options, grpc.Creds(serverCredentials()))
	}
	network, address := "tcp", *listen
	if path, ok := strings.CutPrefix(*listen, "unix:"); ok {
		network, address = "unix", path
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), network, address)
	must(err)
	server := grpc.NewServer(options...)
	testpb.RegisterTestServiceServer(server, testService{})
	healthpb.RegisterHealthServer(server, health.NewServer())
	if !*quiet {
		reflection.Register(server)
	}
	fmt.Fprintf(os.Stderr, "backend at %s\n", ln.Addr())
	must(server.Serve(ln))
}

func serverCredentials() credentials.TransportCredentials {
	pair, err := tls.LoadX509KeyPair("server.pem", "server.key")
	must(err)
	ca, err := os.ReadFile("ca.pem")
	must(err)
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(ca)
	return credentials.NewTLS(&tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		ClientCAs:    clients,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	})
}

// testService answers a unary call with its payload, and each message of a
// conversation with an empty one.
type testService struct {
	testpb.UnimplementedTestServiceServer
}

func (testService) UnaryCall(_ context.Context, r *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{Payload: r.GetPayload()}, nil
}

func (testService) FullDuplexCall(stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

// connect is for clients of one argument, an address or unix:path.
func connect() (testpb.TestServiceClient, func()) {
	target := os.Args[1]
	if !strings.HasPrefix(target, "unix:") {
		target = "passthrough:///" + target
	}
	cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	return testpb.NewTestServiceClient(cc), func() { must(cc.Close()) }
}

// callMain makes a unary call by native gRPC and prints its end.
func callMain() {
	client, hangUp := connect()
	defer hangUp()
	ctx, cancel := context.WithTimeout(context.Background(), cmdtest.Patience)
	defer cancel()
	answer, err := client.UnaryCall(ctx, &testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte("payload")}})
	fmt.Printf("%v %q %s\n", status.Code(err), answer.GetPayload().GetBody(), status.Convert(err).Message())
}

// holdMain begins a conversation and says so, then waits for its end.
func holdMain() {
	client, hangUp := connect()
	defer hangUp()
	stream, err := client.FullDuplexCall(context.Background())
	must(err)
	must(stream.Send(&testpb.StreamingOutputCallRequest{}))
	_, err = stream.Recv()
	must(err)
	fmt.Fprintln(os.Stderr, "holding")
	_, err = stream.Recv()
	fmt.Fprintln(os.Stderr, "ended", status.Code(err), status.Convert(err).Message())
}

// fetchMain requests a URL and prints status and body. A second argument is the
// Host to ask for.
func fetchMain() {
	method := flag.String("method", http.MethodGet, "")
	body := flag.String("body", "", "")
	field := flag.String("header", "", "a name, a colon and a value")
	socket := flag.String("socket", "", "the unix socket to connect to")
	flag.Parse()
	client := http.Client{Timeout: cmdtest.Patience}
	if *socket != "" {
		client.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", *socket)
		}}
	}
	request, err := http.NewRequestWithContext(context.Background(), *method, flag.Arg(0), strings.NewReader(*body))
	must(err)
	if flag.NArg() > 1 {
		request.Host = flag.Arg(1)
	}
	if name, value, ok := strings.Cut(*field, ":"); ok {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	must(err)
	answer, err := io.ReadAll(response.Body)
	must(err)
	must(response.Body.Close())
	fmt.Printf("%d %s", response.StatusCode, answer)
}
