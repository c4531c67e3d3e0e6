//go:build !linux

package main

// reloadingState is what systemd is told, which is on Linux alone.
func reloadingState() string { return "RELOADING=1" }
