package bridge_test

import (
	"testing"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/bridgetest"
)

// TestConformance runs the one list of scenarios over every transport.
func TestConformance(t *testing.T) { conform(t, false) }

// TestConformanceInFull runs whole those scenarios of which TestConformance takes a
// part for each transport.
func TestConformanceInFull(t *testing.T) { conform(t, true) }

func conform(t *testing.T, whole bool) {
	defer bridge.StageSteps()()
	bridgetest.SetStages(stages)
	bridgetest.Run(t, whole)
}

func stages(s *bridge.Server) bridgetest.StagePanics { return bridge.NewStagePanics(s) }
