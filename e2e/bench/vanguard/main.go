// Program vanguard is connectrpc.com/vanguard as a proxy, for the benchmark: its
// transcoder before net/http/httputil's reverse proxy. Clients call by Connect, gRPC-Web
// and gRPC, with messages in protobuf and JSON. The backend gets gRPC with protobuf.
//
//	vanguard -backend 127.0.0.1:9000 -listen 127.0.0.1:8080
package main

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"

	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/culvert-grpc/culvert/e2e/bench/benchpb"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "vanguard:", err)
		os.Exit(1)
	}
}

func run() error {
	backend := flag.String("backend", "", "the backend's address: gRPC in plaintext")
	listen := flag.String("listen", "", "address to listen on: HTTP/1.1 and HTTP/2 in plaintext")
	dynamic := flag.Bool("descriptors", false, "know the messages by their descriptors only, without generated code")
	flag.Parse()
	var options []vanguard.ServiceOption
	if *dynamic {
		var files protoregistry.Files
		if err := files.RegisterFile(benchpb.File_bench_proto); err != nil {
			return err
		}
		options = append(options, vanguard.WithTypeResolver(dynamicpb.NewTypes(&files)))
	}
	services := benchpb.File_bench_proto.Services()
	var known []*vanguard.Service
	for i := range services.Len() {
		known = append(known, vanguard.NewServiceWithSchema(services.Get(i), forward(*backend),
			append(options, vanguard.WithTargetProtocols(vanguard.ProtocolGRPC), vanguard.WithTargetCodecs(vanguard.CodecProto))...))
	}
	transcoder, err := vanguard.NewTranscoder(known)
	if err != nil {
		return err
	}
	server := &http.Server{Addr: *listen, Handler: transcoder, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	return server.ListenAndServe()
}

// forward returns the proxy to the backend, by HTTP/2.
func forward(backend string) http.Handler {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	return &httputil.ReverseProxy{
		Transport: tr,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: backend}) },
	}
}
