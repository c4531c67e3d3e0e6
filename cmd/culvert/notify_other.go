//go:build !linux

package main

// reloadingState returns the state for systemd, which exists only on Linux.
func reloadingState() string { return "RELOADING=1" }
