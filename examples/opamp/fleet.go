package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"sync"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/culvert-grpc/culvert/examples/internal/run"
	"github.com/culvert-grpc/culvert/examples/opamp/fleetpb"
)

// A fleet is the backend: it knows the state of all agents, and the configuration that
// each should have.
type fleet struct {
	fleetpb.UnimplementedAgentsServer
	fleetpb.UnimplementedFleetServer

	mu      sync.Mutex
	agents  map[string]*managed          // by instance id, in hexadecimal
	offer   *protobufs.AgentRemoteConfig // for agents to come; nil: their own
	version uint64                       // counts the changes
	changed chan struct{}                // closed by the next change
}

// managed is what a fleet knows of one agent. The fleet's lock guards it.
type managed struct {
	shown    *fleetpb.Agent
	sequence uint64                       // of the last message
	missed   bool                         // a message was: the agent must report all again
	offer    *protobufs.AgentRemoteConfig // nil: the agent's own
	tried    []byte                       // the hash of the last offer that the agent has reported on
	wake     chan struct{}                // makes the agent's stream send; nil without a stream
	version  uint64                       // of the last change
}

func newFleet() *fleet {
	return &fleet{agents: make(map[string]*managed), changed: make(chan struct{})}
}

// Connect implements Agents. An offer doesn't wait for a message of the agent.
func (f *fleet) Connect(stream grpc.BidiStreamingServer[protobufs.AgentToServer, protobufs.ServerToAgent]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	id, wake := instance(first), make(chan struct{}, 1)
	f.receive(first, "WebSocket", wake)
	defer f.leave(id, wake)

	ctx, cancel := context.WithCancel(stream.Context())
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel()
	sending.Go(func() { f.send(ctx, id, wake, stream) })
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case instance(m) != id:
			return status.Error(codes.InvalidArgument, "a WebSocket is for one instance id")
		}
		f.receive(m, "WebSocket", wake)
	}
}

// send sends what there is for an agent, each time it is woken.
func (f *fleet) send(ctx context.Context, id string, wake <-chan struct{}, stream grpc.ServerStreamingServer[protobufs.ServerToAgent]) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
		if m := f.answer(id); m.GetFlags() != 0 || m.GetRemoteConfig() != nil {
			if err := stream.Send(m); err != nil {
				return // Connect notices, too
			}
		}
	}
}

// Poll implements Agents. An offer waits for the agent's next poll.
func (f *fleet) Poll(_ context.Context, m *protobufs.AgentToServer) (*protobufs.ServerToAgent, error) {
	f.receive(m, "polls", nil)
	return f.answer(instance(m)), nil
}

func instance(m *protobufs.AgentToServer) string { return hex.EncodeToString(m.GetInstanceUid()) }

// receive takes in a message. Agents leave out what hasn't changed since the one before.
func (f *fleet) receive(m *protobufs.AgentToServer, transport string, wake chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := instance(m)
	a := f.agents[id]
	if a == nil {
		a = &managed{shown: &fleetpb.Agent{InstanceUid: id}, missed: true, offer: f.offer}
		f.agents[id] = a
	}
	a.missed = a.missed || m.GetSequenceNum() != a.sequence+1
	a.sequence, a.wake = m.GetSequenceNum(), wake
	if d := m.GetAgentDescription(); d != nil { // all of the state
		a.missed, a.tried = false, nil
		a.shown.Name, a.shown.Refusal = name(d), ""
	}
	if h := m.GetHealth(); h != nil {
		a.shown.Healthy, a.shown.HealthError = h.GetHealthy(), h.GetLastError()
	}
	if c := m.GetEffectiveConfig(); c != nil {
		a.shown.Config = string(c.GetConfigMap().GetConfigMap()[""].GetBody())
	}
	if s := m.GetRemoteConfigStatus(); s != nil {
		a.tried, a.shown.Refusal = s.GetLastRemoteConfigHash(), s.GetErrorMessage()
	}
	a.shown.Transport, a.shown.LastSeen, a.shown.Gone = transport, timestamppb.Now(), m.GetAgentDisconnect() != nil
	f.change(a)
}

// name is what an agent calls itself.
func name(d *protobufs.AgentDescription) string {
	for _, attribute := range d.GetIdentifyingAttributes() {
		if attribute.GetKey() == "service.name" {
			return attribute.GetValue().GetStringValue()
		}
	}
	return ""
}

// change wakes those who wait for news of an agent: the page, and the agent's stream.
func (f *fleet) change(a *managed) {
	a.shown.Pending = a.pending()
	f.version++
	a.version = f.version
	close(f.changed)
	f.changed = make(chan struct{})
	select {
	case a.wake <- struct{}{}:
	default: // it has no stream, or the stream will look anyway
	}
}

// pending reports whether the agent doesn't know its configuration yet.
func (a *managed) pending() bool {
	return a.offer != nil && !bytes.Equal(a.offer.GetConfigHash(), a.tried)
}

// leave notes that a stream has ended. The agent may have another one already.
func (f *fleet) leave(id string, wake chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.agents[id]; a.wake == wake {
		a.wake, a.shown.Gone = nil, true
		f.change(a)
	}
}

// answer returns what there is for an agent.
func (f *fleet) answer(id string) *protobufs.ServerToAgent {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.agents[id]
	uid, _ := hex.DecodeString(id) // instance has encoded it
	m := &protobufs.ServerToAgent{InstanceUid: uid}
	if a.missed {
		m.Flags = uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)
	}
	if a.pending() {
		m.RemoteConfig = a.offer
	}
	return m
}

// Watch implements Fleet.
func (f *fleet) Watch(_ *fleetpb.WatchRequest, stream grpc.ServerStreamingServer[fleetpb.Agent]) error {
	for seen := uint64(0); ; {
		agents, version, changed := f.since(seen)
		for _, a := range agents {
			if err := stream.Send(a); err != nil {
				return err
			}
		}
		seen = version
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-changed:
		}
	}
}

// since returns the agents that have changed since a version, and the next change.
func (f *fleet) since(seen uint64) (agents []*fleetpb.Agent, version uint64, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.agents {
		if a.version > seen {
			agents = append(agents, proto.CloneOf(a.shown))
		}
	}
	return agents, f.version, f.changed
}

// Configure implements Fleet.
func (f *fleet) Configure(_ context.Context, r *fleetpb.ConfigureRequest) (*fleetpb.ConfigureResponse, error) {
	hash := sha256.Sum256([]byte(r.GetConfig()))
	offer := &protobufs.AgentRemoteConfig{
		Config:     &protobufs.AgentConfigMap{ConfigMap: map[string]*protobufs.AgentConfigFile{"": {Body: []byte(r.GetConfig())}}},
		ConfigHash: hash[:],
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	to := f.agents
	if id := r.GetInstanceUid(); id == "" {
		f.offer = offer
	} else if a := f.agents[id]; a != nil {
		to = map[string]*managed{id: a}
	} else {
		return nil, status.Errorf(codes.NotFound, "there is no agent %s", id)
	}
	for _, a := range to {
		a.offer = offer
		f.change(a)
	}
	run.Say("fleet", "pushes %q, agents: %d", r.GetConfig(), len(to))
	return &fleetpb.ConfigureResponse{Agents: uint32(len(to))}, nil
}
