package main

import (
	"errors"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/config"
)

// A restartError lists the keys of a new configuration that culvert can't change
// while it runs.
type restartError struct {
	keys []string // with the numbers of entries
	err  error    // a line for each, with its place in the file
}

func (e *restartError) Error() string { return e.err.Error() }

func needRestart(next *config.Loaded, keys []string) *restartError {
	e := &restartError{keys: keys}
	var lines []error
	for _, key := range keys {
		lines = append(lines, next.Errorf(key, "a change needs a restart of culvert"))
	}
	e.err = errors.Join(lines...)
	return e
}

// withPlaces adds the places of the keys to a RestartError of the bridge. Usually
// config.NeedsRestart has found them before.
func withPlaces(err error, next *config.Loaded) error {
	if restart, ok := errors.AsType[*bridge.RestartError](err); ok {
		return needRestart(next, restart.Keys)
	}
	return err
}
