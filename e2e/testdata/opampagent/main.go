// An agent of one release of opamp-go, for TestOpAMPReleases. It takes every configuration
// that it is offered, and runs until it is killed.
//
//	agent URL ID      with the instance id in hex
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/open-telemetry/opamp-go/client"
	"github.com/open-telemetry/opamp-go/client/types"
	"github.com/open-telemetry/opamp-go/protobufs"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Capabilities, by their numbers: their names have changed.
const (
	reportsStatus          = 0x1
	acceptsRemoteConfig    = 0x2
	reportsEffectiveConfig = 0x4
	reportsRemoteConfig    = 0x1000
)

func run(url, id string) error {
	uid, err := hex.DecodeString(id)
	if err != nil {
		return err
	}
	var c client.OpAMPClient
	if strings.HasPrefix(url, "ws") {
		c = client.NewWebSocket(nil)
	} else {
		c = client.NewHTTP(nil)
	}
	var mu sync.Mutex
	var config *protobufs.AgentConfigMap
	settings := types.StartSettings{
		OpAMPServerURL: url,
		InstanceUid:    instanceUID(uid),
		Capabilities:   reportsStatus | acceptsRemoteConfig | reportsEffectiveConfig | reportsRemoteConfig,
		Callbacks: callbacks(
			func(ctx context.Context, m *types.MessageData) {
				if m.RemoteConfig == nil {
					return
				}
				mu.Lock()
				config = m.RemoteConfig.GetConfig()
				mu.Unlock()
				err := errors.Join(
					c.SetRemoteConfigStatus(&protobufs.RemoteConfigStatus{LastRemoteConfigHash: m.RemoteConfig.GetConfigHash(), Status: 1}), // applied
					c.UpdateEffectiveConfig(ctx),
				)
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			},
			func(context.Context) (*protobufs.EffectiveConfig, error) {
				mu.Lock()
				defer mu.Unlock()
				return &protobufs.EffectiveConfig{ConfigMap: config}, nil
			},
		),
	}
	err = c.SetAgentDescription(&protobufs.AgentDescription{IdentifyingAttributes: []*protobufs.KeyValue{{
		Key: "service.name", Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: "collector"}},
	}}})
	if err == nil {
		err = c.Start(context.Background(), settings)
	}
	if err != nil {
		return err
	}
	select {}
}
