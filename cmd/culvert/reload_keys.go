package main

import (
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/config"
)

// fixedKeys are the keys and sections that the program takes at its start only. The
// bridge refuses others by itself (bridge.RestartError), but those of a listener only
// once it is served.
var fixedKeys = []string{
	"listen", // the number of its entries
	"listen[].address", "listen[].mode", "listen[].name", "listen[].tls.enabled", "listen[].tls.self_signed",
	"listen[].limits.calls_per_connection", "listen[].proxy_protocol", "proxy_protocol",
	"tls.self_signed", "tls.self_signed_names", "tls.http_listen", "tls.http_target", "tls.acme",
	"limits.memory",
	"health.listen",
	"health.metrics",
	"admin.listen",
	"log.format",
}

// restartKeys returns those of the changed keys that need a restart.
func restartKeys(changed []string) []string {
	var keys []string
	for _, name := range changed {
		if slices.ContainsFunc(fixedKeys, func(fixed string) bool { return isKey(fixed, name) }) {
			keys = append(keys, name)
		}
	}
	return keys
}

var entryNumber = regexp.MustCompile(`\[[0-9]+\]`)

// isKey reports whether the name is that of a key or of a key in a section. The
// name may have numbers of entries.
func isKey(key, name string) bool {
	name = entryNumber.ReplaceAllString(name, "[]")
	return name == key || strings.HasPrefix(name, key+".")
}

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

// withPlaces adds the places of the keys to a RestartError of the bridge.
func withPlaces(err error, running, next *config.Loaded) error {
	var restart *bridge.RestartError
	if !errors.As(err, &restart) {
		return err
	}
	changed := config.Changed(running, next)
	var keys []string
	for _, key := range restart.Keys {
		found := false
		for _, name := range changed {
			if isKey(key, name) {
				keys, found = append(keys, name), true
			}
		}
		if !found { // the bridge derives it from other keys
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, cmp.Compare)
	return needRestart(next, slices.Compact(keys))
}
