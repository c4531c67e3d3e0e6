package e2e

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestFiveHundredPodsAtOnce has ten clients that create fifty pods each at the same
// moment. It isn't parallel, because it also reports how long the injector takes. The
// API server and etcd compete with it for the processors, so the test reports the time
// of reviews one after the other as well.
func TestFiveHundredPodsAtOnce(t *testing.T) {
	const clients, each = 10, 50
	i, namespace, _ := setup(t)
	before := i.metrics(t)

	var creating sync.WaitGroup
	begin := make(chan struct{})
	failures := make(chan error, clients*each)
	for range clients {
		client := newClient(t)
		for range each {
			creating.Go(func() {
				<-begin
				pod, err := client.CoreV1().Pods(namespace).Create(t.Context(), newPod(), metav1.CreateOptions{})
				if err == nil && sidecars(&pod.Spec) != 1 {
					err = fmt.Errorf("%s has %d sidecars, want 1", pod.Name, sidecars(&pod.Spec))
				}
				if err != nil {
					failures <- err
				}
			})
		}
	}
	close(begin)
	creating.Wait()
	close(failures)
	if n := len(failures); n > 0 {
		t.Errorf("%d of %d creations failed, the first one with: %v", n, clients*each, <-failures)
	}

	// What the API server keeps, and what the injector has counted.
	pods, err := kube.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	injected := 0
	for _, p := range pods.Items {
		if sidecars(&p.Spec) == 1 {
			injected++
		}
	}
	if injected != clients*each {
		t.Errorf("%d pods with one sidecar, want %d", injected, clients*each)
	}
	after := i.metrics(t)
	for result, want := range map[string]float64{"injected": clients * each, "malformed": 0, "refused": 0, "skipped": 0} {
		name := `culvert_injector_reviews_total{result="` + result + `"}`
		if _, known := after[name]; !known {
			t.Errorf("no metric %s", name)
		}
		if got := after[name] - before[name]; got != want {
			t.Errorf("the injector counts %v reviews as %q, want %v", got, result, want)
		}
	}
	t.Logf("%d reviews at once: half within %v ms, 99 %% within %v ms", clients*each, 1000*within(before, after, .5), 1000*within(before, after, .99))

	before = after
	for range 200 {
		if err := injects(namespace)(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	after = i.metrics(t)
	t.Logf("200 reviews one after the other: half within %v ms, 99 %% within %v ms", 1000*within(before, after, .5), 1000*within(before, after, .99))
}

// newClient returns a client with a connection of its own: the API server takes a
// limited number of requests on one.
func newClient(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	config, err := cluster.Client()
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	set, err := kubernetes.NewForConfigAndClient(config, client)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// within returns the bound in seconds, of the injector's histogram, that covers a part
// of the reviews between two readings.
func within(before, after map[string]float64, part float64) float64 {
	const name = `culvert_injector_review_seconds_bucket{le="`
	counts, bounds := map[float64]float64{}, []float64{}
	for metric, value := range after {
		text, is := strings.CutPrefix(metric, name)
		if bound, err := strconv.ParseFloat(strings.TrimSuffix(text, `"}`), 64); is && err == nil {
			counts[bound] = value - before[metric]
			bounds = append(bounds, bound)
		}
	}
	slices.Sort(bounds)
	all := counts[math.Inf(1)]
	for _, bound := range bounds {
		if counts[bound] >= part*all {
			return bound
		}
	}
	return math.Inf(1)
}
