//go:build !ulid

package main

import "github.com/open-telemetry/opamp-go/client/types"

func instanceUID(id []byte) types.InstanceUid { return types.InstanceUid(id) }
