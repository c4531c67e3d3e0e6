package tools

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// A sidecar is deploy/kubernetes/examples/sidecar.yaml.
type sidecar struct {
	deployment appsv1.Deployment
	service    corev1.Service
	culvert    corev1.Container
	backend    corev1.Container
}

// readSidecar decodes the manifest with the API's types. A field that a type doesn't
// have, or that stands twice, is an error.
func readSidecar(t *testing.T) (m sidecar) {
	t.Helper()
	text, err := os.ReadFile("../deploy/kubernetes/examples/sidecar.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents := strings.Split(string(text), "\n---\n")
	if len(documents) != 2 {
		t.Fatalf("the manifest has %d documents, want a Deployment and a Service", len(documents))
	}
	for i, into := range []any{&m.deployment, &m.service} {
		if err := yaml.UnmarshalStrict([]byte(documents[i]), into); err != nil {
			t.Fatal(err)
		}
	}
	if d, s := m.deployment.TypeMeta, m.service.TypeMeta; d.APIVersion != "apps/v1" || d.Kind != "Deployment" || s.APIVersion != "v1" || s.Kind != "Service" {
		t.Errorf("the documents are %v and %v", d, s)
	}
	pod := m.deployment.Spec.Template.Spec
	if len(pod.InitContainers) != 1 || len(pod.Containers) != 1 {
		t.Fatalf("the pod has %d sidecars and %d containers, want one of each", len(pod.InitContainers), len(pod.Containers))
	}
	m.culvert, m.backend = pod.InitContainers[0], pod.Containers[0]
	return m
}

// TestManifestsOfThePagesAreOfTheAPI decodes each object that a page shows, as
// TestSidecar's manifest is decoded. The fence says what it is: "yaml pod" and "yaml
// secret" are parts of a Pod, and "yaml manifest" is followed by the kinds.
func TestManifestsOfThePagesAreOfTheAPI(t *testing.T) {
	pages, err := filepath.Glob("../docs/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	objects := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?ms)^```yaml (pod|secret|manifest [A-Za-z ]+)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
			kinds := strings.Fields(strings.TrimPrefix(m[1], "manifest"))
			documents := strings.Split(m[2], "\n---\n")
			if len(documents) != len(kinds) {
				t.Errorf("%s: %d objects behind a fence of %d kinds", page, len(documents), len(kinds))
				continue
			}
			for i, document := range documents {
				objects++
				wantOfTheAPI(t, page, kinds[i], document)
			}
		}
	}
	if objects == 0 {
		t.Error("no page shows an object: the fences have changed")
	}
}

// wantOfTheAPI decodes an object with its type. A field that the type doesn't have is
// an error.
func wantOfTheAPI(t *testing.T, page, kind, text string) {
	t.Helper()
	var pod corev1.Pod
	into, known := map[string]any{
		"pod": &pod, "secret": &pod, "Pod": &pod,
		"ConfigMap": &corev1.ConfigMap{}, "Service": &corev1.Service{}, "Deployment": &appsv1.Deployment{},
		"NetworkPolicy": &networkingv1.NetworkPolicy{}, "PodDisruptionBudget": &policyv1.PodDisruptionBudget{},
		"HorizontalPodAutoscaler": &autoscalingv2.HorizontalPodAutoscaler{},
		"HTTPRoute":               &gatewayv1.HTTPRoute{}, "GRPCRoute": &gatewayv1.GRPCRoute{},
	}[kind]
	if !known {
		t.Errorf("%s: no type for %s: add it", page, kind)
		return
	}
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Errorf("%s: %s: %v", page, kind, err)
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, mount := range c.VolumeMounts {
			if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name }) {
				t.Errorf("%s: %s mounts %q, which isn't a volume of the pod", page, c.Name, mount.Name)
			}
		}
	}
}

// TestIngressesOfThePagesAreOfTheAPI decodes the manifests that docs/guides/ingresses.md
// shows with the API's types. A field that a type doesn't have is an error.
func TestIngressesOfThePagesAreOfTheAPI(t *testing.T) {
	page, err := os.ReadFile("../docs/guides/ingresses.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```yaml ingress-nginx\n(.*?)^```$").FindStringSubmatch(string(page))
	if block == nil {
		t.Fatal("the page shows no manifests: the fences have changed")
	}
	for _, document := range strings.Split(block[1], "\n---\n") {
		ingress, config := networkingv1.Ingress{}, corev1.ConfigMap{}
		var err error
		if strings.Contains(document, "kind: Ingress\n") {
			err = yaml.UnmarshalStrict([]byte(document), &ingress)
		} else {
			err = yaml.UnmarshalStrict([]byte(document), &config)
		}
		if err != nil {
			t.Errorf("%v\n%s", err, document)
		}
	}
}

