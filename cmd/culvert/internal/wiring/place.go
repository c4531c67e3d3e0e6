package wiring

import (
	"errors"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/config"
)

// A RestartError lists the keys of a new configuration that culvert can't change
// while it runs.
type RestartError struct {
	Keys []string // with the numbers of entries
	err  error    // a line for each, with its place in the file
}

// Error implements error.
func (e *RestartError) Error() string { return e.err.Error() }

// NeedRestart returns a RestartError about keys of a configuration.
func NeedRestart(next *config.Loaded, keys []string) error { return needRestart(nil, next, keys) }

// needRestart is NeedRestart with the configuration of the start, which bounds
// limits.header_bytes.
func needRestart(start, next *config.Loaded, keys []string) error {
	var lines []error
	for _, key := range keys {
		if key == report.KeyHeaderBytes && start != nil {
			lines = append(lines, next.Errorf(key, "can't be raised above %v, the value at the start, without a restart of culvert", start.Limits.HeaderBytes))
			continue
		}
		lines = append(lines, next.Errorf(key, "a change needs a restart of culvert"))
	}
	return &RestartError{keys, errors.Join(lines...)}
}

// PlacedEach returns err with place applied to each of the errors that it joins.
func PlacedEach(err error, place func(error) error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return place(err)
	}
	var errs []error
	for _, one := range joined.Unwrap() {
		errs = append(errs, PlacedEach(one, place))
	}
	return errors.Join(errs...)
}

// A BackendPlace is the section of a backend in a configuration.
type BackendPlace struct {
	Config  *config.Loaded
	Section string
}

// Placed adds the place of a key of the section, such as descriptors, to an error about it.
func (p BackendPlace) Placed(key string, err error) error {
	return p.Config.Errorf(p.Section+"."+key, "%w", err)
}
