package bridge

import (
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestMisdirectedRequests: a connection that was made for one name carries no
// request for another whose clients have to show more, over any protocol and in
// no other spelling.
func TestMisdirectedRequests(t *testing.T) {
	backend, _ := seenBy(t)
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs})
	ca := parts.NewAuthority(t)
	var asked [][2]string
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{
		TLS: &tls.Config{Certificates: []tls.Certificate{ca.Server(t, "open.example", "also-open.example", "closed.example")}, NextProtos: []string{"h2", "http/1.1"}},
		SamePolicy: func(sni string, local net.Addr, host string) bool {
			if local == nil || !strings.HasPrefix(local.String(), "127.0.0.1:") {
				t.Errorf("asked with the local address %v", local)
			}
			asked = append(asked, [2]string{sni, host})
			return (sni == "closed.example") == (host == "closed.example")
		},
	})
	for _, c := range []struct {
		sni, host string
		want      int
	}{
		{"open.example", "open.example", http.StatusNotFound},
		{"open.example", "open.example:8443", http.StatusNotFound},
		{"open.example", "also-open.example", http.StatusNotFound},
		{"open.example", "closed.example", http.StatusMisdirectedRequest},
		{"open.example", "closed.example:8443", http.StatusMisdirectedRequest},
		{"closed.example", "closed.example", http.StatusNotFound},
		{"closed.example", "open.example", http.StatusMisdirectedRequest},
		{"", "closed.example", http.StatusMisdirectedRequest},
		{"", "open.example", http.StatusNotFound},
		{"open.example", "closed.example.", http.StatusMisdirectedRequest},
		{"open.example", "closed.example.:8443", http.StatusMisdirectedRequest},
		{"closed.example", "closed.example.", http.StatusNotFound},
		{"open.example", "closed.example..", http.StatusBadRequest},
		{"open.example", "closed.example:8443:443", http.StatusBadRequest},
		{"open.example", "closed%2Eexample", http.StatusBadRequest},
		{"open.example", "open.example,closed.example", http.StatusBadRequest},
		{"open.example", "open.example..", http.StatusBadRequest},
	} {
		for _, protocols := range []string{"h2", "http/1.1"} {
			transport := &http.Transport{
				DialTLSContext:    way{tls: &tls.Config{RootCAs: ca.Pool, ServerName: c.sni, NextProtos: []string{protocols}, InsecureSkipVerify: c.sni == ""}}.dialTLS(address),
				ForceAttemptHTTP2: protocols == "h2",
			}
			for _, header := range []http.Header{
				{},
				{"Content-Type": {"application/grpc"}},
				{"Origin": {"https://evil.example"}, "Access-Control-Request-Method": {"POST"}},
			} {
				method, path := http.MethodGet, "/"
				if header.Get("Content-Type") != "" && c.want != http.StatusNotFound {
					method, path = http.MethodPost, testMethod
				}
				if header.Get("Origin") != "" && c.want != http.StatusNotFound {
					method = http.MethodOptions
				}
				r, err := http.NewRequestWithContext(within(t, patience), method, "https://culvert.example"+path, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				r.Host, r.Header = c.host, header
				res, err := transport.RoundTrip(r)
				if err != nil {
					t.Errorf("%q for %q over %s: %v", c.sni, c.host, protocols, err)
					continue
				}
				_ = res.Body.Close()
				if res.StatusCode != c.want || res.ProtoMajor != map[string]int{"h2": 2, "http/1.1": 1}[protocols] {
					t.Errorf("%s on a connection for %q to %q over %s is answered %d over %s, want %d", method, c.sni, c.host, protocols, res.StatusCode, res.Proto, c.want)
				}
				if c.want == http.StatusMisdirectedRequest {
					if refused := await(t, "the refusal", obs.refused); refused.Key != report.KeyCertificates || refused.Detail != c.host {
						t.Errorf("the Observer is told of %+v", refused)
					}
				}
			}
			transport.CloseIdleConnections()
		}
	}
	if slices.ContainsFunc(asked, func(q [2]string) bool { return q[0] == q[1] || strings.Contains(q[1], ":") }) {
		t.Errorf("asked for %v: want names that differ, without ports", asked)
	}
}
