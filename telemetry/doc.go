// Package telemetry reports events. Each of these implements report.Observer for one
// kind of reader:
//
//   - [Log] (log.go) writes a line a call, with the attributes that the operator adds
//     (fields.go), unless it leaves that out (sample.go).
//   - [Metrics] (metrics*.go) counts for Prometheus. families.go is the table of its
//     metrics, and the page docs/reference/metrics.md is made from that.
//   - [Traces] (traces*.go) exports spans by OTLP. traces.go decides what a call gets at its
//     beginning, traces_context.go reads and writes W3C's metadata, traces_span.go makes the
//     spans at a call's end, and traces_queue.go takes them to the receiver
//     (traces_export.go). Only a queue's goroutine waits for the receiver; Traces.Close waits
//     for it.
package telemetry

//go:generate go test -count=1 -run TestGeneratedPage|TestLogFieldsAreDocumented . -update
