package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/certificate"
)

// A farPath is the way of a client in a company's network: a forward proxy that
// lets CONNECT through and nothing else, or one that opens TLS, and at the other end
// a reverse proxy that ends TLS. All are Debian's, as processes of their own; that nginx
// buffers what it may is its default.
type farPath struct {
	tinyproxy *process
	proxy     string            // tinyproxy, host:port
	squid     string            // host:port
	opened    string            // what Squid saw inside TLS: a line for each request that has ended
	caddy     map[string]string // as front
	front     map[string]string // the port of nginx for each culvert, both as host:port
	roots     *x509.CertPool    // for nginx
}

func startFarPath(t *testing.T, culverts ...string) farPath {
	t.Helper()
	dir := t.TempDir()
	p := farPath{proxy: freeAddress(t), squid: freeAddress(t), opened: filepath.Join(dir, "squid.log"), front: map[string]string{}, caddy: map[string]string{}, roots: localCertificate(t, dir, "localhost")}
	var servers, sites, ports strings.Builder
	for _, culvert := range culverts {
		p.front[culvert] = freeAddress(t)
		fmt.Fprintf(&servers, nginxServer, p.front[culvert], culvert)
		p.caddy[culvert] = freeAddress(t)
		fmt.Fprintf(&sites, caddySite, p.caddy[culvert], filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), culvert)
		fmt.Fprintf(&ports, "ConnectPort %s\n", port(p.front[culvert]))
	}
	nginx := write(t, dir, "nginx.conf", fmt.Sprintf(nginxConfig, &servers))
	startPathProcess(t, "nginx", p.front[culverts[0]], "-p", dir, "-c", nginx)
	tinyproxy := write(t, dir, "tinyproxy.conf", fmt.Sprintf(tinyproxyConfig, port(p.proxy), &ports))
	p.tinyproxy = startPathProcess(t, "tinyproxy", p.proxy, "-d", "-c", tinyproxy)
	caddy := write(t, dir, "Caddyfile", fmt.Sprintf(caddyConfig, dir, &sites))
	startPathProcess(t, "caddy", p.caddy[culverts[0]], "run", "--adapter", "caddyfile", "--config", caddy)
	startSquid(t, dir, p.squid, squidConfig)
	return p
}

