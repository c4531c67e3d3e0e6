package cors

import (
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/client/internal/network"
)

func target(t *testing.T, s string) network.Target {
	t.Helper()
	to, err := network.ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestMixedContent(t *testing.T) {
	for edge, want := range map[string]bool{"http://edge.example.com": true, "https://edge.example.com": false, "http://localhost:8080": false, "http://127.0.0.1": false} {
		p, err := New("https://app.example.com", target(t, edge), false)
		if err != nil || p.Mixed != want {
			t.Errorf("%s: %+v, %v, want %v", edge, p, err, want)
		}
	}
}

func TestOrigins(t *testing.T) {
	for origin, want := range map[string]string{
		"https://app.example.com": "https://app.example.com", "http://localhost:5173": "http://localhost:5173", "null": "null",
		"HTTPS://app.example.com:443": "https://app.example.com",
		"app.example.com":             "", "https://app.example.com/": "", "https://app.example.com/app": "", "https://app.example.com#a": "", "https://app.example.com?a": "",
		"https://a:secret@app.example.com": "", "ftp://a": "", "wss://a": "", "https://": "", "https:app.example.com/": "",
	} {
		p, err := New(origin, target(t, "http://edge"), false)
		if (err == nil) != (want != "") || err == nil && p.Origin != want || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %+v, %v", origin, p, err)
		}
	}
}

func TestSameOrigin(t *testing.T) {
	for origin, want := range map[string]bool{
		"https://edge.example.com": true, "https://EDGE.example.com:443": true,
		"http://edge.example.com": false, "https://edge.example.com:8443": false, "https://example.com": false, "null": false,
	} {
		if p, err := New(origin, target(t, "https://edge.example.com/grpc"), false); err != nil || p.SameOrigin != want {
			t.Errorf("%s: %+v, %v, want %v", origin, p, err, want)
		}
	}
}
