package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	adminToken = "f3b1c2d4e5a697887766554433221100"
	otherToken = "00112233445566778899aabbccddeeff"
	adminHost  = "admin.test"
)

// An adminDoor is the admin address of a culvert, which other hosts reach.
type adminDoor struct {
	*culvert
	ca      *issuer
	port    string
	token   string // the file
	client  http.Client
	dir     string
	address string
}

func openAdmin(t *testing.T) *adminDoor {
	t.Helper()
	d := &adminDoor{ca: newIssuer(t, "ca"), dir: t.TempDir()}
	d.token = filepath.Join(d.dir, "token")
	replaceFile(t, d.token, []byte(adminToken+"\n"))
	cert, key := writePair(t, d.dir, "admin", d.ca.issueFor("admin", adminHost))
	b := startBackend(t, backendOptions{})
	d.culvert = startCulvert(t, b.address, culvertOptions{
		config: fmt.Sprintf("admin:\n  hosts: [%s]\n  token: %s\n  tls: {cert: %s, key: %s}\n", adminHost, d.token, cert, key),
		args:   []string{"--admin", ":0"},
	})
	line := d.logged(t, "serving the admin address", "address")
	d.port = port(line["address"].(string))
	d.address = "https://" + adminHost + ":" + d.port
	d.client = d.newClient()
	return d
}

