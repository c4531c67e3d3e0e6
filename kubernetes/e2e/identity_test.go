package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// issuerHost is where the pods of a cluster reach its issuer.
const issuerHost = "kubernetes.default.svc:443"

// TestServiceAccounts: culvert judges tokens that the API server gives out, by the configuration
// of docs/guides/auth/kubernetes.md, with keys that the API server publishes.
func TestServiceAccounts(t *testing.T) {
	t.Parallel()
	page := string(read(t, filepath.Join(root, "docs/guides/auth/kubernetes.md")))
	const mount = "/var/run/secrets/kubernetes.io/serviceaccount"
	dir := t.TempDir()
	namespace := makeNamespace(t)
	for _, name := range []string{"culvert", "web", "batch"} {
		if _, err := kube.CoreV1().ServiceAccounts(namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string][]byte{"ca.crt": read(t, cluster.CA.File("ca.crt")), "token": []byte(tokenOf(t, namespace, "culvert"))} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	web, batch, forAPI := tokenOf(t, namespace, "web", "orders"), tokenOf(t, namespace, "batch", "orders"), tokenOf(t, namespace, "web")
	proxy := startIssuerProxy(t)

	config := fencedYAML(page)
	for _, pair := range [][2]string{{mount, dir}, {"serviceaccount:shop:", "serviceaccount:" + namespace + ":"}, {"localhost:9000", "127.0.0.1:1"}} {
		if !strings.Contains(config, pair[0]) {
			t.Fatalf("the page's configuration has no %q:\n%s", pair[0], config)
		}
		config = strings.ReplaceAll(config, pair[0], pair[1])
	}
	address, out := serveCulvert(t, config, "HTTPS_PROXY="+proxy)
	// The backend isn't there: a call that culvert lets pass is one that doesn't reach it.
	for _, row := range []struct{ name, token, method, reason, message string }{
		{"web reads", web, "Get", "UPSTREAM_UNREACHABLE", ""},
		{"web writes", web, "Cancel", "PERMISSION_DENIED", "this call isn't permitted: ask the operator of this server"},
		{"batch writes", batch, "Cancel", "UPSTREAM_UNREACHABLE", ""},
		{"the API server's token", forAPI, "Get", "UNAUTHENTICATED", "the token is for another service (aud): get one for this service"},
		{"no token", "", "Get", "UNAUTHENTICATED", "the call has no credential: send one"},
	} {
		reason, message := unary(t, address, "shop.v1.Orders/"+row.method, row.token)
		if !strings.Contains(reason, row.reason) || row.message != "" && message != row.message {
			t.Errorf("%s: %s: %s, want %s", row.name, reason, message, row.reason)
		}
		if row.message != "" && !strings.Contains(page, "| `"+row.message+"` |") {
			t.Errorf("the page has no row for %q", row.message)
		}
	}
	out.await(t, `"identity":"system:serviceaccount:`+namespace+`:web"`, `"rule":"web-reads"`)

	// Without a token of its own, culvert gets no keys.
	tokens := regexp.MustCompile(`(?m)^ +(keys_)?token_file: .*\n`)
	address, out = serveCulvert(t, tokens.ReplaceAllString(config, ""), "HTTPS_PROXY="+proxy)
	reason, message := unary(t, address, "shop.v1.Orders/Get", web)
	if !strings.Contains(reason, "AUTH_UNAVAILABLE") || !strings.Contains(page, "| `"+message+"` |") {
		t.Errorf("without token_file: %s: %q", reason, message)
	}
	out.await(t, "HTTP status 403", `"reason":"AUTH_UNAVAILABLE"`)
	if has(out.text(), web) {
		t.Error("the log has the token")
	}

	// The page's other causes, each of which the log has.
	for cause, broken := range map[string]string{
		"certificate signed by unknown authority":              regexp.MustCompile(`(?m)^ +(keys_)?ca: .*\n`).ReplaceAllString(config, ""),
		"the configured issuer must be the same, byte by byte": strings.Replace(config, "issuer: https://kubernetes.default.svc", "issuer: https://kubernetes.default.svc/", 1),
	} {
		if !strings.Contains(page, "| `"+cause+"` |") {
			t.Errorf("the page has no row for %q", cause)
		}
		_, out := serveCulvert(t, broken, "HTTPS_PROXY="+proxy)
		out.await(t, cause)
	}
}

var yamlFence = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// fencedYAML returns the first configuration of a page.
func fencedYAML(page string) string {
	if m := yamlFence.FindStringSubmatch(page); m != nil {
		return m[1]
	}
	return ""
}

// tokenOf returns a token of a service account, as the kubelet gets it for a pod.
func tokenOf(t *testing.T, namespace, account string, audiences ...string) string {
	t.Helper()
	r, err := kube.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Status.Token
}

// serveCulvert starts culvert, and returns its address and its log.
func serveCulvert(t *testing.T, config string, env ...string) (address string, out *lines) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(programs["culvert"], "serve", "--config", file, "--listen", "127.0.0.1:0", "--health-listen", "off", "--admin", "off")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	out = &lines{more: make(chan struct{}, 1)}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Logf("%s\n%s", config, out.text())
		}
	})
	out.await(t, `"msg":"listening"`)
	return listening.FindStringSubmatch(out.text())[1], out
}

var listening = regexp.MustCompile(`"msg":"listening".*?"address":"([^"]+)"`)

// lines is what a program has written.
type lines struct {
	more chan struct{} // filled after each write

	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.all.Write(p)
}

// await waits until the text has all the words. The test's own goroutine calls it.
func (l *lines) await(t *testing.T, words ...string) {
	t.Helper()
	late := time.After(patience)
	for !has(l.text(), words...) {
		select {
		case <-l.more:
		case <-late:
			t.Fatalf("the log hasn't %q", words)
		}
	}
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// unary makes a call by the Connect protocol, which fails, and returns the bytes with culvert's
// reason, and the message.
func unary(t *testing.T, address, method, token string) (info, message string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/"+method, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/proto")
	r.Close = true
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var failure struct {
		Message string
		Details []struct{ Value string }
	}
	text, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(text, &failure)
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", res.Status, err, text)
	}
	if len(failure.Details) == 0 {
		t.Fatalf("the error has no reason: %s", text)
	}
	value, err := base64.RawStdEncoding.DecodeString(failure.Details[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return string(value), failure.Message
}

// startIssuerProxy starts a proxy that brings connections for the issuer's name to the API
// server, as the Service would in a cluster with nodes. It returns its URL.
func startIssuerProxy(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != issuerHost && r.Host != cluster.Address {
			http.Error(w, "not here: "+r.Host, http.StatusForbidden)
			return
		}
		up, err := net.Dial("tcp", cluster.Address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer up.Close()
		down, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer down.Close()
		if _, err := fmt.Fprint(down, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
			return
		}
		work.Go(func() { // ends with the connections
			_, _ = io.Copy(up, down)
			_ = up.Close()
		})
		_, _ = io.Copy(down, up)
	})}
	work.Go(func() { _ = server.Serve(ln) })
	t.Cleanup(func() {
		_ = server.Close()
		work.Wait()
	})
	return "http://" + ln.Addr().String()
}