// wantUsed checks that the clients have gone through the proxies, and that Squid has
// opened TLS.
func (p farPath) wantUsed(t *testing.T) {
	t.Helper()
	if err := eventually(time.Minute, func() error { // connections have to end
		log, err := os.ReadFile(p.opened)
		if err == nil && (!strings.Contains(string(log), "101 -\n") || !regexp.MustCompile(`(?m)^101 .*Chrome`).Match(log)) {
			err = fmt.Errorf("squid has seen no upgrade of Node or none of Chromium:\n%s", log)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if n := strings.Count(strings.Join(p.tinyproxy.output.all(), "\n"), ": CONNECT 127.0.0.1:"); n < 3 {
		t.Errorf("tinyproxy has seen %d connections, want some of each platform's client", n)
	}
}

// startSquid starts Squid with a configuration whose ADDRESS, DIR and CERTGEN it puts in.
//
// Squid isn't to run as root, so it is somebody else in a namespace of users. Its shared memory
// has the same names for every Squid of a machine, so each has a /dev/shm of its own.
func startSquid(t *testing.T, dir, address, config string) {
	t.Helper()
	if text, err := exec.Command(certgen, "-c", "-s", filepath.Join(dir, "certificates"), "-M", "4MB").CombinedOutput(); err != nil {
		t.Fatalf("squid-openssl is missing: make deps (%v)\n%s", err, text)
	}
	file := write(t, dir, "squid.conf", strings.NewReplacer("ADDRESS", address, "DIR", dir, "CERTGEN", certgen).Replace(config))
	start := `mount -t tmpfs tmpfs /dev/shm && exec unshare --map-user=1000 --map-group=1000 -- /usr/sbin/squid -N -f "$0"`
	startPathProcess(t, "unshare", address, "--map-root-user", "--mount", "--", "sh", "-c", start, file)
}

// certgen is Squid's program that makes certificates.
const certgen = "/usr/lib/squid/security_file_certgen"

// As docs/guides/corporate-proxies.md has Squid pass WebSockets.
const squidConfig = `
http_port ADDRESS ssl-bump tls-cert=DIR/cert.pem tls-key=DIR/key.pem generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program CERTGEN -s DIR/certificates -M 4MB
sslcrtd_children 1
tls_outgoing_options cafile=DIR/cert.pem
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
http_upgrade_request_protocols websocket allow all
http_access allow all
cache deny all
cache_log stdio:/dev/stderr
logformat opened %>Hs %{User-Agent}>h
access_log stdio:DIR/squid.log opened
pid_filename DIR/squid.pid
coredump_dir DIR
shutdown_lifetime 0 seconds
pinger_enable off
visible_hostname proxy.corp.example
`

const caddyConfig = `
{
	admin off
	auto_https disable_redirects
	storage file_system %s
}
%s
`

const caddySite = `
https://%s {
	tls %s %s
	reverse_proxy %s
}
`

// nginxHTTP is the beginning, until the servers of HTTP.
const nginxHTTP = `
daemon off;
user root; # if it is root, perhaps of a namespace that has no other
master_process off; # one process, of the user that runs the tests
pid nginx.pid;
error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	map $http_upgrade $connection_header { default upgrade; '' close; }
`

const nginxConfig = nginxHTTP + "%s\n}\n"

const nginxServer = `
	server {
		listen %s ssl http2;
		ssl_certificate cert.pem;
		ssl_certificate_key key.pem;
		client_max_body_size 0;
		location / {
			proxy_pass http://%s;
			proxy_http_version 1.1;
			proxy_set_header Host $http_host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $connection_header;
		}
	}
`

const tinyproxyConfig = `
Listen 127.0.0.1
Port %s
Allow 127.0.0.1
Timeout 600
MaxClients 100
LogLevel Connect
%s
`

func port(address string) string {
	_, port, _ := net.SplitHostPort(address) // it is one
	return port
}

// client returns an HTTP client that goes this way, for WebSockets.
func (p farPath) client() *http.Client {
	proxy := &url.URL{Scheme: "http", Host: p.proxy}
	return &http.Client{Transport: &http.Transport{
		Proxy:           http.ProxyURL(proxy),
		TLSClientConfig: &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12},
	}}
}

// startPathProcess starts a program that the tests don't build, and returns once
// it listens.
func startPathProcess(t *testing.T, program, address string, args ...string) *process {
	t.Helper()
	path := ""
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") { // where a user's PATH doesn't look
		if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
			path = filepath.Join(dir, program)
			break
		}
	}
	if path == "" {
		t.Fatalf("%s is not installed: make deps", program)
	}
	p := startProcess(t, program, "", append([]string{path}, args...)...)
	gone := false
	err := eventually(patience, func() error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.exited:
			gone = true
			return nil
		default:
			return err
		}
	})
	if gone {
		err = p.err
	}
	if gone || err != nil {
		t.Fatalf("%s doesn't listen: %v", program, err)
	}
	return p
}

// freeAddress returns an address of the loopback that was free a moment ago, for programs that
// can't say which one they took. Its port is below those that the kernel gives to others
// meanwhile (ip_local_port_range).
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+mathrand.N(12_000)))
		if err == nil {
			_ = ln.Close() // nothing was accepted
			return ln.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// localCertificate makes cert.pem and key.pem for localhost in dir, with a name of the certificate
// itself.
func localCertificate(t *testing.T, dir, name string) *x509.CertPool {
	t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	roots, err := certificate.SelfSigned(template, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

// write makes a file in dir and returns its path.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
