package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// What a client claims about itself does not reach the backend, on any transport:
// in a request's header, in a WebSocket's metadata message, inside a tunnel.
func TestClientsCannotVouchForThemselves(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	forged := http.Header{
		"x-forwarded-for": {"6.6.6.6"}, "x-forwarded-proto": {"https"}, "x-forwarded-host": {"evil.example"},
		"forwarded": {"for=6.6.6.6"}, "x-real-ip": {"6.6.6.6"}, "x-forwarded-client-cert": {"Subject=evil"},
		"x-auth-request-user": {"root"}, "via": {"1.1 evil"}, "lb-token": {"evil"}, "grpc-previous-rpc-attempts": {"6"},
		// What backends take for these that read headers as CGI does.
		"x_forwarded_for": {"6.6.6.6"}, "x_forwarded-host": {"evil.example"}, "x_forwarded_client_cert": {"Subject=evil"},
		"x_real_ip": {"6.6.6.6"}, "x_auth_request_user": {"root"},
	}
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		id := newID(t)
		md := wire.Metadata(id, probe.Script{})
		for name, values := range forged {
			md[name] = values
		}
		call, err := dial(t, transport, c.address).Post(t.Context(), wire.Unary, md, wire.Request(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		defer call.Close()
		if e := finish(call, 0); e.status == nil || e.status.Code != 0 {
			t.Fatal(e)
		}
		r := b.record(t, id, probe.Ended, patience)
		for name := range forged {
			for _, v := range r.Values(name) {
				if strings.Contains(v, "6.6.6.6") || strings.Contains(v, "evil") || v == "root" || v == "6" {
					t.Errorf("the backend was told %s: %s", name, v)
				}
			}
		}
		if got := r.Values("x-forwarded-for"); !slices.Equal(got, []string{"127.0.0.1"}) {
			t.Errorf("x-forwarded-for is %q", got)
		}
		if got := r.Values("x-forwarded-proto"); !slices.Equal(got, []string{"http"}) {
			t.Errorf("x-forwarded-proto is %q", got)
		}
	})
}

// A trusted proxy's word counts, but only what it says of the outer request: a call
// inside a tunnel can't add to it.
func TestTrustedProxyVouches(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "trusted_proxies: [127.0.0.0/8]\n"})
	proxied := http.Header{"X-Forwarded-For": {"203.0.113.7"}, "X-Forwarded-Proto": {"https"}}
	cc := grpcClient(t, "culvert", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		ws, _, err := websocket.Dial(ctx, "ws://"+c.address+"/", &websocket.DialOptions{Subprotocols: []string{"h2ts"}, HTTPHeader: proxied})
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}))
	j := scenarios[0].job(t, "grpc-go h2ts")
	ctx := metadata.AppendToOutgoingContext(withMetadata(t.Context(), j), "x-forwarded-for", "6.6.6.6", "x-forwarded-proto", "http")
	if err := cc.Invoke(ctx, wire.Unary, j.request(0), j.request(0)); err != nil {
		t.Fatal(err)
	}
	r := b.record(t, j.ID, probe.Ended, patience)
	if got := strings.Join(r.Values("x-forwarded-for"), ", "); got != "203.0.113.7, 127.0.0.1" {
		t.Errorf("x-forwarded-for is %q", got)
	}
	if got := r.Values("x-forwarded-proto"); !slices.Equal(got, []string{"https"}) {
		t.Errorf("x-forwarded-proto is %q", got)
	}
	c.loggedLike(t, func(l map[string]any) bool {
		return l["msg"] == "call" && strings.HasPrefix(fmt.Sprint(l["peer"]), "203.0.113.7")
	})
}

// No secret reaches the log, at any level, nor a status of culvert's.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	const secret = "s3cr3t-0123456789"
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--log-level", "debug"}, config: "limits: {message_bytes: 64KiB}\nlog: {begin: true, fields: [host, user_agent, metadata.x-tenant]}\n"})
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		for _, method := range []string{wire.Unary, wire.Unary + "?token=" + secret, "/no.such.Service/M", "/grpc.channelz.v1.Channelz/X"} {
			for _, size := range []int{0, 128 * kib} { // the second is refused
				md := wire.Metadata(newID(t), probe.Script{})
				md["authorization"] = []string{"Bearer " + secret}
				md["x-api-key"] = []string{secret}
				md["cookie"] = []string{"session=" + secret}
				md["x-secret-bin"] = []string{"%" + secret} // no base64: an error about it
				if method == wire.Unary {
					delete(md, "x-secret-bin")
				}
				call, err := dial(t, transport, c.address).Open(t.Context(), method, md)
				if err != nil {
					continue // refused: the query is no method
				}
				if call.Send(wire.Request(0, size)) == nil {
					_ = call.CloseSend() // the status says more
				}
				if e := finish(call, 0); e.status != nil && strings.Contains(fmt.Sprint(e.status, e.status.Details, e.status.Trailer), secret) {
					t.Errorf("%s: a status tells the secret: %v", method, e)
				}
				call.Close()
			}
		}
	})
	for _, line := range c.output.all() {
		if strings.Contains(line, secret) {
			t.Errorf("the log tells the secret: %s", line)
		}
	}
}
