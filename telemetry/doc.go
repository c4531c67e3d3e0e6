// Package telemetry tells what happened: each file implements bridge.Observer
// for one reader. Log writes a line a call.
package telemetry