// env returns the variables of a container.
func env(c corev1.Container) (list []string) {
	for _, v := range c.Env {
		list = append(list, v.Name+"="+v.Value)
	}
	return list
}

// port returns the number of a container's port.
func port(t *testing.T, c corev1.Container, name string) int {
	t.Helper()
	i := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("%s has no port %q", c.Name, name)
	}
	return int(c.Ports[i].ContainerPort)
}

// portOf returns the port of an address.
func portOf(t *testing.T, address string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return number
}

// TestSidecar holds the manifest to the program: its arguments, variables, ports and
// times.
func TestSidecar(t *testing.T) {
	m, program := readSidecar(t), buildProgram(t)
	for _, c := range []corev1.Container{m.culvert, m.backend} {
		run(t, nil, program, append(slices.Clone(c.Args), "--help")...) // an unknown flag is an error before the help
	}
	run(t, env(m.culvert), program, "validate")

	config := configOf(t, program, env(m.culvert)...)
	if at := m.backend.Args[slices.Index(m.backend.Args, "--listen")+1]; config.Backend.Address != at {
		t.Errorf("culvert calls %s, and the service listens on %s", config.Backend.Address, at)
	}
	calls, health := port(t, m.culvert, "culvert"), port(t, m.culvert, "culvert-health")
	for _, address := range []string{config.Listen, config.Health.Listen} {
		if host, _, err := net.SplitHostPort(address); err != nil || host != "" {
			t.Errorf("culvert listens on %q (%v), want all addresses: the kubelet and the Service come from outside", address, err)
		}
	}
	if got := portOf(t, config.Listen); got != calls {
		t.Errorf("culvert listens on port %d, and the manifest has %d", got, calls)
	}
	if got := portOf(t, config.Health.Listen); got != health {
		t.Errorf("culvert answers health checks on port %d, and the manifest has %d", got, health)
	}
	if probe := m.backend.ReadinessProbe.GRPC; int(probe.Port) != calls {
		t.Errorf("the service's probe asks port %d, want culvert's, %d", probe.Port, calls)
	}
	if to := m.service.Spec.Ports[0].TargetPort.StrVal; port(t, m.culvert, to) != calls {
		t.Errorf("the Service sends to port %q, want that of calls", to)
	}
	wantPod(t, m)

	patience := time.Duration(*m.deployment.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
	before := time.Duration(m.backend.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if delay := drainDelay(t, m.culvert, program); before < delay+2*time.Second {
		t.Errorf("the service gets SIGTERM %v after culvert begins a delay of %v: calls on their way need time", before, delay)
	}
	const service = 15 * time.Second // as the comment in the manifest says
	if least := before + service + config.Drain + afterDrain; patience < least {
		t.Errorf("the pod is killed after %v, want at least %v", patience, least)
	}
}

// drainDelay returns how long culvert still serves new calls when the pod ends.
func drainDelay(t *testing.T, culvert corev1.Container, program string) time.Duration {
	t.Helper()
	command := culvert.Lifecycle.PreStop.Exec.Command
	if command[0] != "/culvert" || command[1] != "drain" {
		t.Fatalf("culvert's preStop is %q", command)
	}
	run(t, nil, program, append(slices.Clone(command[1:]), "--help")...)
	delay, err := time.ParseDuration(command[slices.Index(command, "--delay")+1])
	if err != nil {
		t.Fatal(err)
	}
	return delay
}

// wantPod checks what Kubernetes would refuse or ignore, and what a pod with little
// trust in its programs has.
func wantPod(t *testing.T, m sidecar) {
	t.Helper()
	spec := m.deployment.Spec
	if p := m.culvert.RestartPolicy; p == nil || *p != corev1.ContainerRestartPolicyAlways {
		t.Error("culvert is no sidecar: its restartPolicy isn't Always")
	}
	for name, selector := range map[string]map[string]string{"Deployment": spec.Selector.MatchLabels, "Service": m.service.Spec.Selector} {
		if len(selector) == 0 {
			t.Errorf("the %s selects no pods", name)
		}
		for key, value := range selector {
			if got := spec.Template.Labels[key]; got != value {
				t.Errorf("the %s selects %s=%s, and the pod has %q", name, key, value, got)
			}
		}
	}
	if s := spec.Template.Spec.SecurityContext; !*s.RunAsNonRoot || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the pod's securityContext is %v", s)
	}
	for _, c := range []corev1.Container{m.culvert, m.backend} {
		if s := c.SecurityContext; *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("the securityContext of %s is %v", c.Name, s)
		}
	}
	if m.culvert.Resources.Limits.Memory().IsZero() {
		t.Error("culvert has no limit of memory")
	}
}

