package upstream

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestCausesOfUnreachableBackends calls real servers that a backend's address
// may name by mistake. The log says what is wrong and what to try; the client
// learns no address.
func TestCausesOfUnreachableBackends(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
	web := httptest.NewServer(page)
	t.Cleanup(web.Close)
	webTLS := httptest.NewUnstartedServer(page)
	webTLS.Config.ErrorLog = log.New(io.Discard, "", 0)
	webTLS.StartTLS()
	t.Cleanup(webTLS.Close)
	withoutALPN := httptest.NewUnstartedServer(page)
	withoutALPN.Listener = tls.NewListener(withoutALPN.Listener, &tls.Config{Certificates: webTLS.TLS.Certificates, MinVersion: tls.VersionTLS12})
	withoutALPN.Start()
	t.Cleanup(withoutALPN.Close)
	plain, overTLS, nobody := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	serveBackend(t, plain, echo)
	serveBackend(t, overTLS, echo, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: webTLS.TLS.Certificates, MinVersion: tls.VersionTLS12})))
	_ = nobody.Close() // its port is free
	closing := listen(t, "127.0.0.1:0")
	closed := make(chan struct{})
	go func() { // ends with the listener
		defer close(closed)
		for {
			c, err := closing.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1)) // so that the greeting is under way
			_ = c.Close()                  // without a word
		}
	}()
	t.Cleanup(func() { _ = closing.Close(); <-closed })

	trusting := &tls.Config{InsecureSkipVerify: true} // who it is doesn't matter here
	for name, c := range map[string]struct {
		to     net.Addr
		tls    *tls.Config
		reason report.Reason
		cause  []string
	}{
		"nobody listens":                            {nobody.Addr(), nil, report.ReasonUpstreamUnreachable, []string{"dial tcp " + nobody.Addr().String() + ": connect: connection refused"}},
		"TLS called in plaintext":                   {overTLS.Addr(), nil, report.ReasonUpstreamUnreachable, []string{"answer", "need TLS", "--backend-tls"}},
		"closed without a word":                     {closing.Addr(), nil, report.ReasonUpstreamUnreachable, []string{"answer", "need TLS", "--backend-tls"}},
		"plaintext called over TLS":                 {plain.Addr(), trusting, report.ReasonUpstreamUnreachable, []string{"first record does not look like a TLS handshake", "plain", "--backend-tls"}},
		"a web server":                              {web.Listener.Addr(), nil, report.ReasonUpstreamNotGRPC, []string{"no HTTP/2", `"HTTP/1.1 `, "gRPC server", "need TLS", "--backend-tls"}},
		"a web server over TLS":                     {webTLS.Listener.Addr(), trusting, report.ReasonUpstreamNotGRPC, []string{"no HTTP/2", "gRPC server"}},
		"a web server over TLS without ALPN":        {withoutALPN.Listener.Addr(), trusting, report.ReasonUpstreamNotGRPC, []string{"no HTTP/2", "missing selected ALPN property", "gRPC server"}},
		"a web server over TLS called in plaintext": {webTLS.Listener.Addr(), nil, report.ReasonUpstreamUnreachable, []string{"need TLS", "--backend-tls"}},
		"an unknown certificate":                    {overTLS.Addr(), &tls.Config{ServerName: "example.com", MinVersion: tls.VersionTLS12}, report.ReasonUpstreamUnreachable, []string{"x509: "}},
	} {
		t.Run(name, func(t *testing.T) {
			u := upstreamTo(t, report.Backend{Target: c.to.String(), TLS: c.tls})
			e := callUpstream(within(t, patience), t, u, nil)
			if e.reason != c.reason || e.status.Code() != codes.Unavailable {
				t.Errorf("got %v with %s, want UNAVAILABLE with %s", e.status, e.reason, c.reason)
			}
			for _, part := range c.cause {
				if !strings.Contains(e.cause, part) {
					t.Errorf("the cause is %q, want %q in it", e.cause, part)
				}
			}
			for _, wrapping := range []string{"rpc error", "desc =", "balancer", "server preface", "transport: "} {
				if strings.Contains(e.cause, wrapping) {
					t.Errorf("the cause is %q, want it without %q", e.cause, wrapping)
				}
			}
			if strings.Contains(e.status.Message(), c.to.String()) || strings.Contains(e.status.Message(), "HTTP/1.1") {
				t.Errorf("the client is told %q", e.status.Message())
			}
			if !strings.Contains(e.status.Message(), "call id id") {
				t.Errorf("the client is told %q, want the call's id in it", e.status.Message())
			}
		})
	}
}
