package main

import (
	"context"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const drainConfig = "drain_timeout: 10s\n"

// drainTime is how long culvert takes from SIGTERM to its exit, in seconds.
func drainTime(ctx context.Context, a *arena, name string) (float64, error) {
	took, _, err := drained(ctx, a, name)
	return took.Seconds(), err
}

// drainBareEnds is how many of the streams ended without a status.
func drainBareEnds(ctx context.Context, a *arena, _ string) (float64, error) {
	_, bare, err := drained(ctx, a, manyStreams)
	return float64(bare), err
}

func drained(ctx context.Context, a *arena, name string) (took time.Duration, bare int64, err error) {
	var without atomic.Int64
	o, err := a.operate(ctx, name, drainConfig, func(s stream, err error) {
		if name != deafStreams {
			s.close()
		}
		if err == nil || !strings.Contains(err.Error(), "grpc-status: 14") {
			without.Add(1)
		}
	})
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := o.proc.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, 0, err
	}
	err = o.proc.cmd.Wait()
	took = time.Since(began)
	o.end()
	return took, without.Load(), err
}