// newClient returns a client that finds the address by its name, and has no cookies.
func (d *adminDoor) newClient() http.Client {
	return http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			TLSClientConfig:   named(d.ca.trusting(), adminHost),
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+d.port)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask makes a request, and returns its status and body. header has names and values.
func (d *adminDoor) ask(t *testing.T, client *http.Client, method, path, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (d *adminDoor) form(token string) []string {
	return []string{"POST", "/login", url.Values{"token": {token}}.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Origin", d.address}
}

// TestAdminAccess: another host's tools come in by a header, its browsers by a form, and others
// don't.
func TestAdminAccess(t *testing.T) {
	t.Parallel()
	d := openAdmin(t)
	bearer := []string{"Authorization", "Bearer " + adminToken}
	status := func(client *http.Client, method, path string, header ...string) int {
		t.Helper()
		code, _ := d.ask(t, client, method, path, "", header...)
		return code
	}

	// A tool.
	if code, text := d.ask(t, &d.client, "GET", "/log-level", "", bearer...); code != 200 || text != "info\n" {
		t.Errorf("with the token: %d %s", code, text)
	}
	if code, text := d.ask(t, &d.client, "PUT", "/log-level", "debug", append(bearer, "Culvert-Admin", "1")...); code != 200 || text != "debug\n" {
		t.Errorf("a change: %d %s", code, text)
	}
	if code, text := d.ask(t, &d.client, "GET", "/config", "", bearer...); code != 200 || strings.Contains(text, adminToken) || !strings.Contains(text, "hosts: ["+adminHost+"]") && !strings.Contains(text, `hosts: ["`+adminHost+`"]`) {
		t.Errorf("/config: %d %s", code, text)
	}
	for what, header := range map[string][]string{
		"no token":                      {},
		"another token":                 {"Authorization", "Bearer " + otherToken},
		"a token in the query":          {"query", ""},
		"another name":                  append([]string{"Host", "evil.test"}, bearer...),
		"another site":                  append([]string{"Sec-Fetch-Site", "cross-site"}, bearer...),
		"a change without culvert's":    append([]string{"method", "PUT"}, bearer...),
		"a change from another origin":  append([]string{"method", "PUT", "Culvert-Admin", "1", "Origin", "https://evil.test"}, bearer...),
		"a profile without the token":   {"path", "/debug/pprof/heap"},
		"the token as a cookie's value": {"Cookie", "__Host-culvert-admin=" + adminToken},
	} {
		method, path := "GET", "/config"
		for i := 0; i+1 < len(header); i += 2 {
			switch header[i] {
			case "method":
				method, path = header[i+1], "/log-level"
			case "path":
				path = header[i+1]
			case "query":
				path += "?token=" + adminToken
			}
		}
		if code := status(&d.client, method, path, header...); code != 401 && code != 403 {
			t.Errorf("%s: %d", what, code)
		}
	}

	// A browser.
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := d.newClient()
	browser.Jar = jar
	if code := status(&browser, "GET", "/", "Accept", "text/html"); code != 303 {
		t.Errorf("a browser without a session: %d", code)
	}
	wrong := d.form(otherToken)
	if code, _ := d.ask(t, &browser, wrong[0], wrong[1], wrong[2], wrong[3:]...); code != 403 {
		t.Errorf("the form with another token: %d", code)
	}
	right := d.form(adminToken)
	login := func() {
		t.Helper()
		if code, text := d.ask(t, &browser, right[0], right[1], right[2], right[3:]...); code != 303 {
			t.Fatalf("the form: %d %s", code, text)
		}
	}
	login()
	if code := status(&browser, "GET", "/log-level"); code != 200 {
		t.Errorf("with the session: %d", code)
	}
	at, err := url.Parse(d.address)
	if err != nil {
		t.Fatal(err)
	}
	stolen := jar.Cookies(at)
	if len(stolen) != 1 || stolen[0].Name != "__Host-culvert-admin" {
		t.Fatalf("the cookies: %v", stolen)
	}
	replay := []string{"Cookie", stolen[0].Name + "=" + stolen[0].Value}
	if code := status(&d.client, "GET", "/log-level", replay...); code != 200 {
		t.Errorf("the copied cookie: %d", code)
	}
	if code := status(&browser, "POST", "/logout", "Culvert-Admin", "1"); code != 303 {
		t.Errorf("logout: %d", code)
	}
	if code := status(&d.client, "GET", "/log-level", replay...); code != 401 {
		t.Errorf("the copied cookie after the logout: %d", code)
	}

	// A new token ends what the old one has opened.
	login()
	replaceFile(t, d.token, []byte(otherToken))
	d.logged(t, "admin token replaced")
	if code := status(&browser, "GET", "/log-level"); code != 401 {
		t.Errorf("the session after a new token: %d", code)
	}
	if code := status(&d.client, "GET", "/log-level", bearer...); code != 401 {
		t.Errorf("the old token: %d", code)
	}
	if code := status(&d.client, "GET", "/log-level", "Authorization", "Bearer "+otherToken); code != 200 {
		t.Errorf("the new token: %d", code)
	}

	// A new certificate needs no restart.
	renewed := d.ca.issueFor("admin", adminHost)
	writePair(t, d.dir, "admin", renewed)
	d.signal(t, syscall.SIGHUP)
	d.logged(t, "certificates reloaded")
	trusting := named(d.ca.trusting(), adminHost)
	conn, err := tls.Dial("tcp", "127.0.0.1:"+d.port, trusting)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().PeerCertificates[0].SerialNumber; got.Cmp(renewed.Leaf.SerialNumber) != 0 {
		t.Errorf("the certificate after a renewal has the number %v, want %v", got, renewed.Leaf.SerialNumber)
	}

	if text := d.output.tail(1000); strings.Contains(text, adminToken) || strings.Contains(text, otherToken) || strings.Contains(text, stolen[0].Value) {
		t.Error("the log has a secret")
	}
}

// TestAdminDrainFromAfar: drain finds a culvert on another host.
func TestAdminDrainFromAfar(t *testing.T) {
	t.Parallel()
	d := openAdmin(t)
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), culvertProgram, append([]string{"drain"}, args...)...)
		cmd.Env = environment()
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	// The name resolves nowhere here, and the certificate isn't for the address.
	if out, err := run("--admin", "https://127.0.0.1:"+d.port, "--token-file", d.token, "--admin-ca", d.ca.file); err == nil || !strings.Contains(out, "x509") {
		t.Errorf("by another name: %v %s", err, out)
	}
	writePair(t, d.dir, "admin", d.ca.issue("admin", adminHost))
	d.signal(t, syscall.SIGHUP)
	d.logged(t, "certificates reloaded")
	if out, err := run("--admin", "https://127.0.0.1:"+d.port, "--token-file", d.token); err == nil || !strings.Contains(out, "--admin-ca") {
		t.Errorf("by an unknown CA: %v %s", err, out)
	}
	if out, err := run("--admin", "https://127.0.0.1:"+d.port, "--admin-ca", d.ca.file); err == nil || !strings.Contains(out, "--token-file") {
		t.Errorf("without a token: %v %s", err, out)
	}
	out, err := run("--admin", "https://127.0.0.1:"+d.port, "--token-file", d.token, "--admin-ca", d.ca.file)
	if err != nil || !strings.Contains(out, "refuses new calls") {
		t.Errorf("drain: %v %s", err, out)
	}
}

