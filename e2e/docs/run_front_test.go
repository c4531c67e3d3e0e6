package docs

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// culvertFiles are the files of a configuration of culvert's, here.
func culvertFiles(text string) string {
	return strings.NewReplacer("/etc/culvert/tls/fullchain.pem", filepath.Join(worldDir, "cert.pem"),
		"/etc/culvert/tls/privkey.pem", filepath.Join(worldDir, "key.pem")).Replace(text)
}

// podNetwork is the network of a cluster's pods, in the pages.
const podNetwork = "10.244.0.0/16"

// startFronted starts culvert with the configuration that a page shows for the
// one of b: in the same section, or else the last before it.
func startFronted(t *testing.T, b block) (*frontBackend, *process) {
	t.Helper()
	backend := startFrontBackend(t)
	config, found := "", false // in the section of b
	for _, p := range readPages(t) {
		for _, beside := range p.blocks {
			if beside.page != b.page || beside.language != "yaml" || len(beside.options) > 0 || found {
				continue
			}
			found = beside.section == b.section
			if found || beside.line < b.line {
				config = beside.text
			}
		}
	}
	if config == "" {
		t.Fatalf("%s: no configuration of culvert goes with it", b.place())
	}
	return backend, startCulvert(t, "--config", writeFile(t, "proxy.yaml", strings.ReplaceAll(culvertFiles(config), podNetwork, "127.0.0.1")))
}

// The x-forwarded-for that the backend gets behind a proxy that sends a PROXY header,
// and behind one on 127.0.0.1 that sends X-Forwarded-For.
const (
	toldByPROXY     = someClient
	toldByForwarded = someClient + ", 127.0.0.1"
)

// runHAProxy starts HAProxy with the block before culvert, and calls through it.
func runHAProxy(t *testing.T, b block) {
	backend, culvert := startFronted(t, b)
	told := toldByPROXY
	if slices.Contains(b.options, "http") {
		told = toldByForwarded
	}
	both := writeFile(t, "grpc.example.com.pem", readWorld(t, "cert.pem")+readWorld(t, "key.pem"))
	text := strings.ReplaceAll(b.text, "/etc/haproxy/grpc.example.com.pem", both)
	startProcess(t, t.TempDir(), "haproxy", "-db", "-f", writeFile(t, "haproxy.cfg", text))
	wantFront(t, backend, culvert, told, 0)
}

// runNginxStream starts nginx with the block in its stream section before
// culvert, and calls through it.
func runNginxStream(t *testing.T, b block) {
	backend, culvert := startFronted(t, b)
	dir := t.TempDir()
	config := "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\nuser root root; daemon off; master_process off; pid " + dir + "/pid; error_log stderr notice;\n" +
		"events {}\nstream {\n" + b.text + "}\n"
	startProcess(t, dir, "nginx", "-e", "stderr", "-p", dir, "-c", writeFile(t, "nginx.conf", config))
	wantFront(t, backend, culvert, toldByPROXY, 0)
}

// runNginxForwarded wants nginx with the block to write the addresses of clients
// as RFC 7239 has them in Forwarded.
func runNginxForwarded(t *testing.T, b block) {
	startNginx(t, b.text+"server { listen 127.0.0.1:443; listen [::1]:443; return 200 \"for=$forwarded_for;proto=$scheme\"; }\n")
	for host, want := range map[string]string{"127.0.0.1": "for=127.0.0.1;proto=http", "[::1]": `for="[::1]";proto=http`} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+":443/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := httpTransport(t, false, "").RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if _ = res.Body.Close(); err != nil || string(got) != want { // it is read to its end
			t.Errorf("nginx writes %q (%v), want %q", got, err, want)
		}
	}
}

