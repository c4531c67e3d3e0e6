package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// TestConfiguredPod gives culvert a file from a ConfigMap, a certificate from a Secret, and
// annotations. When the ConfigMap changes, culvert takes the new file.
func TestConfiguredPod(t *testing.T) {
	const tlsName, first, second = "orders.test", "https://first.test", "https://second.test"
	file := func(origin string) map[string]string {
		return map[string]string{"proxy.yaml": fmt.Sprintf("allow_origins: [%q]\n", origin)}
	}
	ctx, namespace := t.Context(), makeNamespace(t)
	ca, err := controlplane.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Issue("orders", "orders", nil, []string{tlsName}); err != nil {
		t.Fatal(err)
	}
	pem := map[string][]byte{}
	for _, name := range []string{"ca.crt", "orders.crt", "orders.key"} {
		if pem[name], err = os.ReadFile(ca.File(name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := kube.CoreV1().Secrets(namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "orders-tls"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: pem["orders.crt"], corev1.TLSPrivateKeyKey: pem["orders.key"]},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "orders-proxy"}, Data: file(first)}
	if _, err := kube.CoreV1().ConfigMaps(namespace).Create(ctx, configMap, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := createPod(t, namespace, map[string]string{
		"culvert.dev/config":               configMap.Name,
		"culvert.dev/tls-secret":           "orders-tls",
		"culvert.dev/listen-port":          "8443",
		"culvert.dev/limits.message_bytes": "1MiB",
	})

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem["ca.crt"])
	secure := &tls.Config{RootCAs: roots, ServerName: tlsName}
	cc, err := grpc.NewClient(address(t, pod), grpc.WithTransportCredentials(credentials.NewTLS(secure)))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	if _, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("a call over TLS: %v", err)
	}

	pages := &http.Client{Transport: &http.Transport{TLSClientConfig: secure, ForceAttemptHTTP2: true}}
	defer pages.CloseIdleConnections()
	if err := allowed(ctx, pages, address(t, pod), first); err != nil {
		t.Error(err)
	}
	configMap.Data = file(second)
	if _, err := kube.CoreV1().ConfigMaps(namespace).Update(ctx, configMap, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	// The kubelet writes volumes again when a pod changes, and otherwise once a minute.
	if _, err := kube.CoreV1().Pods(namespace).Patch(ctx, pod.Name, types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"example.test/look":"again"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for err = allowed(ctx, pages, address(t, pod), second); err != nil && ctx.Err() == nil; err = allowed(ctx, pages, address(t, pod), second) {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	if err != nil {
		t.Errorf("after the ConfigMap has changed: %v", err)
	}
	if c := statusOf(awaitPod(t, namespace, "ready", podReady), sidecar); c.RestartCount != 0 {
		t.Errorf("culvert was restarted %d times, want 0", c.RestartCount)
	}
}

// allowed returns an error unless culvert lets the pages of an origin make calls.
func allowed(ctx context.Context, pages *http.Client, address, origin string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodOptions, "https://"+address+"/orders.Orders/Watch", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Origin", origin)
	r.Header.Set("Access-Control-Request-Method", http.MethodPost)
	answer, err := pages.Do(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	if got := answer.Header.Get("Access-Control-Allow-Origin"); got != origin {
		return fmt.Errorf("the answer to a page of %s is %s, and allows %q", origin, answer.Status, got)
	}
	return nil
}
