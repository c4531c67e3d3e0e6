package sockets

import "testing"

// TestUnixPath: only an absolute path is a unix socket's. A host may be called unix.
func TestUnixPath(t *testing.T) {
	for address, want := range map[string]string{"unix:/run/culvert.sock": "/run/culvert.sock", "unix:9901": "", "unix:": "", "/run/culvert.sock": "", "localhost:9901": ""} {
		if path, ok := unixPath(address); ok != (want != "") || ok && path != want {
			t.Errorf("%s: %q, %v; want %q", address, path, ok, want)
		}
	}
}
