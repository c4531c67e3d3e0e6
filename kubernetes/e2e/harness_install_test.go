package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An installation is the injector of install.yaml, with the rights that this file
// gives it, under another name and for the namespaces of one test. Its pods run as
// processes.
type installation struct {
	namespace string // its own
	name      string // of Service, Deployment and registration
	whose     string // the value of the label own of the namespaces that it injects
	manifest  string
}

var (
	namespaceObject = regexp.MustCompile(`(?s)apiVersion: v1\nkind: Namespace\n.*?\n---\n`)
	injectorImage   = regexp.MustCompile(`"culvert-kube:[^"]+"`)
	sidecarImage    = regexp.MustCompile(`--sidecar-image=\S+`)
)

// install installs the injector until the end of the test.
func install(t *testing.T) *installation {
	t.Helper()
	in := &installation{namespace: makeNamespace(t, "pod-security.kubernetes.io/enforce", "restricted")}
	in.name, in.whose = in.namespace+"-injector", in.namespace
	text := string(read(t, filepath.Join(root, "deploy/kubernetes/install.yaml")))
	if found := namespaceObject.FindString(text); found == "" {
		t.Fatal("no namespace in install.yaml")
	}
	text = namespaceObject.ReplaceAllString(text, "")
	const selector = "namespaceSelector:\n      matchExpressions:\n"
	if n := strings.Count(text, selector); n != 2 {
		t.Fatalf("%d selectors of namespaces in install.yaml, want 2", n)
	}
	in.manifest = strings.NewReplacer(
		"culvert-system", in.namespace,
		"culvert-injector", in.name,
		selector, selector+"        - {key: "+own+", operator: In, values: ["+in.whose+"]}\n",
	).Replace(text)
	runNodes(t, in.namespace)
	t.Cleanup(func() { // what no namespace takes with it
		ctx := context.Background()
		if err := errors.Join(
			kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, in.name, metav1.DeleteOptions{}),
			kube.RbacV1().ClusterRoleBindings().Delete(ctx, in.name, metav1.DeleteOptions{}),
			kube.RbacV1().ClusterRoles().Delete(ctx, in.name, metav1.DeleteOptions{}),
		); err != nil {
			t.Error(err)
		}
	})
	in.apply(t, "culvert-kube:e2e", "culvert:1.0.0")
	in.rollout(t)
	eventually(t, "pods get culvert", injects(makeNamespace(t, injectLabel, "enabled", own, in.whose)))
	return in
}

// apply applies install.yaml with these images.
func (in *installation) apply(t *testing.T, injector, sidecar string) {
	t.Helper()
	text := injectorImage.ReplaceAllString(in.manifest, `"`+injector+`"`)
	text = sidecarImage.ReplaceAllString(text, "--sidecar-image="+sidecar)
	if o := kubectl(t, []byte(text), "apply", "--validate=strict", "-f", "-"); o.err != nil {
		t.Fatal(o)
	}
}

// rollout waits until the Deployment has only pods of its newest template.
func (in *installation) rollout(t *testing.T) {
	t.Helper()
	if o := kubectl(t, nil, "-n", in.namespace, "rollout", "status", "deployment/"+in.name, "--timeout", patience.String()); o.err != nil {
		t.Fatal(o)
	}
}

// replicas returns the addresses behind the Service.
func (in *installation) replicas(ctx context.Context) (addresses []string, err error) {
	found, err := kube.DiscoveryV1().EndpointSlices(in.namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + in.name})
	if err != nil {
		return nil, err
	}
	for _, s := range found.Items {
		for _, e := range s.Endpoints {
			addresses = append(addresses, e.Addresses...)
		}
	}
	return addresses, nil
}

// bundle returns the caBundle of the registration.
func (in *installation) bundle(ctx context.Context) ([]byte, error) {
	c, err := kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, in.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return c.Webhooks[0].ClientConfig.CABundle, nil
}

// reconnect has the API server open new connections: it does when the caBundle has other
// bytes. The injector writes it as it was within seconds.
func (in *installation) reconnect(ctx context.Context) error {
	registered := kube.AdmissionregistrationV1().MutatingWebhookConfigurations()
	c, err := registered.Get(ctx, in.name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for i := range c.Webhooks {
		client := &c.Webhooks[i].ClientConfig
		client.CABundle = fmt.Appendf(client.CABundle, "# %d\n", time.Now().UnixNano())
	}
	if _, err = registered.Update(ctx, c, metav1.UpdateOptions{}); apierrors.IsConflict(err) {
		return nil // the injector has just written it: other bytes as well
	}
	return err
}

// served shakes hands with each replica as the API server does, and returns their
// certificates by address.
func (in *installation) served(ctx context.Context) (map[string]*x509.Certificate, error) {
	bundle, err := in.bundle(ctx)
	if err != nil {
		return nil, err
	}
	addresses, err := in.replicas(ctx)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: in.name + "." + in.namespace + ".svc"}}
	certificates := map[string]*x509.Certificate{}
	for _, address := range addresses {
		c, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(address, "8443"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", address, err)
		}
		certificates[address] = c.(*tls.Conn).ConnectionState().PeerCertificates[0]
		_ = c.Close() // nothing was sent
	}
	return certificates, nil
}

// A loop does something again and again beside a test, until it is ended.
type loop struct {
	times atomic.Int64
	stop  context.CancelFunc
	done  sync.WaitGroup
	errs  []error // valid after the end
}

// startLoop calls f at this interval. It ends with the test at the latest.
func startLoop(t *testing.T, interval time.Duration, f func(context.Context) error) *loop {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &loop{stop: cancel}
	l.done.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for ctx.Err() == nil {
			if err := f(context.WithoutCancel(ctx)); err != nil {
				l.errs = append(l.errs, fmt.Errorf("%s: %w", time.Now().Format(time.StampMilli), err))
			}
			l.times.Add(1)
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
	t.Cleanup(func() { cancel(); l.done.Wait() })
	return l
}

// more waits until the loop has gone round n times more.
func (l *loop) more(t *testing.T, n int64) {
	t.Helper()
	want := l.times.Load() + n
	eventually(t, fmt.Sprintf("%d rounds more", n), func(context.Context) error {
		if l.times.Load() < want {
			return errors.New("fewer")
		}
		return nil
	})
}

// end stops the loop. Each error fails the test.
func (l *loop) end(t *testing.T, what string) {
	t.Helper()
	l.stop()
	l.done.Wait()
	t.Logf("%s: %d times", what, l.times.Load())
	for i, err := range l.errs {
		if t.Errorf("%s: %v", what, err); i == 9 {
			t.Errorf("%s: %d errors in all", what, len(l.errs))
			break
		}
	}
}

// keepCreating creates pods in a namespace. Each must get one sidecar.
func keepCreating(t *testing.T, namespace string) *loop {
	t.Helper()
	return startLoop(t, 25*time.Millisecond, func(ctx context.Context) error {
		pod, err := create(ctx, namespace, newPod(), metav1.CreateOptions{})
		if err == nil && sidecars(&pod.Spec) != 1 {
			err = fmt.Errorf("%s has %d sidecars, want 1", pod.Name, sidecars(&pod.Spec))
		}
		return err
	})
}
