package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestBesideAnotherInjector has another webhook that adds a container, before culvert
// and after it. In both orders the API server calls both a second time: the first one
// because the second one has changed the pod, and the second one because the API server
// itself mounts the service account's token into the new container.
func TestBesideAnotherInjector(t *testing.T) {
	t.Parallel()
	// The API server calls webhooks in the order of the names of their configurations.
	for order, prefix := range map[string]string{"before": "a-other-", "after": "z-other-"} {
		t.Run(order, func(t *testing.T) {
			i, namespace, whose := setup(t)
			other := startOther(t)
			webhooks := hooks(t, other.address, whose)[:1]
			webhooks[0].Name = "other.example.com"
			webhooks[0].ClientConfig.URL = new("https://" + other.address + ":8443/")
			register(t, prefix+whose, webhooks, func(ctx context.Context) error {
				pod, err := create(ctx, namespace, newPod(), onlyDry)
				if err == nil && !slices.ContainsFunc(pod.Spec.Containers, isOther) {
					err = errNotInjected
				}
				return err
			})

			const again = `culvert_injector_reviews_total{result="already injected"}`
			before, calls := i.metrics(t), other.calls.Load()
			pod, err := create(t.Context(), namespace, newPod(), metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if sidecars(&pod.Spec) != 1 || !slices.ContainsFunc(pod.Spec.Containers, isOther) {
				t.Errorf("%+v: want culvert once, and the other container", pod.Spec)
			}
			after := i.metrics(t)
			if _, known := after[again]; !known {
				t.Fatalf("no metric %s in %v", again, after)
			}
			if got := after[again] - before[again]; got != 1 {
				t.Errorf("called again %v times, want once", got)
			}
			if got := other.calls.Load() - calls; got != 2 {
				t.Errorf("the other webhook was called %d times, want twice", got)
			}
		})
	}
}

// TestLimitRange has a namespace whose containers get a limit of CPU time, which is less
// than culvert requests. The API server sets it after the injector, and calls it again.
func TestLimitRange(t *testing.T) {
	t.Parallel()
	_, namespace, _ := setup(t)
	const limit = "50m"
	limits := &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "limits"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
		Type: corev1.LimitTypeContainer, Default: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(limit)},
	}}}}
	if _, err := kube.CoreV1().LimitRanges(namespace).Create(t.Context(), limits, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var pod *corev1.Pod
	eventually(t, "the API server knows the LimitRange", func(ctx context.Context) (err error) {
		pod, err = create(ctx, namespace, newPod(), onlyDry)
		if err == nil && pod.Spec.Containers[0].Resources.Limits.Cpu().String() != limit {
			err = errors.New("the container has no limit")
		}
		return err
	})
	at := slices.IndexFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == "culvert" })
	if at < 0 {
		t.Fatalf("%+v: want culvert", pod.Spec)
	}
	sidecar := pod.Spec.InitContainers[at]
	if sidecar.Resources.Limits.Cpu().String() != limit || sidecar.Resources.Requests.Cpu().String() != limit ||
		!slices.Contains(sidecar.Env, corev1.EnvVar{Name: "GOMAXPROCS", Value: "1"}) {
		t.Errorf("culvert is %+v: want a limit and a request of %s, and GOMAXPROCS", sidecar, limit)
	}
}

func isOther(c corev1.Container) bool { return c.Name == "other" }

// An otherInjector is a webhook that adds a container to each pod that doesn't have it.
type otherInjector struct {
	address string
	calls   atomic.Int64
}

func startOther(t *testing.T) *otherInjector {
	t.Helper()
	o := &otherInjector{address: newAddress()}
	file := "other-" + o.address
	if err := cluster.CA.Issue(file, "other", nil, []string{o.address}); err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.LoadX509KeyPair(cluster.CA.File(file+".crt"), cluster.CA.File(file+".key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", o.address+":8443")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(o)
	_ = server.Listener.Close() // its own address is 127.0.0.1
	server.Listener = l
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return o
}

// A review has the fields of an AdmissionReview that the webhook needs.
type review struct {
	metav1.TypeMeta `json:",inline"`

	Request *struct {
		UID    types.UID   `json:"uid"`
		Object *corev1.Pod `json:"object"`
	} `json:"request,omitempty"`
	Response map[string]any `json:"response,omitempty"`
}

func (o *otherInjector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.calls.Add(1)
	var v review
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &v)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	v.Response = map[string]any{"uid": v.Request.UID, "allowed": true}
	if !slices.ContainsFunc(v.Request.Object.Spec.Containers, isOther) {
		v.Response["patchType"] = "JSONPatch"
		v.Response["patch"] = []byte(`[{"op":"add","path":"/spec/containers/-","value":{"name":"other","image":"other:1"}}]`)
	}
	v.Request = nil
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an API server that has gone needs no answer
}
