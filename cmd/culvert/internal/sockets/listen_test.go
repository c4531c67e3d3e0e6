package sockets

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// TestOnlyAbsolutePathsAreSockets: "unix:9901" is a host and a port, as everywhere in the
// configuration.
func TestOnlyAbsolutePathsAreSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	t.Chdir(t.TempDir())
	for address, want := range map[string]string{
		"unix:" + path: path,
		"unix:/s":      "/s",
		"unix:9901":    "",
		"unix:":        "",
		"unix:s":       "",
		"127.0.0.1:0":  "",
		path:           "",
	} {
		if got, ok := unixPath(address); ok != (want != "") || ok && got != want {
			t.Errorf("%q is the path %q: %v, want %q", address, got, ok, want)
		}
	}

	ln, err := Passed(nil).Listen(t.Context(), "health.listen", "unix:9901", 0o600)
	if err == nil { // this host has the name
		if network := ln.Addr().Network(); network != "tcp" {
			t.Errorf("the listener's network is %s", network)
		}
		_ = ln.Close() // the test is over
	}
	if files, err := os.ReadDir("."); err != nil || len(files) > 0 {
		t.Errorf("files in the directory: %v, %v", files, err)
	}

	client := Client("unix:9901")
	conn, err := client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
	if err == nil {
		_ = conn.Close() // the test is over
	} else if op, ok := errors.AsType[*net.OpError](err); !ok || op.Net != "tcp" {
		t.Errorf("the client dials another network than tcp: %v", err)
	}
}
