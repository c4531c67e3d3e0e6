package ratelimit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestServiceThatIsGoneAndComesBack: the cause says why nobody answers, and no call waits for
// a service that is known to be gone.
func TestServiceThatIsGoneAndComesBack(t *testing.T) {
	ln := parts.Listen(t, "127.0.0.1:0")
	address := ln.Addr().String()
	stop := serve(t, ln, says(ok))
	o := patient()
	o.Target, o.FailClosed = address, true
	l := closed(t)(New(o))
	stop()
	var err error
	for deadline := time.Now().Add(time.Minute); ; {
		// The first calls may meet the old connection's end, or wait for the next attempt.
		if _, err = l.Check(t.Context(), aCall()); err != nil && strings.HasPrefix(err.Error(), "ShouldRateLimit: Unavailable: ") && strings.Contains(err.Error(), "connection refused") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("got %v", err)
		}
	}
	if r := asRefusal(t, err); r.Kind != Unavailable || r.Message != unavailableText {
		t.Errorf("got %v, %q", r.Kind, r.Message)
	}
	serve(t, parts.Listen(t, address), says(ok))
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err = l.Check(t.Context(), aCall()); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Errorf("the service is back: %v", err)
	}
}

// TestCancelReachesTheService: the end of a client's call ends the question everywhere.
func TestCancelReachesTheService(t *testing.T) {
	asked, ended := make(chan struct{}), make(chan error, 1)
	l := realLimiter(t, patient(), func(ctx context.Context, q *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
		asked <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := l.Check(ctx, aCall())
		result <- err
	}()
	<-asked
	cancel()
	if err := <-result; err != context.Canceled { //nolint:errorlint // the cause itself
		t.Errorf("got %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the service's question goes on")
	}
}

// TestConnectionByTLS to a service whose certificate is known, and to one whose isn't.
func TestConnectionByTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	ln := parts.Listen(t, "127.0.0.1:0")
	serve(t, ln, says(over), grpc.Creds(credentials.NewServerTLSFromCert(&web.TLS.Certificates[0])))
	known := x509.NewCertPool()
	known.AddCert(web.Certificate())
	o := patient()
	o.Target, o.FailClosed, o.TLS = ln.Addr().String(), true, &tls.Config{RootCAs: known}
	if _, err := connected(t, o).Check(t.Context(), aCall()); asRefusal(t, err).Kind != OverLimit {
		t.Errorf("got %v", err)
	}
	o.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	if _, err := connected(t, o).Check(t.Context(), aCall()); asRefusal(t, err).Kind != Unavailable || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("got %v", err)
	}
	o.TLS = nil
	if _, err := connected(t, o).Check(t.Context(), aCall()); asRefusal(t, err).Kind != Unavailable {
		t.Errorf("in plaintext: got %v", err)
	}
}
