package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/edge"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
	"github.com/culvert-grpc/culvert/examples/internal/run"
)

// A check shows, with requests to the edge, that the tunnel does what it is for.
type check struct {
	edge     *edge.Edge
	webs     map[string]*web
	firewall *firewall
	culvert  *run.Culvert
	client   *http.Client
}

func newCheck(e *edge.Edge, webs map[string]*web, f *firewall, culvert *run.Culvert, address string) *check {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) { // NAME.localhost, without DNS
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	transport := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: loaders}
	return &check{edge: e, webs: webs, firewall: f, culvert: culvert, client: &http.Client{Transport: transport}}
}

func (c *check) run(ctx context.Context) error {
	defer c.client.CloseIdleConnections()
	for _, step := range []func(context.Context) error{c.fallback, c.trailers, c.slowBodies, c.moves, c.health} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fallback waits for the agents: those behind the firewall come in WebSockets.
func (c *check) fallback(ctx context.Context) error {
	if err := c.wantWebSockets(ctx, len(firewalled)); err != nil {
		return err
	}
	run.Say("check", "%d agents by native gRPC; %d by WebSocket, because the firewall cut %d HTTP/2 connections",
		len(agents), len(firewalled), c.firewall.cut.Load())
	return nil
}

// wantWebSockets waits until the edge has a stream of each agent, n of them by WebSocket,
// and until culvert carries no others.
func (c *check) wantWebSockets(ctx context.Context, n int) error {
	native := len(agents) + len(firewalled) - n
	return poll(ctx, func() error {
		if err := c.wantStreams(n); err != nil {
			return err
		}
		if err := c.wantCalls(ctx, "grpc", native); err != nil {
			return err
		}
		return c.wantCalls(ctx, "h2ts+grpc", n)
	})
}

func (c *check) wantStreams(webSockets int) error {
	states := c.edge.Agents()
	n := 0
	for _, s := range states {
		if s.Transport == tunnelpb.Transport_TRANSPORT_WEBSOCKET {
			n++
		}
	}
	if all := len(agents) + len(firewalled); len(states) != all || n != webSockets {
		return fmt.Errorf("the edge has %d agents, %d by WebSocket; want %d and %d", len(states), n, all, webSockets)
	}
	return nil
}

func (c *check) wantCalls(ctx context.Context, transport string, want int) error {
	n, err := c.openCalls(ctx, transport)
	if err == nil && n != want {
		err = fmt.Errorf("culvert has %d calls by %s, want %d", n, transport, want)
	}
	return err
}

// poll tries until there is no error. When the context ends, it returns the last one.
func poll(ctx context.Context, try func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}
