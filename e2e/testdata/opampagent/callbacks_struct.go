//go:build structs

package main

import (
	"context"

	"github.com/open-telemetry/opamp-go/client/types"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// callbacks are those of releases up to v0.17.0.
func callbacks(message func(context.Context, *types.MessageData), config func(context.Context) (*protobufs.EffectiveConfig, error)) types.Callbacks {
	return types.CallbacksStruct{OnMessageFunc: message, GetEffectiveConfigFunc: config}
}
