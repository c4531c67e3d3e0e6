package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/open-telemetry/opamp-go/client"
	"github.com/open-telemetry/opamp-go/client/types"
	"github.com/open-telemetry/opamp-go/protobufs"

	"github.com/culvert-grpc/culvert/examples/internal/run"
)

// capabilities are those of the agents.
const capabilities = protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsHeartbeat |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsHealth |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsEffectiveConfig |
	protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsRemoteConfig

// An agent measures something at an interval, which is all of its configuration.
type agent struct {
	name      string
	server    string // its URL: ws by WebSocket, http by polls
	uid       types.InstanceUid
	heartbeat time.Duration // or the time between polls

	client client.OpAMPClient

	mu     sync.Mutex
	config string // in effect
}

// start starts the agent, with its own configuration.
func (a *agent) start(ctx context.Context) error {
	a.config = "interval: 10s"
	if strings.HasPrefix(a.server, "ws:") {
		a.client = client.NewWebSocket(nil)
	} else {
		a.client = client.NewHTTP(nil)
	}
	can := capabilities
	err := errors.Join(
		a.client.SetAgentDescription(&protobufs.AgentDescription{IdentifyingAttributes: []*protobufs.KeyValue{{
			Key: "service.name", Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: a.name}},
		}}}),
		a.client.SetHealth(&protobufs.ComponentHealth{Healthy: true}),
		a.client.SetCapabilities(&can),
	)
	if err != nil {
		return err
	}
	return a.client.Start(ctx, types.StartSettings{
		OpAMPServerURL:    a.server,
		InstanceUid:       a.uid,
		HeartbeatInterval: &a.heartbeat,
		Callbacks: types.Callbacks{
			OnMessage:          a.receive,
			GetEffectiveConfig: a.effective,
			OnConnectFailed:    func(_ context.Context, err error) { run.Say(a.name, "can't connect: %v", err) },
			OnError: func(_ context.Context, err *protobufs.ServerErrorResponse) {
				run.Say(a.name, "%s", err.GetErrorMessage())
			},
		},
	})
}

// stop ends the agent, also when the context has ended. By WebSocket, it says goodbye.
func (a *agent) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := a.client.Stop(ctx); err != nil {
		run.Say(a.name, "%v", err)
	}
}

// receive takes the configuration that the server offers, if any, and reports on it.
func (a *agent) receive(ctx context.Context, m *types.MessageData) {
	if m.RemoteConfig == nil {
		return
	}
	text := strings.TrimSpace(string(m.RemoteConfig.GetConfig().GetConfigMap()[""].GetBody()))
	report := &protobufs.RemoteConfigStatus{LastRemoteConfigHash: m.RemoteConfig.GetConfigHash()}
	var err error
	if health, refusal := try(text); refusal != nil {
		run.Say(a.name, "refuses %q: %v", text, refusal)
		report.Status, report.ErrorMessage = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED, refusal.Error()
		err = a.client.SetRemoteConfigStatus(report)
	} else {
		run.Say(a.name, "applies %q", text)
		a.mu.Lock()
		a.config = text
		a.mu.Unlock()
		report.Status = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED
		err = errors.Join(a.client.SetRemoteConfigStatus(report), a.client.UpdateEffectiveConfig(ctx), a.client.SetHealth(health))
	}
	if err != nil {
		run.Say(a.name, "can't report: %v", err)
	}
}

// try returns the health of an agent with a configuration, or why it can't have it.
func try(config string) (*protobufs.ComponentHealth, error) {
	value, ok := strings.CutPrefix(config, "interval: ")
	if !ok {
		return nil, errors.New("there is no interval")
	}
	interval, err := time.ParseDuration(value)
	switch {
	case err != nil:
		return nil, err
	case interval < 100*time.Millisecond:
		return &protobufs.ComponentHealth{LastError: fmt.Sprintf("can't measure each %v", interval)}, nil
	default:
		return &protobufs.ComponentHealth{Healthy: true}, nil
	}
}

// effective returns the configuration in effect.
func (a *agent) effective(context.Context) (*protobufs.EffectiveConfig, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &protobufs.EffectiveConfig{ConfigMap: &protobufs.AgentConfigMap{
		ConfigMap: map[string]*protobufs.AgentConfigFile{"": {Body: []byte(a.config)}},
	}}, nil
}
