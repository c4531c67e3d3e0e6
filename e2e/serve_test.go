package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// In front of a real service, with no other configuration: its services are
// listed, its reflection and health pass, what tells about its inside does not.
func TestServesAnUnmodifiedBackend(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	c.loggedLike(t, func(l map[string]any) bool { return strings.Contains(fmt.Sprint(l), "culvert.e2e.v1.Probe") })

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cc := grpcClient(t, c.address)
	health, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("the backend's health: %v, %v", health, err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	reply, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var services []string
	for _, s := range reply.GetListServicesResponse().GetService() {
		services = append(services, s.GetName())
	}
	if !slices.Contains(services, "culvert.e2e.v1.Probe") {
		t.Errorf("reflection lists %q", services)
	}

	for _, method := range []string{"/grpc.channelz.v1.Channelz/GetTopChannels", "/grpc.binarylog.v1.BinaryLog/Any"} {
		for _, transport := range wire.All {
			e := finish(post(t, dial(t, transport, c.address), method, probe.Script{}), 0)
			if !e.is(codes.Unimplemented, "NO_ROUTE") {
				t.Errorf("%s %s: %v, want UNIMPLEMENTED with NO_ROUTE", transport, method, e)
			}
		}
	}
	allowing := startCulvert(t, b.address, culvertOptions{args: []string{"--allow-method", "grpc.channelz.v1.Channelz/*"}})
	e := finish(post(t, dial(t, wire.Web, allowing.address), "/grpc.channelz.v1.Channelz/GetTopChannels", probe.Script{}), 0)
	if !e.is(codes.Unimplemented, "") { // the backend's own answer: it has none
		t.Errorf("allowed: %v, want the backend's UNIMPLEMENTED", e)
	}
	if e := finish(post(t, dial(t, wire.Web, allowing.address), wire.Unary, probe.Script{}), 0); !e.is(codes.Unimplemented, "NO_ROUTE") {
		t.Errorf("not among the allowed: %v", e)
	}
}

// A backend on a unix socket.
func TestUnixSocketBackend(t *testing.T) {
	b := startBackend(t, backendOptions{listen: "unix:"})
	c := startCulvert(t, b.address, culvertOptions{})
	for _, transport := range wire.All {
		if err := works(t, transport, c.address, 20*time.Second); err != nil {
			t.Errorf("%s: %v", transport, err)
		}
	}
}

// A call that is idle lives, on every transport and for clients that ping often.
func TestIdleCallsLive(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	var talks []*call
	replies := make([]chan error, len(wire.All))
	for i, transport := range wire.All {
		talk := open(t, dial(t, transport, c.address), wire.Bidi, probe.Script{Echo: true})
		say(t, talk, 0)
		talks = append(talks, talk)
		replies[i] = make(chan error, 1)
		go func() { // clients always read: that is how they see pings
			_, err := wire.RecvReply(talk, 1)
			replies[i] <- err
		}()
	}
	// grpc-go's own pings, as often as it can.
	ping := grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true})
	streams := map[string]grpc.ClientStream{}
	for name, cc := range map[string]*grpc.ClientConn{
		"grpc-go h2c":  grpcClient(t, c.address, ping),
		"grpc-go h2ts": grpcClient(t, "culvert", throughTunnel(c.address), ping),
	} {
		j := scenario{method: "Bidi", script: probe.Script{Echo: true}, requests: []jobRequest{{}, {}}}.job(t, name)
		s, err := cc.NewStream(withMetadata(t.Context(), j), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, wire.Bidi)
		if err != nil {
			t.Fatal(err)
		}
		streams[name] = s
		if err := s.SendMsg(j.request(0)); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(42 * time.Second) // two pings of culvert's own and more
	for i, talk := range talks {
		if err := talk.Send(wire.Request(1, 100)); err != nil {
			t.Errorf("%s: after 42 s without a message: %v", talk.conn.Transport, err)
			continue
		}
		if err := await(t, replies[i], patience, "a reply over "+string(talk.conn.Transport)); err != nil {
			t.Errorf("%s: after 42 s without a message: %v (%v)", talk.conn.Transport, err, talk.Status())
		}
	}
	for name, s := range streams {
		j := job{Requests: []jobRequest{{}, {}}}
		_ = s.SendMsg(j.request(1)) // RecvMsg has the reason of an error
		for range 2 {
			if err := s.RecvMsg(j.request(0)); err != nil {
				t.Errorf("%s: after 42 s of pings: %v", name, err)
				break
			}
		}
	}
}

// Each call is one line of the log, which says who made its status.
func TestCallIsOneLineOfTheLog(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	finish(post(t, dial(t, wire.GRPC, c.address), wire.ServerStream, probe.Script{Replies: 3, ReplyBytes: 100, Code: 10}), 0)
	finish(post(t, dial(t, wire.Web, c.address), "/grpc.channelz.v1.Channelz/X", probe.Script{}), 0)
	gone := open(t, dial(t, wire.WebSocket, c.address), wire.Bidi, probe.Script{})
	b.record(t, gone.id, probe.Began, patience)
	gone.conn.Reset()
	for _, want := range []map[string]any{
		{"transport": "grpc", "method": wire.ServerStream, "code": "ABORTED", "origin": "upstream", "messages_in": 1.0, "messages_out": 3.0},
		{"transport": "grpc-web", "code": "UNIMPLEMENTED", "origin": "culvert", "reason": "NO_ROUTE", "messages_out": 0.0},
		{"transport": "grpc-websockets", "method": wire.Bidi, "origin": "client", "reason": "CLIENT_GONE"},
	} {
		line := c.loggedLike(t, func(l map[string]any) bool {
			if l["msg"] != "call" {
				return false
			}
			for key, value := range want {
				if l[key] != value {
					return false
				}
			}
			return true
		})
		for _, key := range []string{"call_id", "peer", "duration_ms", "bytes_in", "bytes_out"} {
			if _, ok := line[key]; !ok {
				t.Errorf("the line has no %s: %v", key, line)
			}
		}
	}
	calls := 0
	for _, text := range c.output.all() {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil && line["msg"] == "call" {
			calls++
		}
	}
	if calls != 3 {
		t.Errorf("3 calls made %d lines", calls)
	}
}
