package e2e

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// A fleet is a gRPC backend that does what OpAMP asks of a server: it knows each agent's
// state, asks for all of it if something is missing, and offers a configuration and a
// command.
type fleet struct {
	address string

	mu      sync.Mutex
	changed chan struct{} // closed at each change
	agents  map[string]*managed
	config  *protobufs.AgentRemoteConfig
}

// managed is what a fleet knows of one agent.
type managed struct {
	state    *protobufs.AgentToServer // its fields as they were last reported
	full     int                      // how often the fleet has asked for the full state
	commands int                      // left to be sent
	gone     bool
	push     func(*protobufs.ServerToAgent) error // nil: it isn't connected by a stream
	streams  int                                  // that it has had
}

func startFleet(t *testing.T) *fleet {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{address: ln.Addr().String(), changed: make(chan struct{}), agents: map[string]*managed{}}
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "fleet.v1.Agents", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Poll", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			m := new(protobufs.AgentToServer)
			if err := decode(m); err != nil {
				return nil, err
			}
			return f.answer(m), nil
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Connect", ServerStreams: true, ClientStreams: true, Handler: func(_ any, ss grpc.ServerStream) error {
			return f.connect(ss)
		}}},
	}, nil)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(ln) })
	t.Cleanup(func() {
		s.Stop()
		serving.Wait()
	})
	return f
}

// connect serves the stream of one agent.
func (f *fleet) connect(ss grpc.ServerStream) error {
	var sending sync.Mutex
	send := func(m *protobufs.ServerToAgent) error {
		sending.Lock()
		defer sending.Unlock()
		return ss.SendMsg(m)
	}
	var id string
	for {
		m := new(protobufs.AgentToServer)
		if err := ss.RecvMsg(m); err != nil {
			f.update(id, func(a *managed) { a.push = nil })
			return nil // the agent is gone, or said goodbye
		}
		answer := f.answer(m)
		if id == "" {
			id = string(m.GetInstanceUid())
			f.update(id, func(a *managed) {
				a.push = send
				a.streams++
			})
		}
		if err := send(answer); err != nil {
			return err
		}
	}
}

// answer takes in a message, and returns the reply.
func (f *fleet) answer(m *protobufs.AgentToServer) *protobufs.ServerToAgent {
	reply := &protobufs.ServerToAgent{InstanceUid: m.GetInstanceUid()}
	f.update(string(m.GetInstanceUid()), func(a *managed) {
		if a.state == nil && m.GetAgentDescription() == nil || a.state != nil && m.GetSequenceNum() != a.state.GetSequenceNum()+1 && m.GetAgentDescription() == nil {
			reply.Flags = uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)
			a.full++
		}
		if a.state == nil {
			a.state = new(protobufs.AgentToServer)
		}
		proto.Merge(a.state, m)
		a.gone = m.GetAgentDisconnect() != nil
		if f.config != nil && !bytes.Equal(a.state.GetRemoteConfigStatus().GetLastRemoteConfigHash(), f.config.GetConfigHash()) {
			reply.RemoteConfig = f.config
		}
		if a.commands > 0 && reply.RemoteConfig == nil { // a command comes alone
			a.commands--
			reply.Command = &protobufs.ServerToAgentCommand{Type: protobufs.CommandType_CommandType_Restart}
		}
	})
	return reply
}

// update changes what the fleet knows of an agent.
func (f *fleet) update(id string, change func(a *managed)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.agents[id]
	if a == nil {
		a = new(managed)
		f.agents[id] = a
	}
	change(a)
	close(f.changed)
	f.changed = make(chan struct{})
}

// forget loses all that is known of an agent's state, as a backend does that starts anew.
func (f *fleet) forget(id string) {
	f.update(id, func(a *managed) { a.state, a.full = nil, 0 })
}

// offer offers a configuration to an agent: at once if it is connected by a stream.
func (f *fleet) offer(t *testing.T, id, text string) {
	t.Helper()
	f.mu.Lock()
	f.config = &protobufs.AgentRemoteConfig{
		Config:     &protobufs.AgentConfigMap{ConfigMap: map[string]*protobufs.AgentConfigFile{"": {Body: []byte(text)}}},
		ConfigHash: []byte("hash of " + text),
	}
	offer := &protobufs.ServerToAgent{InstanceUid: []byte(id), RemoteConfig: f.config}
	push := f.agents[id].push
	f.mu.Unlock()
	if push != nil {
		if err := push(offer); err != nil {
			t.Fatal(err)
		}
	}
}

// await waits until the fleet knows something of an agent.
func (f *fleet) await(t *testing.T, what, id string, known func(a *managed) bool) {
	t.Helper()
	f.awaitFor(t, 20*time.Second, what, id, known)
}

func (f *fleet) awaitFor(t *testing.T, patience time.Duration, what, id string, known func(a *managed) bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		f.mu.Lock()
		changed := f.changed
		a := f.agents[id]
		ok := a != nil && known(a)
		f.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("the fleet waits for %s in vain; of the agent it knows %+v", what, a)
		}
	}
}