// TestSidecarIsProbed runs the containers' programs on free ports and asks what the
// probes ask.
func TestSidecarIsProbed(t *testing.T) {
	m, program := readSidecar(t), buildProgram(t)
	backend := start(t, nil, program, append(slices.Clone(m.backend.Args), "--listen", "127.0.0.1:0")...)
	service := backend.await(t, regexp.MustCompile(`listens on (127\.0\.0\.1:\d+)`))

	culvert := start(t, append(env(m.culvert), "CULVERT_LOG_FORMAT=json", "CULVERT_BACKEND_ADDRESS="+service),
		program, append(slices.Clone(m.culvert.Args), "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0")...)
	calls := culvert.await(t, regexp.MustCompile(`"listening","address":"([^"]+)"`))
	health := culvert.await(t, regexp.MustCompile(`"answering health checks","address":"([^"]+)"`))

	for name, probe := range map[string]*corev1.Probe{"startup": m.culvert.StartupProbe, "readiness": m.culvert.ReadinessProbe, "liveness": m.culvert.LivenessProbe} {
		if probe == nil || probe.HTTPGet.Port.StrVal != "culvert-health" {
			t.Fatalf("the probe of %s doesn't ask the port of health checks", name)
		}
		if code, text := request(t, http.MethodGet, "http://"+health+probe.HTTPGet.Path, ""); code != http.StatusOK {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
	code, text := request(t, http.MethodPost, "http://"+calls+"/grpc.health.v1.Health/Check", "\x00\x00\x00\x00\x00")
	if code != http.StatusOK || !strings.Contains(text, "grpc-status: 0") {
		t.Errorf("the service's probe: %d %q", code, text)
	}
}

// TestSidecarStartsBeforeItsService asks the probes while no service runs, with
// health.depends_on. Kubernetes starts the service only after the startup probe succeeds.
func TestSidecarStartsBeforeItsService(t *testing.T) {
	m, program := readSidecar(t), buildProgram(t)
	culvert := start(t, append(env(m.culvert), "CULVERT_LOG_FORMAT=json", "CULVERT_BACKEND_ADDRESS=127.0.0.1:1", "CULVERT_HEALTH_DEPENDS_ON=default"),
		program, append(slices.Clone(m.culvert.Args), "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0")...)
	health := culvert.await(t, regexp.MustCompile(`"answering health checks","address":"([^"]+)"`))
	for _, p := range []struct {
		probe *corev1.Probe
		want  int
	}{{m.culvert.StartupProbe, http.StatusOK}, {m.culvert.ReadinessProbe, http.StatusServiceUnavailable}} {
		path := p.probe.HTTPGet.Path
		if code, text := request(t, http.MethodGet, "http://"+health+path, ""); code != p.want {
			t.Errorf("%s: %d %s, want %d", path, code, text, p.want)
		}
	}
}

// request makes a request, with a body a call of gRPC-Web, and returns the answer.
func request(t *testing.T, method, url, body string) (code int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/grpc-web")
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	all, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(all)
}

// A process is a running program, and what it writes.
type process struct{ lines *bufio.Scanner }

// start runs a program until the test ends.
func start(t *testing.T, env []string, name string, args ...string) process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close() // the program has it
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was ended
		_ = read.Close()
	})
	return process{bufio.NewScanner(read)}
}

// await reads lines until one matches, and returns the match's group.
func (p process) await(t *testing.T, pattern *regexp.Regexp) string {
	t.Helper()
	var seen []string
	for p.lines.Scan() {
		if m := pattern.FindStringSubmatch(p.lines.Text()); m != nil {
			return m[1]
		}
		seen = append(seen, p.lines.Text())
	}
	t.Fatalf("no line matches %s:\n%s", pattern, strings.Join(seen, "\n"))
	return ""
}
