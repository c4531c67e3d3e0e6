// Package edge is the public end of the tunnel: a gRPC service for agents, and an HTTP
// handler that forwards each request to one of them.
package edge

import (
	"cmp"
	"context"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

// An Edge is the gRPC service. NewHandler returns the HTTP handler before it.
type Edge struct {
	tunnelpb.UnimplementedEdgeServer

	renewAfter time.Duration
	working    sync.WaitGroup // sends what may outlast its request or stream

	mu     sync.Mutex
	share  uint32 // percent of the agents that shall use a WebSocket
	agents map[string]*agent
	turn   int // counts the requests that any agent may serve
}

// An agent has at least one stream.
type agent struct {
	name    string
	stream  *stream // its newest
	healthy bool    // the last check of its web server passed
}

// New returns an edge whose agents register again after renewAfter.
func New(renewAfter time.Duration) *Edge {
	return &Edge{renewAfter: renewAfter, agents: make(map[string]*agent)}
}

// Wait waits for what the edge still sends. Call it after both servers have ended.
func (e *Edge) Wait() { e.working.Wait() }

// Move moves agents until the given percentage uses a WebSocket. They learn this when they
// register the next time.
func (e *Edge) Move(percent uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.share = percent
}

// Register implements tunnelpb.EdgeServer.
func (e *Edge) Register(_ context.Context, r *tunnelpb.RegisterRequest) (*tunnelpb.RegisterResponse, error) {
	if r.GetAgent() == "" {
		return nil, status.Error(codes.InvalidArgument, "agent is empty")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	transport := tunnelpb.Transport_TRANSPORT_GRPC
	if rank(r.GetAgent()) < e.share {
		transport = tunnelpb.Transport_TRANSPORT_WEBSOCKET
	}
	if !slices.Contains(r.GetReachable(), transport) {
		transport = r.GetUsing()
	}
	return &tunnelpb.RegisterResponse{Transport: transport, RenewAfterMs: uint32(e.renewAfter.Milliseconds())}, nil
}

// rank returns a number below 100 for an agent, always the same: an agent that moved at
// 10 % stays moved at 20 %.
func rank(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return h.Sum32() % 100
}

// State describes an agent.
type State struct {
	Name      string
	Transport tunnelpb.Transport
	Healthy   bool
	Requests  int // under way on its newest stream
}

// Agents returns the agents by name.
func (e *Edge) Agents() []State {
	var all []State
	for _, a := range e.snapshot() {
		all = append(all, State{a.name, a.stream.transport, a.healthy, a.stream.requests()})
	}
	return all
}

func (e *Edge) snapshot() []agent {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []agent
	for _, a := range e.agents {
		all = append(all, *a)
	}
	slices.SortFunc(all, func(a, b agent) int { return cmp.Compare(a.name, b.name) })
	return all
}

// pick returns the stream for the next request: that of the agent with this name, or of
// each in turn if no agent has the name.
func (e *Edge) pick(name string) *stream {
	all := e.snapshot()
	if i := slices.IndexFunc(all, func(a agent) bool { return a.name == name }); i >= 0 {
		all = all[i : i+1]
	}
	all = slices.DeleteFunc(all, func(a agent) bool { return !a.healthy })
	if len(all) == 0 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.turn++
	return all[e.turn%len(all)].stream
}

// add makes the stream the one for its agent's new requests. It returns the stream that
// was this before, if any.
func (e *Edge) add(s *stream) (before *stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.agents[s.agent]
	if a == nil {
		a = &agent{name: s.agent, healthy: true}
		e.agents[s.agent] = a
	}
	before, a.stream = a.stream, s
	return before
}

func (e *Edge) remove(s *stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.agents[s.agent]; a != nil && a.stream == s {
		delete(e.agents, s.agent)
	}
}
