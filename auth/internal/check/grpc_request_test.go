package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/internal/parts"
)

const wantAttributes = `{"attributes": {
	"source": {"address": {"socketAddress": {"address": "192.0.2.1", "portValue": 4711}}, "principal": "spiffe://shop/cart"},
	"destination": {"address": {"socketAddress": {"address": "2001:db8::1", "portValue": 443}}},
	"request": {
		"time": "2023-11-14T22:13:20.000000005Z",
		"http": {
			"id": "c1", "method": "POST", "path": "/shop.v1.Orders/Get", "host": "shop.example:8443", "scheme": "https",
			"size": "-1", "protocol": "HTTP/2",
			"headers": {
				":authority": "shop.example:8443", ":method": "POST", ":path": "/shop.v1.Orders/Get", ":scheme": "https",
				"content-type": "application/grpc", "te": "trailers",
				"authorization": "Bearer abcdefghijkl.mnopqrstuvwx.yz0123456789",
				"cookie": "a=1; b=2", "x-a": "1,2", "x-b-bin": "AAE,/w"
			}
		}
	},
	"metadataContext": {"filterMetadata": {"culvert": {"route": "orders"}}},
	"tlsSession": {"sni": "shop.example"}
}}`

// received returns what a real service gets for a request.
func received(t *testing.T, g GRPC, o Options, r Request) *authv3.CheckRequest {
	t.Helper()
	got := make(chan *authv3.CheckRequest, 1)
	c := grpcChecker(t, g, o, func(_ context.Context, request *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		got <- request
		return &authv3.CheckResponse{}, nil
	})
	if answer, err := c.Check(t.Context(), r); err != nil || len(answer.Request) > 0 || answer.Open != nil {
		t.Fatalf("an empty response: got %+v, %v; want an empty answer", answer, err)
	}
	return <-got
}

func TestCheckRequestIsThatOfEnvoy(t *testing.T) {
	want := &authv3.CheckRequest{}
	if err := protojson.Unmarshal([]byte(wantAttributes), want); err != nil {
		t.Fatal(err)
	}
	withCookies := aCall()
	withCookies.Metadata["cookie"] = []string{"a=1", "b=2"}
	if got := received(t, GRPC{}, patient(), withCookies); !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", protojson.Format(got), protojson.Format(want))
	}

	o := patient()
	o.Names = []string{"x-a"}
	delete(want.Attributes.Request.Http.Headers, "authorization")
	delete(want.Attributes.Request.Http.Headers, "x-b-bin")
	delete(want.Attributes.Request.Http.Headers, "cookie")
	if got := received(t, GRPC{}, o, aCall()); !proto.Equal(got, want) {
		t.Errorf("with x-a only: got %v\nwant %v", protojson.Format(got), protojson.Format(want))
	}
}

func TestCheckServiceWithAnOwnCA(t *testing.T) {
	certified := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	t.Cleanup(certified.Close)
	own := x509.NewCertPool()
	own.AddCert(certified.Certificate())
	creds := grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS12}))
	c := grpcChecker(t, GRPC{TLS: &tls.Config{RootCAs: own, MinVersion: tls.VersionTLS12}}, patient(), allow, creds)
	if _, err := c.Check(t.Context(), aCall()); err != nil {
		t.Error(err)
	}
	o := patient()
	o.Timeout = time.Second
	c = grpcChecker(t, GRPC{TLS: &tls.Config{MinVersion: tls.VersionTLS12}}, o, allow, creds)
	parts.Poll(t, func() string { // on a slow machine the first handshake takes longer
		_, err := c.Check(t.Context(), aCall())
		if strings.Contains(asRefusal(t, err).Error(), "certificate") {
			return ""
		}
		return fmt.Sprintf("without the CA: got %v", err)
	})
}

func TestCheckRequestOfACallWithoutFacts(t *testing.T) {
	r := Request{Method: "/a.B/C", Authority: "a", Scheme: "http", ID: "c1"}
	got := received(t, GRPC{}, patient(), r).GetAttributes()
	if got.GetSource().GetAddress() != nil || got.GetSource().GetPrincipal() != "" || got.GetTlsSession() != nil || got.GetRequest().GetTime() != nil {
		t.Errorf("got %v", got)
	}
}
