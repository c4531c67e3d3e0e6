//go:build ulid

package main

// instanceUID is the id of releases up to v0.14.0.
func instanceUID(id []byte) string { return string(id) }
