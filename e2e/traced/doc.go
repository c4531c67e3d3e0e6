// Package traced tests culvert's traces, metrics and lines by OTLP from outside, between real clients, a grpc-go backend
// with OpenTelemetry's instrumentation, and the receiver of OpenTelemetry's collector. It is a
// module of its own, since the collector needs newer versions of what the oracles in e2e need.
//
// CULVERT_BIN names the program to test; without it, ../../cmd/culvert is built.
package traced
