// Package telemetry reports events. Each of these implements report.Observer for one
// kind of reader:
//
//   - [Log] (log.go) writes a line a call, with the attributes that the operator adds
//     (fields.go), unless it leaves that out (sample.go).
//   - [Metrics] (metrics*.go) counts for Prometheus. families.go is the table of its
//     metrics, and the page docs/reference/metrics.md is made from that.
package telemetry

//go:generate go test -count=1 -run TestGeneratedPage|TestLogFieldsAreDocumented . -update
