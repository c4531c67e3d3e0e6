package doctor

import (
	"errors"
	"io"
	"testing"
	"time"
)

// TestEndings: what a status, or its lack, says.
func TestEndings(t *testing.T) {
	for status, want := range map[string]Finding{
		"12": {Result: unknown, Cause: causeUnimplemented},
		"16": {Result: unknown, Cause: causeUnauthenticated},
		"7":  {Result: unknown, Cause: causeUnauthenticated},
		"8":  {Result: unknown, Cause: causeQuota},
		"14": {Result: unknown},
		"":   {Result: failed, Cause: causeNoTrailers},
		"-1": {Result: failed, Cause: causeNoTrailers},
		"x":  {Result: failed, Cause: causeNoTrailers},
	} {
		fields := map[string][]string{"grpc-status": {status}}
		if status == "" {
			fields = nil
		}
		got := finding(statusEnding(fields))
		if got.Result != want.Result || got.Cause != want.Cause {
			t.Errorf("grpc-status %q: %+v, want %+v", status, got, want)
		}
	}
	if e := statusEnding(map[string][]string{"grpc-status": {"0"}}); !errors.Is(e, io.EOF) {
		t.Errorf("OK is %v", e)
	}
	const details = "CA4SFHVwc3RyZWFtIHVucmVhY2hhYmxlGksKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5FcnJvckluZm8SHwoUVVBTVFJFQU1fVU5SRUFDSEFCTEUSB2N1bHZlcnQ"
	for given, want := range map[string]string{details: "UPSTREAM_UNREACHABLE", "": ""} {
		e, ok := errors.AsType[*ending](statusEnding(map[string][]string{"grpc-status": {"14"}, "grpc-status-details-bin": {given}}))
		if !ok || e.reason() != want {
			t.Errorf("the end with the details %q is %v, want the reason %q", given, e, want)
		}
	}
	if got := finding(statusEnding(map[string][]string{"grpc-status": {"14"}, "grpc-status-details-bin": {"!"}})); got.Cause != causeNoTrailers {
		t.Errorf("with malformed details the call ends with %+v", got)
	}
}

// TestArrivals: messages that come together are held back, and a slow machine isn't a box.
func TestArrivals(t *testing.T) {
	at := func(ms ...int) (all []time.Time) {
		for _, m := range ms {
			all = append(all, time.Unix(0, 0).Add(time.Duration(m)*time.Millisecond))
		}
		return all
	}
	for _, c := range []struct {
		arrivals []time.Time
		want     Result
	}{
		{at(0, 400, 800, 1200), works},
		{at(500, 501, 900, 1300), works},
		{at(0, 0, 0, 5000), works},
		{at(1200, 1200, 1201, 1210), held},
		{at(0, 400), failed},
		{nil, failed},
	} {
		if got := judgeArrivals(c.arrivals); got.Result != c.want {
			t.Errorf("%v: %+v, want %s", c.arrivals, got, c.want)
		}
	}
}
