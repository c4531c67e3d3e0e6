package webhook_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts/authority"
	"github.com/culvert-grpc/culvert/kubernetes/inject"
	"github.com/culvert-grpc/culvert/kubernetes/webhook"
)

// leaf makes a certificate for 127.0.0.1 and for clients.
func leaf(t testing.TB, a *authority.Authority) tls.Certificate {
	t.Helper()
	return a.Sign(t, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// write writes a leaf's certificate and key, and returns the files' names.
func write(t testing.TB, dir string, c tls.Certificate) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if err := authority.Write(c, cert, key); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// A logBuffer is the log of a server.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	line chan string // each line, while there is room
}

func newLogBuffer() *logBuffer { return &logBuffer{line: make(chan string, 1000)} }

func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.line <- string(line):
	default:
	}
	return b.text.Write(line)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// await waits for a line with the text.
func (b *logBuffer) await(t testing.TB, text string) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case line := <-b.line:
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			t.Fatalf("no line with %q in the log", text)
		}
	}
}

// A running is a server that runs until stop.
type running struct {
	*webhook.Server
	log    *logBuffer
	client *http.Client
	stop   func()       // begins the end
	wait   func() error // waits for it
}

func testConfig() *inject.Config {
	c := inject.DefaultConfig()
	c.Image = "culvert:test"
	return &c
}

// serve runs a server whose certificate the client of the result trusts.
func serve(t testing.TB, change func(*webhook.Options, *tls.Config)) *running {
	t.Helper()
	a := authority.New(t)
	cert := leaf(t, a)
	r := &running{log: newLogBuffer()}
	o := webhook.Options{
		Listen: "127.0.0.1:0", HealthListen: "127.0.0.1:0", Config: testConfig(),
		Certificate: func() (*tls.Certificate, error) { return &cert, nil },
		Log:         slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Version:     "v1.2.3",
	}
	config := &tls.Config{RootCAs: a.Pool, MinVersion: tls.VersionTLS12}
	if change != nil {
		change(&o, config)
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	r.client = &http.Client{Transport: transport}
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	if r.Server, err = webhook.Listen(ctx, o); err != nil {
		t.Fatal(err)
	}
	r.stop = cancel
	ended := make(chan struct{})
	var result error
	go func() {
		defer close(ended)
		result = r.Run(ctx)
	}()
	r.wait = func() error {
		<-ended
		return result
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		<-ended
	})
	return r
}

// post sends a body to a path, and returns the answer.
func (r *running) post(t testing.TB, path, contentType string, body io.Reader) (status int, answer string) {
	t.Helper()
	response, err := r.client.Post("https://"+r.Addr().String()+path, contentType, body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, readAll(t, response)
}

// get asks the health listener.
func (r *running) get(t testing.TB, path string) (status int, answer string) {
	t.Helper()
	response, err := r.client.Get("http://" + r.HealthAddr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, readAll(t, response)
}

func readAll(t testing.TB, response *http.Response) string {
	t.Helper()
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
