package bridge

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// clientCert signs a certificate of a client with the names.
func clientCert(t testing.TB, ca *parts.Authority, commonName string, dns []string, uris ...string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: commonName}, DNSNames: dns, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	return ca.Sign(t, template)
}

// TestClientCertificateIsForwardedByKey: in the log always; to the backend by
// key; and what a client says of its certificate never, also inside a tunnel.
func TestClientCertificateIsForwardedByKey(t *testing.T) {
	backend, seen := seenBy(t)
	ca := parts.NewAuthority(t)
	cert := clientCert(t, ca, "orders", nil, "spiffe://example.org/orders")
	own := gate.NamesOf(&tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert.Leaf}}}).Forwarded()
	serverTLS := &tls.Config{
		Certificates: []tls.Certificate{ca.Server(t)}, NextProtos: []string{"h2", "http/1.1"}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.Pool,
	}
	anonymous := &tls.Config{RootCAs: ca.Pool}
	named := &tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{cert}}
	forged := http.Header{"X-Forwarded-Client-Cert": {"Hash=00;URI=spiffe://example.org/root"}, "Client-Cert": {":AA==:"}}
	for _, key := range []bool{false, true} {
		obs := newObserver()
		s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs, ForwardClientCert: key})
		trusting := Listener{TLS: serverTLS, TrustedProxies: prefixes(t, "127.0.0.0/8")}
		open := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{TLS: serverTLS})
		behind := serveListener(t, s, listen(t, "127.0.0.1:0"), trusting)
		for _, c := range []struct {
			name, address string
			tls           *tls.Config
			header        http.Header
			client        string
			want          string // with the key
		}{
			{"anonymous", open, anonymous, nil, "", ""},
			{"anonymous, forged", open, anonymous, forged, "", ""},
			{"named", open, named, nil, "spiffe://example.org/orders", own},
			{"named, forged", open, named, forged, "spiffe://example.org/orders", own},
			{"a trusted proxy's client", behind, anonymous, forged, "", forged.Get("X-Forwarded-Client-Cert")},
			{"a trusted proxy with a name", behind, named, forged, "spiffe://example.org/orders", forged.Get("X-Forwarded-Client-Cert") + "," + own},
		} {
			for transport, call := range callers {
				call(t, way{tls: c.tls}, c.address, c.header)
				md, info := await(t, "the call at the backend", seen), await(t, "the call's end", obs.ended)
				want := ""
				if key {
					want = c.want
				}
				if got := strings.Join(md[headers.ClientCert], " | "); got != want || info.Client != c.client {
					t.Errorf("%s over %s, forwarded %v: %q, and the backend sees %q; want %q, %q", c.name, transport, key, info.Client, got, c.client, want)
				}
				if got := md["client-cert"]; len(got) > 0 && c.address == open {
					t.Errorf("%s over %s: the backend sees a client-cert %q", c.name, transport, got)
				}
			}
		}
	}
}

// TestClientCertificateThatNoHeaderCarries: its names are escaped, and the call
// goes on.
func TestClientCertificateThatNoHeaderCarries(t *testing.T) {
	backend, seen := seenBy(t)
	ca := parts.NewAuthority(t)
	serverTLS := &tls.Config{Certificates: []tls.Certificate{ca.Server(t)}, NextProtos: []string{"h2", "http/1.1"}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool}
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs, ForwardClientCert: true})
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{TLS: serverTLS})
	odd := &tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{clientCert(t, ca, "or\x01ders", []string{"a\r\nx: y", "b\x00"})}}
	for transport, call := range callers {
		call(t, way{tls: odd}, address, nil)
		md, info := await(t, "the call at the backend", seen), await(t, "the call's end", obs.ended)
		got := strings.Join(md[headers.ClientCert], " | ")
		if info.Code != codes.OK || !strings.HasSuffix(got, `;Subject="CN=or?ders";DNS="a??x: y";DNS="b?"`) {
			t.Errorf("over %s: %v, and the backend sees %q", transport, info.Status, got)
		}
	}
}

// TestClientCertificateCountsAsMetadata: the names that culvert adds are part of
// what limits.header_bytes bounds. They are sent whole or the call is refused:
// of two SPIFFE IDs one would be an identity.
func TestClientCertificateCountsAsMetadata(t *testing.T) {
	backend, seen := seenBy(t)
	ca := parts.NewAuthority(t)
	serverTLS := &tls.Config{Certificates: []tls.Certificate{ca.Server(t)}, NextProtos: []string{"h2", "http/1.1"}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool}
	many := make([]string, 4000)
	for i := range many {
		many[i] = fmt.Sprintf("orders-%d.of.a.long.name.example.org", i)
	}
	large := &tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{clientCert(t, ca, "orders", many)}}
	for _, key := range []bool{false, true} {
		obs := newObserver()
		s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs, ForwardClientCert: key})
		address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{TLS: serverTLS})
		for transport, call := range callers {
			call(t, way{tls: large}, address, nil)
			info := await(t, "the call's end", obs.ended)
			if !key {
				await(t, "the call at the backend", seen)
				if info.Code != codes.OK {
					t.Errorf("over %s, not forwarded: %v", transport, info.Status)
				}
				continue
			}
			if info.Reason != report.ReasonMetadataTooLarge || !strings.Contains(info.Status.Message(), report.KeyHeaderBytes) || !strings.Contains(info.Status.Message(), headers.ClientCert) {
				t.Errorf("over %s: %v, want %s that names %s and %s", transport, info.Status, report.ReasonMetadataTooLarge, report.KeyHeaderBytes, headers.ClientCert)
			}
		}
		if len(seen) > 0 {
			t.Error("a refused call reached the backend")
		}
	}
}
