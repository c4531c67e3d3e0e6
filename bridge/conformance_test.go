package bridge_test

import (
	"testing"

	"github.com/culvert-grpc/culvert/bridge/bridgetest"
)

// TestConformance runs the one list of scenarios over every transport.
func TestConformance(t *testing.T) {
	bridgetest.Run(t)
}
