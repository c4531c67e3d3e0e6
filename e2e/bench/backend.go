package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/e2e/bare"
	"github.com/culvert-grpc/culvert/e2e/bench/benchpb"
)

// The backend's methods. Messages are bytes to it.
const (
	methodEcho   = "/bench.Bench/Echo"   // answers each message with itself
	methodSource = "/bench.Bench/Source" // sends messages of x-size bytes, or orders, or the request's, until the call ends
	methodSink   = "/bench.Bench/Sink"   // reads all, then answers with their number
	methodStuck  = "/bench.Bench/Stuck"  // sends a header and reads nothing
)

// serveBackend serves on a free port of loopback, which it prints.
func serveBackend(out io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, ln.Addr())
	s := grpc.NewServer(grpc.ForceServerCodecV2(bare.Codec{}), grpc.UnknownServiceHandler(backend), grpc.MaxConcurrentStreams(1<<20))
	grpc_reflection_v1.RegisterServerReflectionServer(s, reflection.NewServerV1(reflection.ServerOptions{Services: described{}}))
	return s.Serve(ln)
}

// described are the services that reflection tells of: benchpb's, for proxies that convert
// messages.
type described struct{}

// GetServiceInfo implements reflection.ServiceInfoProvider.
func (described) GetServiceInfo() map[string]grpc.ServiceInfo {
	return map[string]grpc.ServiceInfo{string(benchpb.File_bench_proto.Services().Get(0).FullName()): {}}
}

func backend(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	switch method {
	case methodEcho:
		return echo(stream)
	case methodSource:
		return source(stream)
	case methodSink:
		return sink(stream)
	case methodStuck:
		if err := stream.SendHeader(nil); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	}
	return status.Errorf(codes.Unimplemented, "no method %s", method)
}

func echo(stream grpc.ServerStream) error {
	for {
		var m mem.BufferSlice
		if err := stream.RecvMsg(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
}

func source(stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	size := 0
	if v := md.Get("x-size"); len(v) > 0 {
		size, _ = strconv.Atoi(v[0]) // what isn't a number sends empty messages
	}
	payload := make([]byte, size)
	if len(md.Get(orderHeader)) > 0 {
		payload = order.wire
	}
	var request mem.BufferSlice
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	if request.Len() > 0 {
		payload = request.Materialize()
	}
	for {
		if err := stream.SendMsg(mem.BufferSlice{mem.SliceBuffer(payload)}); err != nil {
			return err
		}
	}
}

func sink(stream grpc.ServerStream) error {
	for n := 0; ; n++ {
		var m mem.BufferSlice
		if err := stream.RecvMsg(&m); errors.Is(err, io.EOF) {
			return stream.SendMsg(mem.BufferSlice{mem.SliceBuffer(strconv.AppendInt(nil, int64(n), 10))})
		} else if err != nil {
			return err
		}
		m.Free()
	}
}
