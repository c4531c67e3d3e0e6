package webhook_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts/authority"
	"github.com/culvert-grpc/culvert/kubernetes/webhook"
)

type tlsConfig = tls.Config

// TestDrain keeps asking while the server ends. Only after it has closed may a
// request fail.
func TestDrain(t *testing.T) {
	server := serve(t, func(o *webhook.Options, _ *tlsConfig) { o.DrainDelay = 500 * time.Millisecond })
	if status, answer := server.get(t, "/readyz"); status != http.StatusOK || answer != "ok\n" {
		t.Fatalf("before the end: %d %q", status, answer)
	}
	server.stop()
	server.log.await(t, `"draining"`)
	if status, answer := server.get(t, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(answer, "draining") {
		t.Errorf("/readyz while it drains: %d %q", status, answer)
	}
	if status, _ := server.get(t, "/livez"); status != http.StatusOK {
		t.Errorf("/livez while it drains: %d", status)
	}
	server.client.CloseIdleConnections() // the next request opens a connection
	if status, answer := server.post(t, webhook.PodPath, "application/json", strings.NewReader(creation(orders))); status != http.StatusOK {
		t.Errorf("a review while it drains: %d %q", status, answer)
	}
	if err := server.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := net.Dial("tcp", server.Addr().String()); err == nil {
		t.Error("it still listens after its end")
	}
}

// TestDrainWaitsForRequests ends the server while a request is under way.
func TestDrainWaitsForRequests(t *testing.T) {
	server := serve(t, nil)
	conn, err := tls.Dial("tcp", server.Addr().String(), server.client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := creation(orders)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: culvert\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", webhook.PodPath, len(body))
	answer := bufio.NewReader(conn)
	if line, err := answer.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	server.stop()
	server.log.await(t, `"draining"`)
	fmt.Fprint(conn, body)
	for {
		line, err := answer.ReadString('\n')
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		if strings.HasPrefix(line, "HTTP/1.1 200") {
			break
		}
	}
	if err := server.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestSlowBody is cut off by the time-out of requests.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	conn, err := tls.Dial("tcp", server.Addr().String(), server.client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: culvert\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", webhook.PodPath)
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "408") {
		t.Errorf("%q, %v, want 408", line, err)
	}
}

// TestSilentLargeBodies has clients that begin large bodies, more than there is memory
// for, and send no more. Other reviews don't wait for them.
func TestSilentLargeBodies(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	var silent []*tls.Conn
	began := time.Now()
	for range 3 {
		conn, err := tls.Dial("tcp", server.Addr().String(), server.client.Transport.(*http.Transport).TLSClientConfig)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		const chunk = 64 << 10
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: culvert\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n",
			webhook.PodPath, chunk, strings.Repeat(" ", chunk))
		silent = append(silent, conn)
	}
	if status, answer := server.post(t, webhook.PodPath, "application/json", strings.NewReader(creation(orders))); status != http.StatusOK || time.Since(began) > 4*time.Second {
		t.Errorf("%d %s after %v", status, answer, time.Since(began))
	}
	for _, conn := range silent {
		if err := conn.SetReadDeadline(began.Add(9 * time.Second)); err != nil { // other bodies have 10 s
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(line, "408") {
			t.Errorf("%q, %v, want 408", line, err)
		}
	}
}

// before is less than the 5 s after which the server closes silent connections by itself.
const before = 4 * time.Second

// TestSilentConnections has more clients than the server takes connections, and none of
// them says anything.
func TestSilentConnections(t *testing.T) {
	server := serve(t, nil)
	began := time.Now()
	var first net.Conn
	for range 900 {
		conn, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if first == nil {
			first = conn
		}
	}
	if status, answer := server.post(t, webhook.PodPath, "application/json", strings.NewReader(creation(orders))); status != http.StatusOK {
		t.Errorf("%d %s", status, answer)
	}
	if err := first.SetReadDeadline(began.Add(before)); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest connection isn't closed: %v", err)
	}
}

func TestCertificatesOfTheAPIServer(t *testing.T) {
	a := authority.New(t)
	var client *tlsConfig
	server := serve(t, func(o *webhook.Options, c *tlsConfig) {
		o.ClientCA = func() (*x509.CertPool, error) { return a.Pool, nil }
		client = c
	})
	ask := func() error {
		transport := &http.Transport{TLSClientConfig: client}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport}).Post("https://"+server.Addr().String()+webhook.PodPath, "application/json", strings.NewReader(creation(orders)))
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	if err := ask(); err == nil {
		t.Error("a client without a certificate is served")
	}
	client.Certificates = []tls.Certificate{leaf(t, authority.New(t))}
	if err := ask(); err == nil {
		t.Error("a client with somebody else's certificate is served")
	}
	client.Certificates = []tls.Certificate{leaf(t, a)}
	if err := ask(); err != nil {
		t.Errorf("the API server: %v", err)
	}
}

