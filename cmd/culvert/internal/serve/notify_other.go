//go:build !linux

package serve

// reloadingState returns the state for systemd, which exists only on Linux.
func reloadingState() string { return "RELOADING=1" }
