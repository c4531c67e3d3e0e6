package codec

import (
	"errors"
	"math"
	"strconv"
	"time"
)

// maxTimeoutDigits is the largest number of digits in a grpc-timeout.
const maxTimeoutDigits = 8

var errMalformedTimeout = errors.New("grpc-timeout: not 1 to 8 digits and a unit of H, M, S, m, u or n")

// ParseTimeout parses a grpc-timeout header: one to eight digits and a unit, H M S
// m u n, whose case matters. 0 is legal and means that the deadline has passed. A
// time that a time.Duration can't hold becomes its largest value, about 292 years.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests
func ParseTimeout(s string) (time.Duration, error) {
	digits := len(s) - 1
	if digits < 1 || digits > maxTimeoutDigits {
		return 0, errMalformedTimeout
	}
	v, err := strconv.ParseUint(s[:digits], 10, 32) // takes no sign
	unit := timeoutUnit(s[digits])
	if err != nil || unit == 0 {
		return 0, errMalformedTimeout
	}
	if time.Duration(v) > math.MaxInt64/unit {
		return math.MaxInt64, nil
	}
	return time.Duration(v) * unit, nil
}

// timeoutUnit returns the length of a grpc-timeout unit, or 0 for another byte.
func timeoutUnit(c byte) time.Duration {
	switch c {
	case 'H':
		return time.Hour
	case 'M':
		return time.Minute
	case 'S':
		return time.Second
	case 'm':
		return time.Millisecond
	case 'u':
		return time.Microsecond
	case 'n':
		return time.Nanosecond
	}
	return 0
}

// maxTimeoutValue is the largest number of maxTimeoutDigits digits.
const maxTimeoutValue = 99999999

// FormatTimeout returns d as a grpc-timeout header: in the finest unit that takes at most
// eight digits, rounded up so that the reader never gives up before the writer does. grpc-go
// chooses the same unit. A d of 0 or less is "0n", expired.
func FormatTimeout(d time.Duration) string {
	if d <= 0 {
		return "0n"
	}
	for _, unit := range []byte("numSM") {
		if v := divideUp(d, timeoutUnit(unit)); v <= maxTimeoutValue {
			return strconv.FormatInt(v, 10) + string(unit)
		}
	}
	return strconv.FormatInt(divideUp(d, time.Hour), 10) + "H" // at most 2562048H
}

// divideUp returns d/unit, rounded up.
func divideUp(d, unit time.Duration) int64 {
	v := d / unit
	if d%unit > 0 {
		v++
	}
	return int64(v)
}
