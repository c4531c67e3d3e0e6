package e2e

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// viaConnect is the Connect protocol, which connect-go speaks.
const viaConnect wire.Transport = "connect"

// clientProtocols are all of them.
var clientProtocols = append([]wire.Transport{viaConnect}, wire.All...)

// serveService runs a gRPC service that culvert asks. It ends with the test, or before by stop.
func serveService(t testing.TB, register func(*grpc.Server)) (address string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }() // the cleanup waits for it
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it was stopped before it began
			t.Error(err)
		}
	})
	return ln.Addr().String(), s.Stop
}

// A told is what the client of a call learns.
type told struct {
	code    codes.Code
	reason  string // of culvert's own statuses
	message string
	retry   time.Duration // 0: not given
	header  http.Header   // of a refusal by Connect, with the trailer
}

// canonical returns a header with the names that net/http has.
func canonical(header http.Header) http.Header {
	to := http.Header{}
	for name, values := range header {
		to[http.CanonicalHeaderKey(name)] = values
	}
	return to
}

// callVia makes a unary call with metadata by a client protocol.
func callVia(t testing.TB, via wire.Transport, address, id string, md map[string]string) told {
	t.Helper()
	header := wire.Metadata(id, probe.Script{})
	for name, value := range md {
		header[name] = []string{value}
	}
	if via == viaConnect {
		return callByConnect(t, address, header)
	}
	c, err := dial(t, via, address).Post(t.Context(), wire.Unary, header, wire.Request(0, 0))
	if err != nil {
		t.Fatalf("%s: %v", via, err)
	}
	defer c.Close()
	e := finish(c, 0)
	if e.status == nil {
		t.Fatalf("%s: %v", via, e)
	}
	to := told{code: e.status.Code, reason: e.status.Reason(), message: e.status.Message, header: canonical(c.Header())}
	for _, detail := range e.status.Details.GetDetails() {
		if m, err := detail.UnmarshalNew(); err == nil {
			to.detail(m)
		}
	}
	return to
}

func (to *told) detail(m proto.Message) {
	switch m := m.(type) {
	case *errdetails.RetryInfo:
		to.retry = m.GetRetryDelay().AsDuration()
	case *errdetails.ErrorInfo:
		to.reason = m.GetReason()
	}
}

func callByConnect(t testing.TB, address string, header http.Header) told {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := &http.Client{Transport: new(http.Transport)}
	defer client.CloseIdleConnections()
	request := connect.NewRequest(&e2epb.Request{})
	maps.Copy(request.Header(), canonical(header))
	reply, err := connect.NewClient[e2epb.Request, e2epb.Reply](client, "http://"+address+wire.Unary).CallUnary(ctx, request)
	if err == nil {
		return told{header: reply.Header()}
	}
	return toldByConnect(t, err)
}

// toldByConnect returns what an error of connect-go says.
func toldByConnect(t testing.TB, err error) told {
	t.Helper()
	var status *connect.Error
	if !errors.As(err, &status) {
		t.Fatalf("connect: %v", err)
	}
	to := told{code: codes.Code(status.Code()), message: status.Message(), header: status.Meta()}
	for _, detail := range status.Details() {
		if m, err := detail.Value(); err == nil {
			to.detail(m)
		}
	}
	return to
}