// runCaddy starts Caddy with the block before culvert, and calls through it.
func runCaddy(t *testing.T, b block) {
	backend, culvert := startFronted(t, b)
	text := strings.NewReplacer("/etc/caddy/tls/fullchain.pem", filepath.Join(worldDir, "cert.pem"),
		"/etc/caddy/tls/privkey.pem", filepath.Join(worldDir, "key.pem")).Replace(b.text)
	dir := t.TempDir()
	// Its own files and its API's port are no part of what is shown.
	text = "{\n\tadmin off\n\tstorage file_system " + dir + "\n}\n" + text
	startProcess(t, dir, "caddy", "run", "--adapter", "caddyfile", "--config", writeFile(t, "Caddyfile", text))
	wantFront(t, backend, culvert, toldByForwarded, 0)
}

// wantFront calls through what listens at port 443 by every protocol. Streams are
// quiet for a time in between.
func wantFront(t *testing.T, backend *frontBackend, culvert *process, told string, quiet time.Duration) {
	t.Helper()
	awaitPort(t, "127.0.0.1:443")
	callThroughFront(t)
	wantFrontPasses(t, backend, "grpc.example.com", told, quiet, slices.Concat(webCalls, nativeCalls))
	if told == toldByForwarded { // it terminates TLS, and its guide sets hosts
		wantFrontPasses(t, backend, "grpc.example.com", told, 0, pageCalls)
	}
	wantManyStreams(t, backend, "grpc.example.com")
	wantClient(t, culvert, someClient, "127.0.0.1:443", "")
}

// readWorld reads a file of the world's directory.
func readWorld(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(worldDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// runBehindLoadBalancer starts culvert with the block, and calls it as the load
// balancer does that it is for: from its subnet, here a part of the loopback.
func runBehindLoadBalancer(t *testing.T, b block) {
	t.Run("alone", func(t *testing.T) { runYAML(t, b) }) // what it starts ends with it
	startDemoBackend(t)
	here := strings.NewReplacer("10.0.1.0/24", "127.0.1.0/24", "10.0.2.0/24", "127.0.2.0/24", "198.51.100.0/24", "127.0.1.0/24").Replace(culvertFiles(b.text))
	culvert := startCulvert(t, "--config", writeFile(t, "proxy.yaml", here))
	const balancer = "127.0.1.7"
	switch b.options[0] {
	case "alb":
		wantClient(t, culvert, balancer, "127.0.0.1:8080", "x-forwarded-for")
	case "nlb":
		wantClient(t, culvert, balancer, "127.0.0.1:8443", "PROXY")
	case "cloudflare":
		wantClient(t, culvert, balancer, "127.0.0.1:443", "x-forwarded-for")
	}
}

// wantClient calls natively from an address of the loopback, and wants someClient
// in culvert's log: that is who calls, or whom the caller says that it calls for.
func wantClient(t *testing.T, culvert *process, from, address, says string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	secure := credentials.NewTLS(&tls.Config{RootCAs: roots().RootCAs, MinVersion: tls.VersionTLS12, ServerName: "grpc.example.com"})
	if strings.HasSuffix(address, ":8080") {
		secure = insecure.NewCredentials()
	}
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithNoProxy(), grpc.WithTransportCredentials(secure),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
			conn, err := d.DialContext(ctx, "tcp", address)
			if err == nil && says == "PROXY" { // version 2, with a TLV as the load balancer's
				_, err = io.WriteString(conn, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x11\x7f\x00\x00\x05\x7f\x00\x00\x01\x9c\x40\x01\xbb\xea\x00\x02ab")
			}
			return conn, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }() // it has done its part
	call := ctx
	if says == "x-forwarded-for" {
		call = metadata.AppendToOutgoingContext(ctx, says, "6.6.6.6, "+someClient)
	}
	if _, err := healthpb.NewHealthClient(cc).Check(call, &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatalf("a call from %s: %v", from, err)
	}
	wantPeerLogged(t, culvert)
}

// wantPeerLogged wants a call of someClient in culvert's log.
func wantPeerLogged(t *testing.T, culvert *process) {
	t.Helper()
	culvert.await(t, "a call of "+someClient, func(line string) bool {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil || fields["msg"] != "call" {
			return false
		}
		peer := fmt.Sprint(fields["peer"])
		return peer == someClient || strings.HasPrefix(peer, someClient+":")
	})
}
