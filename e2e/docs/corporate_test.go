package docs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// corporateProxy is the proxy of a company, as its clients are told of it.
const corporateProxy = "http://proxy.corp.example:3128"

// startSquid starts Squid as a company's proxy. It opens TLS ("bump") and signs
// with the CA in the world's directory, or leaves it closed ("splice").
func startSquid(t testing.TB, tls, more string) {
	t.Helper()
	dir := t.TempDir()
	const certgen = "/usr/lib/squid/security_file_certgen"
	if text, err := output(t, dir, certgen, "-c", "-s", dir+"/certificates", "-M", "4MB"); err != nil {
		t.Fatalf("squid-openssl is missing: %v\n%s", err, text)
	}
	config := `http_port 3128 ssl-bump tls-cert=` + worldDir + `/ca.pem tls-key=` + worldDir + `/ca.key generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program ` + certgen + ` -s ` + dir + `/certificates -M 4MB
sslcrtd_children 1
tls_outgoing_options cafile=` + worldDir + `/ca.pem
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump ` + tls + ` all
http_access allow all
cache deny all
cache_log stdio:/dev/stderr
access_log none
pid_filename ` + dir + `/pid
coredump_dir ` + dir + `
shutdown_lifetime 0 seconds
pinger_enable off
visible_hostname proxy.corp.example
` + more
	// Squid does not run as root, so it is somebody else in a namespace of users.
	startProcess(t, dir, "unshare", "--map-user=1000", "--map-group=1000", "--", "squid", "-N", "-f", writeFile(t, "squid.conf", config))
	awaitPort(t, "127.0.0.1:3128")
}

// A route is a way of calling through the company's proxy.
type route struct {
	name string
	call func(ctx context.Context, http1 *http.Transport) error
}

var routes = []route{
	{"native gRPC", callNative},
	{"gRPC-Web", callWeb},
	{"Connect", callConnect},
	{"grpc-websockets", callWebSocket},
	{"h2ts", callTunnel},
}

func roots() *tls.Config {
	ca, err := os.ReadFile(filepath.Join(worldDir, "ca.pem"))
	if err != nil {
		panic("BUG: the world has no CA: " + err.Error())
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM(ca)
	return config
}

// checkHealth calls over a connection, whatever carries it.
func checkHealth(ctx context.Context, options ...grpc.DialOption) error {
	cc, err := grpc.NewClient("passthrough:///grpc.example.com:443", append(options, grpc.WithNoProxy())...)
	if err != nil {
		return err
	}
	defer func() { _ = cc.Close() }()
	_, err = healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

func callNative(ctx context.Context, http1 *http.Transport) error {
	return checkHealth(ctx, grpc.WithTransportCredentials(credentials.NewTLS(roots())), grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		if http1.Proxy == nil {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
		return dialConnect(ctx, address)
	}))
}

// dialConnect asks the company's proxy for a tunnel to the address.
func dialConnect(ctx context.Context, address string) (net.Conn, error) {
	proxy, err := url.Parse(corporateProxy)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", proxy.Host)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, "CONNECT "+address+" HTTP/1.1\r\nHost: "+address+"\r\n\r\n"); err != nil {
		return nil, err
	}
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, one...) {
		if _, err := conn.Read(one); err != nil {
			return nil, err
		}
	}
	return conn, nil
}

// noALPN is what grpc-go says where TLS ends at something that offers no HTTP/2.
const noALPN = "missing selected ALPN property"

// okTrailers end the body of a call that went well.
const okTrailers = "grpc-status: 0\r\n"

type unexpected string

func (u unexpected) Error() string { return string(u) }

func callWeb(ctx context.Context, transport *http.Transport) error {
	body, err := post(ctx, transport, "/grpc.health.v1.Health/Check", "application/grpc-web+proto", make([]byte, 5))
	if err == nil && !strings.HasSuffix(body, okTrailers) {
		err = unexpected(body)
	}
	return err
}

