package bridge

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// TestWhichTransport: the content type in any case, alone, with a subtype or
// with parameters, and no other that begins the same.
func TestWhichTransport(t *testing.T) {
	const upgrade = "Upgrade"
	socket := func(subprotocols ...string) http.Header {
		return http.Header{"Connection": {"keep-alive, " + upgrade}, "Upgrade": {"WebSocket"}, "Sec-Websocket-Protocol": subprotocols}
	}
	post := func(contentType string) http.Header { return http.Header{"Content-Type": {contentType}} }
	without := func(h http.Header, name string) http.Header {
		h.Del(name)
		return h
	}
	for _, c := range []struct {
		method string
		major  int
		header http.Header
		want   string
	}{
		{http.MethodPost, 2, post("application/grpc"), "grpc"},
		{http.MethodPost, 2, post("application/grpc+proto"), "grpc"},
		{http.MethodPost, 2, post("application/grpc;charset=utf-8"), "grpc"},
		{http.MethodPost, 2, post("Application/GRPC+Proto ; a=b"), "grpc"},
		{http.MethodPost, 1, post("application/grpc"), "grpc"}, // which refuses it
		{http.MethodPost, 1, post("application/grpc-web"), "grpc-web"},
		{http.MethodPost, 2, post("application/grpc-web+json"), "grpc-web"},
		{http.MethodPost, 1, post("application/grpc-web-text"), "grpc-web-text"},
		{http.MethodPost, 1, post("application/grpc-web-text+proto"), "grpc-web-text"},
		{http.MethodPost, 1, post("application/grpc-webx"), ""},
		{http.MethodPost, 1, post("application/grpc-web-texts"), ""},
		{http.MethodPost, 1, post("application/grpcx"), ""},
		{http.MethodPost, 1, post("application/json"), "connect"},
		{http.MethodPost, 1, post("Application/Proto; charset=utf-8"), "connect"},
		{http.MethodPost, 2, post("application/connect+proto"), "connect"},
		{http.MethodPost, 2, post("application/connect+xml"), "connect"}, // which refuses it
		{http.MethodPost, 2, post("application/connect"), ""},
		{http.MethodPost, 1, post("application/protobuf"), ""},
		{http.MethodPost, 1, post("application/json+x"), ""},
		{http.MethodGet, 2, post("application/json"), ""},
		{http.MethodPut, 2, post("application/proto"), ""},
		{http.MethodPost, 1, post(""), ""},
		{http.MethodPost, 1, nil, ""},
		{http.MethodGet, 2, post("application/grpc"), ""},
		{http.MethodPut, 2, post("application/grpc-web"), ""},
		{http.MethodGet, 1, socket("grpc-websockets"), "grpc-websockets"},
		{http.MethodGet, 1, socket("GRPC-WebSockets"), "grpc-websockets"},
		{http.MethodGet, 1, socket("chat, grpc-websockets , soap"), "grpc-websockets"},
		{http.MethodGet, 1, socket("chat", "grpc-websockets"), "grpc-websockets"},
		{http.MethodGet, 1, socket("h2ts"), "h2ts"},
		{http.MethodGet, 1, socket("h2ts, grpc-websockets"), "h2ts"},
		{http.MethodGet, 1, socket("grpc-websocket"), ""},
		{http.MethodGet, 1, socket(), ""},
		{http.MethodGet, 2, socket("h2ts"), ""}, // no upgrade there
		{http.MethodPost, 1, socket("h2ts"), ""},
		{http.MethodGet, 1, without(socket("h2ts"), "Upgrade"), ""},
		{http.MethodGet, 1, without(socket("h2ts"), "Connection"), ""},
	} {
		r := &http.Request{Method: c.method, ProtoMajor: c.major, ProtoMinor: 2 - c.major, Header: c.header, URL: &url.URL{Path: testMethod}}
		got := ""
		if tr := transportFor(r); tr != nil {
			got = tr.name
		}
		if got != c.want {
			t.Errorf("%s of HTTP/%d with %v goes to %q, want %q", c.method, c.major, c.header, got, c.want)
		}
	}
}

func TestNoUpgradeOverHTTP10(t *testing.T) {
	r := &http.Request{Method: http.MethodGet, ProtoMajor: 1, Header: http.Header{"Connection": {"upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Protocol": {"h2ts"}}, URL: &url.URL{Path: testMethod}}
	if tr := transportFor(r); tr != nil {
		t.Errorf("it goes to %q", tr.name)
	}
}

func TestTransportsHaveTheirNames(t *testing.T) {
	got := Transports()
	slices.Sort(got)
	if want := "connect grpc grpc-web grpc-web-text grpc-websockets h2ts message"; strings.Join(got, " ") != want || !slices.Equal(got, rules.Transports) {
		t.Errorf("got %q, want %q, as rules has them: %q", got, want, rules.Transports)
	}
}
