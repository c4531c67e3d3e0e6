package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
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

// The memory of the injector's container in install.yaml, and what the program then gives
// Go.
const containerBytes, collectorLimit = 128 << 20, "GOMEMLIMIT=115MiB"

// TestLargeReviewsFitTheContainer sends many reviews of the largest size at once. Each gets
// an answer, and the injector needs less memory than its container has.
func TestLargeReviewsFitTheContainer(t *testing.T) {
	t.Parallel()
	address := newAddress()
	whose := strings.ReplaceAll(address, ".", "-")
	i := startInjector(t, "culvert-kube", address, []string{collectorLimit}, withCertificate(t, address)...)
	client := reviewClient(t)

	const size = 3<<20 + 128<<10
	items := strings.Repeat("{},", size/3) + "{}" // 3 bytes in JSON, 400 in Go
	for round := range 2 {
		var posting sync.WaitGroup
		for _, c := range []struct {
			spec, want string
		}{
			{`"containers":[` + items + `]`, "the limit of 20000"},
			{`"tolerations":[` + items + `]`, "the limit of 20000"},
			{`"containers":[` + items[:3*19_000] + `{}],"nodeName":"` + strings.Repeat("x", size-60_000) + `"`, "no container has a port named grpc"},
			{`"nodeName":"` + strings.Repeat("x", size) + `"`, "no container has a port named grpc"},
		} {
			body := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","namespace":"shop",` +
				`"resource":{"version":"v1","resource":"pods"},"object":{"metadata":{"labels":{"culvert.dev/inject":"enabled"}},"spec":{` + c.spec + `}}}}`
			for range 15 {
				posting.Go(func() {
					status, text := http.StatusRequestTimeout, ""
					for status == http.StatusRequestTimeout && t.Context().Err() == nil { // a busy machine doesn't send all in time
						status, text = postReview(t, client, address, body)
					}
					if !has(text, c.want) {
						t.Errorf("round %d: %d %.200s: want %q", round, status, text, c.want)
					}
				})
			}
		}
		posting.Wait()
	}
	peak := peakMemory(t, i.PID())
	t.Logf("the injector took up to %d MiB", peak>>20)
	if peak > containerBytes {
		t.Errorf("the injector took %d bytes, its container has %d", peak, containerBytes)
	}

	// Users learn of the limit.
	namespace := makeNamespace(t, injectLabel, "enabled", own, whose)
	register(t, "culvert-"+whose, hooks(t, address, whose), injects(namespace))
	pod := newPod()
	pod.Spec.Tolerations = make([]corev1.Toleration, 30_000)
	if _, err := create(t.Context(), namespace, pod, onlyDry); err == nil || !has(err.Error(), "denied the request", "the limit of 20000: make it smaller") {
		t.Errorf("%.300v: want the limit", err)
	}
}

// postReview returns the answer to a review: its code and body.
func postReview(t *testing.T, client *http.Client, address, body string) (status int, text string) {
	response, err := client.Post("https://"+address+":8443/inject/pod", "application/json", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer response.Body.Close()
	all, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return response.StatusCode, string(all)
}

// reviewClient returns a client that presents the API server's certificate.
func reviewClient(t *testing.T) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(t, cluster.CA.File("ca.crt")))
	own, err := tls.LoadX509KeyPair(cluster.CA.File("webhook-client.crt"), cluster.CA.File("webhook-client.key"))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// peakMemory returns how much memory a process had at most, without that of its program's
// file, which the kernel can take away and read again.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	status := string(read(t, fmt.Sprintf("/proc/%d/status", pid)))
	value := func(name string) (kilobytes int) {
		_, text, found := strings.Cut(status, name+":")
		if _, err := fmt.Sscanf(text, "%d kB", &kilobytes); !found || err != nil {
			t.Fatalf("no %s: %v in %s", name, err, status)
		}
		return kilobytes
	}
	return (value("VmHWM") - value("RssFile")) << 10
}

// newClient returns a client with a connection of its own: the API server takes a
// limited number of requests on one.
func newClient(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	client, end, err := cluster.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	return client
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
