//go:build !linux

package main

// readOnly isn't known here.
func readOnly(string) bool { return false }
