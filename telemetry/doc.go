// Package telemetry reports events: each file implements bridge.Observer for one
// kind of reader. Log writes a line a call.
package telemetry
