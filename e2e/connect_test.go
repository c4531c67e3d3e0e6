package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/probe"
)

// connectWay is one way of connect-go to culvert.
type connectWay struct {
	name   string
	client *http.Client
	url    string
	duplex bool // bidirectional streams: connect-go needs HTTP/2
}

func connectWays(plain, secure string, config *tls.Config) []connectWay {
	client := func(set func(*http.Protocols), config *tls.Config) *http.Client {
		tr := &http.Transport{TLSClientConfig: config, Protocols: new(http.Protocols)}
		set(tr.Protocols)
		return &http.Client{Transport: tr}
	}
	return []connectWay{
		{"http1", client(func(p *http.Protocols) { p.SetHTTP1(true) }, nil), "http://" + plain, false},
		{"h2c", client(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, nil), "http://" + plain, true},
		{"tls h2", client(func(p *http.Protocols) { p.SetHTTP2(true) }, config), "https://" + secure, true},
		{"tls http1", client(func(p *http.Protocols) { p.SetHTTP1(true) }, config.Clone()), "https://" + secure, false},
	}
}

// TestConnectGo makes all kinds of calls with the published client of the Connect
// protocol, over every HTTP.
func TestConnectGo(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	const config = "connect: {get: ['culvert.e2e.v1.Probe/Unary']}\n"
	plain := startCulvert(t, b.address, culvertOptions{config: config})
	secure := startTLS(t, ca, b.address, config)
	for _, way := range connectWays(plain.address, secure.address, ca.trusting()) {
		t.Run(way.name, func(t *testing.T) {
			t.Cleanup(way.client.CloseIdleConnections)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for name, options := range map[string][]connect.ClientOption{"": nil, " with gzip": {connect.WithSendGzip()}, " as JSON": {connect.WithProtoJSON(), connect.WithSendGzip()}, " by GET": {connect.WithHTTPGet(), connect.WithIdempotency(connect.IdempotencyNoSideEffects)}} {
				unary := connect.NewClient[e2epb.Request, e2epb.Reply](way.client, way.url+"/culvert.e2e.v1.Probe/Unary", options...)
				text := "hello " + strings.Repeat("x", 1000)
				request := connect.NewRequest(&e2epb.Request{Text: text})
				request.Header().Set(probe.ScriptKey, probe.Script{Echo: true, Trailer: []probe.Field{{Name: "x-end", Value: "there"}}}.String())
				reply, err := unary.CallUnary(ctx, request)
				if err != nil || reply.Msg.GetText() != text || reply.Trailer().Get("x-end") != "there" {
					t.Errorf("unary%s: %v, %v", name, reply, err)
				}
				if want := name == " by GET"; want != (request.HTTPMethod() == http.MethodGet) {
					t.Errorf("unary%s was sent by %s", name, request.HTTPMethod())
				}
			}
			connectStreams(ctx, t, way)
			connectStreams(ctx, t, way, connect.WithProtoJSON())
			missing := connect.NewClient[e2epb.Request, e2epb.Reply](way.client, way.url+"/culvert.e2e.v1.Probe/Missing")
			if _, err := missing.CallUnary(ctx, connect.NewRequest(&e2epb.Request{})); connect.CodeOf(err) != connect.CodeUnimplemented {
				t.Errorf("a method that isn't there: %v", err)
			}
		})
	}
}

func connectStreams(ctx context.Context, t *testing.T, way connectWay, options ...connect.ClientOption) {
	t.Helper()
	server := connect.NewClient[e2epb.Request, e2epb.Reply](way.client, way.url+"/culvert.e2e.v1.Probe/ServerStream", options...)
	request := connect.NewRequest(&e2epb.Request{})
	request.Header().Set(probe.ScriptKey, probe.Script{Replies: 3, Code: 9, Message: "enough: 100%", Details: []string{"WHY"}}.String())
	replies, err := server.CallServerStream(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for replies.Receive() {
		got++
	}
	var failure *connect.Error
	if err := replies.Err(); got != 3 || !errors.As(err, &failure) || failure.Code() != connect.CodeFailedPrecondition || failure.Message() != "enough: 100%" || len(failure.Details()) != 1 {
		t.Errorf("server stream: %d replies, %v", got, err)
	}
	_ = replies.Close() // it has ended
	up := connect.NewClient[e2epb.Request, e2epb.Reply](way.client, way.url+"/culvert.e2e.v1.Probe/ClientStream", options...).CallClientStream(ctx)
	for i := range uint64(3) {
		if err := up.Send(&e2epb.Request{Sequence: i}); err != nil {
			t.Fatal(err)
		}
	}
	if reply, err := up.CloseAndReceive(); err != nil || reply.Msg.GetReceived() != 3 {
		t.Errorf("client stream: %v, %v", reply, err)
	}
	if !way.duplex {
		return
	}
	both := connect.NewClient[e2epb.Request, e2epb.Reply](way.client, way.url+"/culvert.e2e.v1.Probe/Bidi", options...).CallBidiStream(ctx)
	both.RequestHeader().Set(probe.ScriptKey, probe.Script{Echo: true}.String())
	for i := range uint64(3) {
		if err := both.Send(&e2epb.Request{Sequence: i}); err != nil {
			t.Fatal(err)
		}
		if reply, err := both.Receive(); err != nil || reply.GetSequence() != i {
			t.Fatalf("turn %d: %v, %v", i, reply, err)
		}
	}
	if err := both.CloseRequest(); err != nil {
		t.Error(err)
	}
	if _, err := both.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("the end of both ways: %v", err)
	}
	if err := both.CloseResponse(); err != nil {
		t.Error(err)
	}
}
