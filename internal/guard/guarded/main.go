// Command guarded is a culvert whose Authenticator is a guard, for the tests of @culvert/web.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"net"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/internal/guard"
)

func main() {
	backend := flag.String("backend", "", "`address` of the gRPC server")
	flag.Parse()
	if err := run(*backend); err != nil {
		log.Fatal("guarded: ", err)
	}
}

func run(backend string) error {
	b, err := bridge.New(bridge.Config{
		Backend: bridge.Backend{Target: backend}, Authenticator: guard.Guard{},
		AllowOrigins: []string{"http://127.0.0.1:*"},
	})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is the program's
	if err != nil {
		return err
	}
	fmt.Printf("listening %s\n", ln.Addr())
	return errors.Join(b.ServeListener(ln, bridge.Listener{}), b.Close())
}
