package bridgetest

import "slices"

// scenarios is the list.
var scenarios = slices.Concat(
	callScenarios,
	metadataScenarios,
	statusScenarios,
	deadlineScenarios,
	cancelScenarios,
	upstreamScenarios,
	brokenBackendScenarios,
	flowScenarios,
	compressionScenarios,
	malformedScenarios,
	policyScenarios,
	drainScenarios,
	chaosScenarios,
	panicScenarios,
)
