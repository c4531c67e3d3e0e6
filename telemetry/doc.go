// Package telemetry reports events. Each of these implements report.Observer for one
// kind of reader:
//
//   - [Log] (log.go) writes a line a call, with the attributes that the operator adds
//     (fields.go), unless it leaves that out (log_sample.go).
//   - [Metrics] (metrics*.go) counts for Prometheus. families.go is the table of its
//     metrics, and the page docs/reference/metrics.md is made from that.
//   - [Traces] (traces*.go) makes spans. traces.go decides what a call gets at its beginning,
//     traces_context.go reads and writes W3C's metadata, and traces_span.go makes the spans at
//     a call's end.
//
// Spans leave by OTLP (otlp*.go). So do metrics, if there is a [MetricsExport]
// (metrics_export.go; metrics_otlp.go writes them), and the lines of the log, if there are
// [Lines] (log_export.go). An exporter sends the requests of one signal to its [Receiver], and an
// itemQueue holds spans and lines until then. Only the goroutines of queues and of a
// MetricsExport wait for receivers; Close waits for those goroutines.
package telemetry

//go:generate go test -count=1 -run TestGeneratedPage|TestLogFieldsAreDocumented . -update