func callConnect(ctx context.Context, transport *http.Transport) error {
	body, err := post(ctx, transport, "/grpc.health.v1.Health/Check", "application/proto", nil)
	if err == nil && body != "\x08\x01" { // serving
		err = unexpected(body)
	}
	return err
}

// countdown is the answer to a countdown from 1: two messages, and the end.
const countdown = "\x00\x00\x00\x00\x02\x08\x01" + "\x00\x00\x00\x00\x00" + "\x02\x00\x00\x00\x02{}"

func streamConnect(ctx context.Context, transport *http.Transport) error {
	body, err := post(ctx, transport, "/culvert.demo.v1.Demo/Countdown", "application/connect+proto", []byte("\x00\x00\x00\x00\x02\x08\x01"))
	if err == nil && body != countdown {
		err = unexpected(body)
	}
	return err
}

// post returns the body of an answer that has the request's content type.
func post(ctx context.Context, transport *http.Transport, method, contentType string, request []byte) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://grpc.example.com"+method, bytes.NewReader(request))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", contentType)
	res, err := transport.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != contentType) {
		err = unexpected(res.Status + ": " + string(body))
	}
	return string(body), err
}

func dialWebSocket(ctx context.Context, http1 *http.Transport, protocol, path string) (*websocket.Conn, error) {
	options := &websocket.DialOptions{Subprotocols: []string{protocol}, HTTPClient: &http.Client{Transport: http1}}
	ws, res, err := websocket.Dial(ctx, "wss://grpc.example.com"+path, options)
	if err != nil && res != nil {
		text, _ := io.ReadAll(res.Body) // it explains what err says
		err = unexpected(res.Status + ": " + string(text))
	}
	return ws, err
}

func callTunnel(ctx context.Context, http1 *http.Transport) error {
	return checkHealth(ctx, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		ws, err := dialWebSocket(ctx, http1, "h2ts", "/")
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}))
}

func callWebSocket(ctx context.Context, http1 *http.Transport) error {
	ws, err := dialWebSocket(ctx, http1, "grpc-websockets", "/grpc.health.v1.Health/Check")
	if err != nil {
		return err
	}
	defer func() { _ = ws.CloseNow() }() // closed already if all went well
	for _, m := range []string{"content-type: application/grpc-web+proto\r\n", "\x00\x00\x00\x00\x00\x00", "\x01"} {
		if err := ws.Write(ctx, websocket.MessageBinary, []byte(m)); err != nil {
			return err
		}
	}
	last := ""
	for {
		_, m, err := ws.Read(ctx)
		switch {
		case err == nil:
			last = string(m)
		case strings.HasSuffix(last, okTrailers):
			return nil // the close
		default:
			return err
		}
	}
}

