package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestCallsThatFailAreErrors: no client takes a failed or cut call for one that went well.
func TestCallsThatFailAreErrors(t *testing.T) {
	web, unary, streamed := newWebClient, newConnectClient("proto"), newConnectStreamClient
	const message = "\x00\x00\x00\x00\x02hi"
	for _, c := range []struct {
		name, contentType, body string
		status                  int
		dial                    func(*peer) client
		ok                      bool
	}{
		{"gRPC-Web", "application/grpc-web+proto", message + "\x80\x00\x00\x00\x10grpc-status: 0\r\n", 200, web, true},
		{"gRPC-Web, an error", "application/grpc-web+proto", message + "\x80\x00\x00\x00\x10grpc-status: 8\r\n", 200, web, false},
		{"gRPC-Web, cut", "application/grpc-web+proto", message, 200, web, false},
		{"Connect unary", "application/proto", "hi", 200, unary, true},
		{"Connect unary, an error", "application/json", `{"code":"internal"}`, 500, unary, false},
		{"Connect unary, a page", "text/html", "hi", 200, unary, false},
		{"Connect stream", "application/connect+proto", message + "\x02\x00\x00\x00\x02{}", 200, streamed, true},
		{"Connect stream, an error", "application/connect+proto", message + "\x02\x00\x00\x00\x1d" + `{"error":{"code":"internal"}}`, 200, streamed, false},
		{"Connect stream, cut", "application/connect+proto", message, 200, streamed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.contentType)
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body) // to a client that may be gone
			}))
			defer s.Close()
			client := c.dial(&peer{address: strings.TrimPrefix(s.URL, "http://")})
			defer client.close()
			err := (&load{client: client}).call(t.Context(), 0, []byte("hello"))
			if (err == nil) != c.ok || errors.Is(err, io.EOF) {
				t.Errorf("the call ended with %v", err)
			}
		})
	}
}
