package e2e

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/client"
	"github.com/open-telemetry/opamp-go/client/types"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// TestOpAMPAgents runs the agents of opamp-go, as they are, through OpAMP's conversations:
// status, configuration, a command, and a new connection after culvert's restart.
func TestOpAMPAgents(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name, scheme, poll string
		agent              func() client.OpAMPClient
		kill               bool // culvert ends without a goodbye: it would have the agent wait for 30 s
	}{
		{"websocket", "ws", "", func() client.OpAMPClient { return client.NewWebSocket(nil) }, false},
		{"polls by unary calls", "http", "fleet.v1.Agents/Poll", func() client.OpAMPClient { return client.NewHTTP(nil) }, true},
		{"polls of a session", "http", "", func() client.OpAMPClient { return client.NewHTTP(nil) }, true},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			f := startFleet(t)
			o := culvertOptions{config: `
drain_timeout: 1s
routes:
  - name: agents
    backend: default
    message: {path: /v1/opamp, method: fleet.v1.Agents/Connect, framing: opamp, poll_method: "` + way.poll + `"}
`}
			c := startCulvert(t, f.address, o)
			a := startAgent(t, way.agent(), way.scheme+"://"+c.address+"/v1/opamp")

			f.await(t, "the agent's status", a.id, func(m *managed) bool {
				return len(m.state.GetAgentDescription().GetIdentifyingAttributes()) == 1 && m.state.GetHealth().GetHealthy()
			})

			f.offer(t, a.id, "receivers: {}")
			f.await(t, "the configuration's acknowledgement", a.id, func(m *managed) bool {
				s := m.state.GetRemoteConfigStatus()
				return string(s.GetLastRemoteConfigHash()) == "hash of receivers: {}" && s.GetStatus() == protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED &&
					string(m.state.GetEffectiveConfig().GetConfigMap().GetConfigMap()[""].GetBody()) == "receivers: {}"
			})

			f.update(a.id, func(m *managed) { m.commands++ })
			if err := a.client.SetHealth(&protobufs.ComponentHealth{Healthy: false, LastError: "restart me"}); err != nil {
				t.Fatal(err)
			}
			select {
			case command := <-a.commands:
				if command.GetType() != protobufs.CommandType_CommandType_Restart {
					t.Errorf("the command is %v", command)
				}
			case <-time.After(patience):
				t.Fatal("the agent got no command")
			}
			f.await(t, "the agent's health", a.id, func(m *managed) bool { return m.state.GetHealth().GetLastError() == "restart me" })
			wantStreams(t, f, a.id, way.poll, 1)

			if way.kill {
				c.kill(t)
			} else {
				c.signal(t, syscall.SIGTERM)
				c.wait(t, patience)
			}
			f.forget(a.id)
			o.listen = c.address
			startCulvert(t, f.address, o)
			f.await(t, "the agent's full state after a restart", a.id, func(m *managed) bool {
				return m.full > 0 && m.state.GetAgentDescription() != nil && m.state.GetHealth().GetLastError() == "restart me" &&
					string(m.state.GetEffectiveConfig().GetConfigMap().GetConfigMap()[""].GetBody()) == "receivers: {}"
			})
			wantStreams(t, f, a.id, way.poll, 2)
			a.stop(t)
			if way.scheme == "ws" { // opamp-go's client says it only there
				f.await(t, "the agent's goodbye", a.id, func(m *managed) bool { return m.gone })
			}
		})
	}
}

// wantStreams checks how many streams an agent has had. Unary polls have none.
func wantStreams(t *testing.T, f *fleet, id, poll string, want int) {
	t.Helper()
	if poll != "" {
		want = 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := f.agents[id].streams; got != want {
		t.Errorf("the agent has had %d streams, want %d", got, want)
	}
}

// An agent is one of opamp-go, which takes every configuration.
type agent struct {
	id       string
	client   client.OpAMPClient
	commands chan *protobufs.ServerToAgentCommand
	stopped  bool
}

func startAgent(t *testing.T, c client.OpAMPClient, server string) *agent {
	t.Helper()
	uid := types.InstanceUid{0: 1, 15: 2}
	a := &agent{id: string(uid[:]), client: c, commands: make(chan *protobufs.ServerToAgentCommand, 10)}
	capabilities := protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig | protobufs.AgentCapabilities_AgentCapabilities_ReportsRemoteConfig |
		protobufs.AgentCapabilities_AgentCapabilities_ReportsEffectiveConfig | protobufs.AgentCapabilities_AgentCapabilities_AcceptsRestartCommand |
		protobufs.AgentCapabilities_AgentCapabilities_ReportsHealth | protobufs.AgentCapabilities_AgentCapabilities_ReportsHeartbeat
	config := make(chan *protobufs.AgentConfigMap, 1)
	config <- nil
	interval := 300 * time.Millisecond
	err := errors.Join(
		c.SetAgentDescription(&protobufs.AgentDescription{IdentifyingAttributes: []*protobufs.KeyValue{{
			Key: "service.name", Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: "collector"}},
		}}}),
		c.SetHealth(&protobufs.ComponentHealth{Healthy: true}),
		c.SetCapabilities(&capabilities),
	)
	if err == nil {
		err = c.Start(context.Background(), types.StartSettings{
			OpAMPServerURL: server, InstanceUid: uid, EnableCompression: true, HeartbeatInterval: &interval,
			Callbacks: types.Callbacks{
				OnMessage: func(ctx context.Context, m *types.MessageData) {
					if m.RemoteConfig == nil {
						return
					}
					<-config
					config <- m.RemoteConfig.GetConfig()
					err := errors.Join(
						c.SetRemoteConfigStatus(&protobufs.RemoteConfigStatus{LastRemoteConfigHash: m.RemoteConfig.GetConfigHash(), Status: protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED}),
						c.UpdateEffectiveConfig(ctx),
					)
					if err != nil {
						t.Error(err)
					}
				},
				GetEffectiveConfig: func(context.Context) (*protobufs.EffectiveConfig, error) {
					m := <-config
					config <- m
					return &protobufs.EffectiveConfig{ConfigMap: m}, nil
				},
				OnCommand: func(_ context.Context, command *protobufs.ServerToAgentCommand) error {
					a.commands <- command
					return nil
				},
			},
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.stop(t) })
	return a
}

func (a *agent) stop(t *testing.T) {
	t.Helper()
	if a.stopped {
		return
	}
	a.stopped = true
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.client.Stop(ctx); err != nil {
		t.Error(err)
	}
}