// httpTransport speaks HTTP/1.1 or HTTP/2 and no other, through a proxy if one is
// named.
func httpTransport(t testing.TB, http2 bool, proxy string) *http.Transport {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: roots(), Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!http2)
	tr.Protocols.SetHTTP2(http2)
	if proxy != "" {
		u, err := url.Parse(proxy)
		if err != nil {
			t.Fatal(err)
		}
		tr.Proxy = http.ProxyURL(u)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// callThroughFront calls through the proxy that terminates TLS for grpc.example.com, over each of
// the transports.
func callThroughFront(t *testing.T) {
	wantRoutes(t, httpTransport(t, false, ""), map[string]string{})
	if err := callWeb(t.Context(), httpTransport(t, true, "")); err != nil {
		t.Errorf("gRPC-Web over HTTP/2: %v", err)
	}
}

// wantRoutes calls over every route. Those that fail are named with a part of
// the error.
func wantRoutes(t *testing.T, http1 *http.Transport, failing map[string]string) {
	t.Helper()
	for _, r := range routes {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err := r.call(ctx, http1)
		cancel()
		want, fails := failing[r.name]
		switch {
		case !fails && err != nil:
			t.Errorf("%s: %v", r.name, err)
		case fails && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want an error with %q", r.name, err, want)
		}
	}
}

// startFrontedPath starts culvert behind nginx, as docs/guides/reverse-proxies.md has it.
func startFrontedPath(t *testing.T) {
	startPath(t, block{text: "grpc.example.com"})
}

// TestSquidThatTunnels checks that everything passes a Squid that doesn't decrypt TLS, as
// docs/guides/corporate-proxies.md says.
func TestSquidThatTunnels(t *testing.T) {
	startFrontedPath(t)
	startSquid(t, "splice", "")
	wantRoutes(t, httpTransport(t, false, corporateProxy), map[string]string{})
}

// What it says of Squid that opens TLS, as it comes: HTTP/1.1 and no upgrade.
func TestSquidThatOpensTLS(t *testing.T) {
	startFrontedPath(t)
	startSquid(t, "bump", "")
	wantRoutes(t, httpTransport(t, false, corporateProxy), map[string]string{
		"native gRPC":     noALPN,
		"grpc-websockets": "426",
		"h2ts":            "426",
	})
	if err := streamConnect(t.Context(), httpTransport(t, false, corporateProxy)); err != nil {
		t.Errorf("a Connect stream: %v", err)
	}
}

// runSquid holds what the page's lines for squid.conf are said to bring.
func runSquid(t *testing.T, b block) {
	startFrontedPath(t)
	startSquid(t, "bump", b.text)
	wantRoutes(t, httpTransport(t, false, corporateProxy), map[string]string{"native gRPC": noALPN})
}

const goNative = `
cc, err := grpc.NewClient("grpc.example.com:443", grpc.WithTransportCredentials(credentials.NewTLS(nil)))
`

const grpcJSOverTLS = `
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
const { Demo } = grpc.loadPackageDefinition(loadSync("demo.proto")).culvert.demo.v1;
const demo = new Demo("grpc.example.com:443", grpc.credentials.createSsl());
demo.echo({ text: "hello" }, (error) => { if (error) throw error; });
`

// TestRuntimesTakeTheCompanysCA checks the settings in docs/guides/corporate-proxies.md
// of the runtimes that are installed: without the CA each refuses, and with it each
// calls, through the proxy.
func TestRuntimesTakeTheCompanysCA(t *testing.T) {
	startFrontedPath(t)
	proxy := startTinyproxy(t)
	dir := project(t, nil)
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	js, program := write("call.mjs", grpcJSOverTLS), filepath.Join(dir, "native")
	if text, err := output(t, root, shell("go build -o "+program+" "+write("main.go", goProgram(goNative)))...); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	ca := filepath.Join(worldDir, "ca.pem")
	for _, r := range []struct{ variable, command string }{
		{"SSL_CERT_FILE", program},
		{"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "node " + js},
		{"NODE_EXTRA_CA_CERTS", "node -e 'fetch(`https://grpc.example.com/`).catch((e) => { throw e; })'"},
		{"CURL_CA_BUNDLE", "curl -sS https://grpc.example.com/"},
	} {
		through := "export HTTPS_PROXY=" + corporateProxy + " https_proxy=" + corporateProxy + "\n"
		before := strings.Count(proxy.output(), "CONNECT grpc.example.com:443")
		if text, err := output(t, dir, shell(through+r.command)...); err == nil {
			t.Errorf("%s trusts anybody:\n%s", r.command, text)
		}
		if text, err := output(t, dir, shell(through+"export "+r.variable+"="+ca+"\n"+r.command)...); err != nil {
			t.Errorf("%s with %s: %v\n%s", r.command, r.variable, err, text)
		}
		if n := strings.Count(proxy.output(), "CONNECT grpc.example.com:443"); n == before && !strings.Contains(r.command, "fetch") {
			t.Errorf("%s went past the proxy", r.command)
		}
	}
	wantOK(t, "curl -sS --cacert "+ca+" https://grpc.example.com/")

	// culvert itself, towards a backend: nginx, which has one behind it.
	for _, trust := range []string{"SSL_CERT_FILE=" + ca + " culvert serve", "culvert serve --backend-ca " + ca} {
		useServe(t, "env "+trust+" --backend grpc.example.com:443 --backend-tls --listen 127.0.0.1:8088 --health-listen off")
	}
}
