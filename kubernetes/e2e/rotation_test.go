package e2e

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// settle is how long a CA must be in the caBundle before a replica serves a certificate
// of it.
const settle = 30 * time.Second

// rotate replaces the CA, and then the certificates of the new CA. Each replica has a
// certificate of its own. At each moment the API server must trust both.
func rotate(t *testing.T, in *installation) {
	namespace := makeNamespace(t, injectLabel, "enabled", own, in.whose)
	first, err := in.served(t.Context())
	if err != nil || len(first) != 2 {
		t.Fatalf("%d replicas: %v", len(first), err)
	}
	creating := keepCreating(t, namespace)
	shaking := startLoop(t, 100*time.Millisecond, func(ctx context.Context) error {
		_, err := in.served(ctx)
		return err
	})
	secret := in.name + "-certs"
	before, err := in.bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	// A new CA, as the guide has it. For a while the injector may not tell the API server
	// of it, and must serve the earlier certificates.
	binding := in.withdraw(t)
	if o := kubectl(t, nil, "-n", in.namespace, "patch", "secret", secret, "--type", "json", "--patch", `[{"op": "remove", "path": "/data"}]`); o.err != nil {
		t.Fatal(o)
	}
	in.awaitSecret(t, secret)
	shaking.more(t, 20)
	began := time.Now()
	if _, err := kube.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	second := in.awaitCertificates(t, first)
	if took := time.Since(began); took < settle {
		t.Errorf("new certificates after %v: want %v for API servers that hear late of the CA", took, settle)
	}
	both, err := in.bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for address, c := range second {
		if verifies(c, before) || !verifies(c, both) || !verifies(first[address], both) {
			t.Errorf("%s: want a certificate that only the new CA has signed, and both CAs in the caBundle", address)
		}
	}
	creating.more(t, 20)

	// New certificates of the same CA: the key in the Secret is written differently.
	key, err := kube.CoreV1().Secrets(in.namespace).Get(t.Context(), secret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	patch := fmt.Appendf(nil, `{"data":{"tls.key":%q}}`, base64.StdEncoding.EncodeToString(append(key.Data["tls.key"], '\n')))
	if _, err := kube.CoreV1().Secrets(in.namespace).Patch(t.Context(), secret, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	in.awaitCertificates(t, second)
	if now, err := in.bundle(t.Context()); err != nil || string(now) != string(both) {
		t.Errorf("the caBundle has changed with the certificates (%v)", err)
	}
	if err := in.reconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	creating.more(t, 20)

	creating.end(t, "creation of a pod")
	shaking.end(t, "handshake with each replica")

	// Without the registration, nobody trusts the earlier CA any more. The injector fills a
	// new one.
	if err := kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(t.Context(), in.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	in.apply(t, nextImage, nextSidecar)
	began = time.Now()
	eventually(t, "pods get culvert again", injects(namespace))
	t.Logf("the injector filled the new registration after %v", time.Since(began).Round(100*time.Millisecond))
	alone, err := in.bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for address := range first {
		if verifies(first[address], alone) || !verifies(second[address], alone) {
			t.Errorf("%s: want the new CA alone in the caBundle", address)
		}
	}
}

// awaitCertificates waits until each replica serves another certificate than it did.
func (in *installation) awaitCertificates(t *testing.T, before map[string]*x509.Certificate) (now map[string]*x509.Certificate) {
	t.Helper()
	eventually(t, "new certificates", func(ctx context.Context) (err error) {
		if now, err = in.served(ctx); err != nil {
			return err
		}
		for address, c := range before {
			if now[address] == nil || now[address].Equal(c) {
				return fmt.Errorf("%s serves its earlier certificate", address)
			}
		}
		return nil
	})
	return now
}

// verifies reports whether a caBundle has the CA of a certificate.
func verifies(c *x509.Certificate, bundle []byte) bool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	_, err := c.Verify(x509.VerifyOptions{Roots: roots})
	return err == nil
}

// withdraw takes away the rights to the registration. It returns the binding that gave
// them.
func (in *installation) withdraw(t *testing.T) *rbacv1.ClusterRoleBinding {
	t.Helper()
	bindings := kube.RbacV1().ClusterRoleBindings()
	binding, err := bindings.Get(t.Context(), in.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := bindings.Delete(t.Context(), in.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rights are gone", func(context.Context) error {
		if o := kubectl(t, nil, "auth", "can-i", "patch", "mutatingwebhookconfigurations/"+in.name,
			"--as", "system:serviceaccount:"+in.namespace+":"+in.name); o.err == nil {
			return errors.New("they aren't")
		}
		return nil
	})
	binding.ResourceVersion, binding.UID = "", ""
	return binding
}

// awaitSecret waits until the Secret has a CA.
func (in *installation) awaitSecret(t *testing.T, name string) {
	t.Helper()
	eventually(t, "a new CA", func(ctx context.Context) error {
		secret, err := kube.CoreV1().Secrets(in.namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil && len(secret.Data["tls.crt"]) == 0 {
			err = errors.New("the Secret is empty")
		}
		return err
	})
}