// TestAdminFlood: callers without the token hold a bounded number of connections, and keep no
// operator out.
func TestAdminFlood(t *testing.T) {
	t.Parallel()
	const bound, flood = 256, 400
	d := openAdmin(t)
	before := d.descriptors(t)
	knock := func(conn net.Conn) error { // culvert then waits for a minute for the next request
		if _, err := fmt.Fprintf(conn, "GET /config HTTP/1.1\r\nHost: %s\r\n\r\n", adminHost); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("%s, %w", resp.Status, err)
		}
		return nil
	}
	var conns []net.Conn
	for range flood {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+d.port, named(d.ca.trusting(), adminHost))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := knock(conn); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if code, _ := d.ask(t, &d.client, "GET", "/log-level", "", "Authorization", "Bearer "+adminToken); code != 200 {
		t.Errorf("an operator among others: %d", code)
	}
	if now := d.descriptors(t); now > before+bound+20 { // and some for other things, such as the backend
		t.Errorf("%d descriptors, %d before: more than %d for connections", now, before, bound)
	}
	if err := knock(conns[0]); err == nil {
		t.Error("the oldest connection stays")
	}
	if err := knock(conns[flood-1]); err != nil {
		t.Errorf("the newest connection: %v", err)
	}
}

// TestAdminForm: a person in Chromium gets in by the form, over TLS and on loopback, and another
// site's page neither logs that person out nor shows the form in a frame.
func TestAdminForm(t *testing.T) {
	t.Parallel()
	d := openAdmin(t)
	file := filepath.Join(t.TempDir(), "token")
	replaceFile(t, file, []byte(adminToken))
	b := startBackend(t, backendOptions{})
	plain := startCulvert(t, b.address, culvertOptions{config: "admin: {token: " + file + "}", args: []string{"--admin", "127.0.0.1:0"}})
	loopback := port(plain.logged(t, "serving the admin address", "address")["address"].(string))

	for name, plan := range map[string]map[string]string{
		"over TLS":    {"url": d.address + "/", "evil": "https://evil.test:" + serveEvil(t, d.ca) + "/"},
		"on loopback": {"url": "http://localhost:" + loopback + "/"},
	} {
		t.Run(name, func(t *testing.T) {
			plan["token"], plan["wrong"] = adminToken, otherToken
			in, err := json.Marshal(plan)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "node", "admin_login.js")
			var stdout, stderr bytes.Buffer
			cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = "node", bytes.NewReader(in), &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("node admin_login.js: %v\n%s", err, &stderr)
			}
			var saw struct {
				Asked, Style, Refused, Inside, Readable, Still string
				Cookies                                        []struct {
					Name, SameSite, Domain, Path string
					HTTPOnly                     bool `json:"httpOnly"`
					Secure                       bool
				}
				Logout, Login, Link, Framed int
				Violations                  []string
			}
			if err := json.Unmarshal(stdout.Bytes(), &saw); err != nil {
				t.Fatal(err)
			}
			secure := strings.HasPrefix(plan["url"], "https")
			if saw.Asked != plan["url"]+"login" || saw.Style == "none" || len(saw.Violations) > 0 {
				t.Errorf("the form: %+v", saw)
			}
			if !strings.Contains(saw.Refused, "isn't the admin token") || saw.Inside != plan["url"] || saw.Readable != "" || saw.Still != "200 "+plan["url"] {
				t.Errorf("the login: %+v", saw)
			}
			if len(saw.Cookies) != 1 || !saw.Cookies[0].HTTPOnly || saw.Cookies[0].Secure != secure || saw.Cookies[0].SameSite != "Strict" || strings.HasPrefix(saw.Cookies[0].Name, "__Host-") != secure {
				t.Errorf("the cookies: %+v", saw.Cookies)
			}
			if plan["evil"] != "" && (saw.Logout != 403 || saw.Login != 403 || saw.Link != 403 || saw.Framed != 0) {
				t.Errorf("another site: %+v", saw)
			}
		})
	}
}

// serveEvil serves the pages of another site, and returns its port.
func serveEvil(t *testing.T, ca *issuer) string {
	t.Helper()
	cert, key := writePair(t, t.TempDir(), "evil", ca.issueFor("evil", "evil.test"))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<!doctype html><meta charset=utf-8><link rel=icon href="data:,"><title>evil</title><body></body>`) // to a browser that may be gone
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.ServeTLS(ln, cert, key) }) // until it is closed
	t.Cleanup(func() {
		_ = server.Close() // the browser is gone
		serving.Wait()
	})
	return port(ln.Addr().String())
}
