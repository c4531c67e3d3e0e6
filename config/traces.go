package config

import (
	"errors"
	"strconv"
	"strings"
)

// Traces configures which calls have distributed traces. otlp says where those go.
type Traces struct {
	// Which part of the calls is sampled, from 0 to 1. A call from a trusted proxy,
	// or with a client certificate, that has a traceparent is sampled if the caller
	// has sampled it.
	Ratio Ratio `key:"ratio"`

	// Export the span of each call that ended with an error of a server, too,
	// without the backend's spans.
	Errors bool `key:"errors"`

	// Tell the backend of each call that isn't sampled, too, so that it doesn't
	// sample it by itself, for about a tenth more CPU time. With false, it learns of
	// calls that have a traceparent already, and of all with errors.
	TellUnsampled bool `key:"tell_unsampled"`

	// Export a second span for each sampled call: the call to the backend, of kind
	// CLIENT.
	UpstreamSpan bool `key:"upstream_span"`

	// Names of members of the metadata baggage that cross while there are traces.
	Baggage []string `key:"baggage" is:"baggage name"`
}

// Ratio is a part of calls, from 0 to 1.
type Ratio float64

// String writes it as short as possible.
func (r Ratio) String() string { return strconv.FormatFloat(float64(r), 'f', -1, 64) }

const ratioPattern = `^(0*1(\.0*)?|0*\.[0-9]+|0+(\.[0-9]*)?)$`

func parseRatio(s string) (any, error) {
	n, err := strconv.ParseFloat(s, 64)
	switch {
	case err == nil && !(n >= 0 && n <= 1):
		return nil, errors.New("is not from 0 to 1: write 0.01 for one call in a hundred")
	case err != nil || strings.Trim(s, "0123456789.") != "":
		return nil, errors.New("is not a ratio: write a number from 0 to 1, such as 0.01")
	}
	return Ratio(n), nil
}

// checkBaggageName accepts a token of HTTP. https://www.w3.org/TR/baggage/#key
func checkBaggageName(s string) error {
	if strings.ContainsFunc(s, notInToken) {
		return errors.New("is not the name of a member of a baggage: write one such as tenant.id")
	}
	if s == "" {
		return errors.New("is empty: write the name of a member of the baggage, such as tenant.id")
	}
	return nil
}
