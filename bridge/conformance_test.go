package bridge_test

import (
	"testing"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/bridgetest"
)

// TestConformance runs the one list of scenarios over every transport.
func TestConformance(t *testing.T) {
	defer bridge.StageSteps()()
	bridgetest.Run(t, func(s *bridge.Server) bridgetest.StagePanics { return bridge.NewStagePanics(s) })
}