func TestNotReadyWithoutCertificate(t *testing.T) {
	server := serve(t, func(o *webhook.Options, _ *tlsConfig) {
		o.Certificate = func() (*tls.Certificate, error) { return nil, errors.New("there is none yet") }
	})
	if status, answer := server.get(t, "/readyz"); status != http.StatusServiceUnavailable || answer != "there is none yet\n" {
		t.Errorf("%d %q", status, answer)
	}
	if _, err := server.client.Post("https://"+server.Addr().String()+webhook.PodPath, "application/json", nil); err == nil {
		t.Error("a request without a certificate succeeds")
	}
}

func TestMetrics(t *testing.T) {
	server := serve(t, nil)
	refused := strings.Replace(orders, `"grpc"`, `"http"`, 1)
	for _, body := range []string{creation(orders), creation(orders), creation(refused), "{"} {
		server.post(t, webhook.PodPath, "application/json", strings.NewReader(body))
	}
	_, page := server.get(t, "/metrics")
	for _, want := range []string{
		`culvert_injector_reviews_total{result="injected"} 2`,
		`culvert_injector_reviews_total{result="refused"} 1`,
		`culvert_injector_reviews_total{result="malformed"} 1`,
		`culvert_injector_reviews_total{result="skipped"} 0`,
		`culvert_injector_review_seconds_count 4`,
		`culvert_injector_build_info{version="v1.2.3"} 1`,
		`culvert_injector_certificate_not_after_timestamp_seconds 1.`,
		`go_goroutines `,
	} {
		if !strings.Contains(page, "\n"+want) {
			t.Errorf("no line %q on\n%s", want, page)
		}
	}
}

func TestTakenAddresses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for flag, o := range map[string]webhook.Options{
		"--listen":        {Listen: taken.Addr().String(), HealthListen: "127.0.0.1:0"},
		"--health-listen": {Listen: "127.0.0.1:0", HealthListen: taken.Addr().String()},
	} {
		o.Log = slog.New(slog.DiscardHandler)
		if _, err := webhook.Listen(context.Background(), o); err == nil || !strings.Contains(err.Error(), flag+": ") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// TestFilesAreLoadedAgain replaces a certificate, with a moment at which it doesn't
// fit its key.
func TestFilesAreLoadedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, a, log := t.TempDir(), authority.New(t), newLogBuffer()
		logger := slog.New(slog.NewTextHandler(log, nil))
		first, second := leaf(t, a), leaf(t, a)
		cert, key := write(t, dir, first)
		current, err := webhook.CertificateFiles(cert, key, logger)
		if err != nil {
			t.Fatal(err)
		}
		inUse := func(want tls.Certificate) {
			t.Helper()
			got, err := current()
			if err != nil || !got.Leaf.Equal(want.Leaf) {
				t.Errorf("in use is %v (%v), want %v", got.Leaf.SerialNumber, err, want.Leaf.SerialNumber)
			}
		}
		inUse(first)
		newCert, _ := write(t, t.TempDir(), second)
		if err := os.Rename(newCert, cert); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		inUse(first)
		inUse(first)
		if got := strings.Count(log.String(), "stays in use"); got != 1 {
			t.Errorf("the fault was reported %d times:\n%s", got, log)
		}
		write(t, dir, second)
		inUse(second) // after a fault it looks at once
		if !strings.Contains(log.String(), "right again") {
			t.Errorf("the log doesn't say that it is right again:\n%s", log)
		}
		if strings.Contains(log.String(), "PRIVATE") {
			t.Errorf("a key is in the log:\n%s", log)
		}
	})
}

func TestFilesAtTheStart(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	cert, key := write(t, dir, leaf(t, authority.New(t)))
	if _, err := webhook.CertificateFiles(cert, cert, log); err == nil || !strings.Contains(err.Error(), cert+" and "+cert) {
		t.Errorf("no key: %v", err)
	}
	if _, err := webhook.CertificateFiles(filepath.Join(dir, "none"), key, log); err == nil {
		t.Error("no certificate, and no error")
	}
	if _, err := webhook.AuthorityFile(key, log); err == nil || !strings.Contains(err.Error(), "no certificate (PEM) in it") {
		t.Errorf("no CA: %v", err)
	}
	if pool, err := webhook.AuthorityFile(cert, log); err != nil {
		t.Error(err)
	} else if _, err := pool(); err != nil {
		t.Error(err)
	}
}
