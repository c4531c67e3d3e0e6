//go:build !structs

package main

import (
	"context"

	"github.com/open-telemetry/opamp-go/client/types"
	"github.com/open-telemetry/opamp-go/protobufs"
)

func callbacks(message func(context.Context, *types.MessageData), config func(context.Context) (*protobufs.EffectiveConfig, error)) types.Callbacks {
	return types.Callbacks{OnMessage: message, GetEffectiveConfig: config}
}
