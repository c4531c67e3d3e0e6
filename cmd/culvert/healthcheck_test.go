package main

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestHealthcheckPrintsNoRawText: another program may answer at the address.
func TestHealthcheckPrintsNoRawText(t *testing.T) {
	long := strings.Repeat("a\x1b[31mb", 2000)
	many := strings.Repeat("problem\n", 5000)
	for name, answer := range map[string]string{
		"a long line":  "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\nnot ready: " + long,
		"many lines":   "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\nnot ready\n" + many,
		"ready":        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nready\n" + many + long,
		"a status":     "HTTP/1.1 404 \x1b[31mNot" + long[:2000] + "\r\nContent-Length: 0\r\n\r\n",
		"another form": "SSH-2.0-\x1b[31mOpenSSH\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			text, err := askReady(t.Context(), serveText(t, answer))
			if err != nil {
				text += err.Error()
			}
			if strings.ContainsRune(text, '\x1b') || !utf8.ValidString(text) {
				t.Errorf("the terminal gets %q", text)
			}
			if lines := strings.Count(text, "\n"); len(text) > 8000 || lines > 25 {
				t.Errorf("the terminal gets %d bytes in %d lines", len(text), lines)
			}
			if strings.Contains(text, "http://localhost") {
				t.Errorf("the message names an address that isn't the server's: %s", text)
			}
		})
	}
}

// serveText returns the address of a server that answers one request with the
// text.
func serveText(t *testing.T, answer string) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 4096)) // the request
		_, _ = io.WriteString(conn, answer)
		_ = conn.Close()
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return ln.Addr().String()
}
