package inject_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// injected returns the pod with its sidecar.
func injected(t *testing.T, pod *corev1.Pod, c *inject.Config) (*corev1.Pod, *corev1.Container) {
	t.Helper()
	result, err := inject.Pod(pod, inject.Namespace{Name: "shop"}, c)
	if err != nil || result.Action != inject.Injected {
		t.Fatalf("%s: %v", result.Action, err)
	}
	return result.Pod, inject.Sidecar(&result.Pod.Spec)
}

// variable returns the value of a variable; "-" if it isn't set.
func variable(c *corev1.Container, name string) string {
	i := slices.IndexFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == name })
	if i < 0 {
		return "-"
	}
	return c.Env[i].Value
}

// expanded is what the kubelet makes of a variable's value: $$ becomes $, and $(NAME) is
// replaced.
func expanded(value string) string {
	return regexp.MustCompile(`\$\$|\$\(\w+\)`).ReplaceAllStringFunc(value, func(found string) string {
		if found == "$$" {
			return "$"
		}
		return "replaced"
	})
}

func TestProbesAskCulvertAlone(t *testing.T) {
	_, c := injected(t, read(t, orders), testConfig())
	for probe, want := range map[*corev1.Probe]string{c.StartupProbe: "/livez", c.LivenessProbe: "/livez", c.ReadinessProbe: "/readyz"} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != want || probe.HTTPGet.Port.String() != inject.HealthPortName {
			t.Errorf("the probe is %+v, want %s at port %s", probe, want, inject.HealthPortName)
		}
	}
	if got, want := c.Lifecycle.PreStop.Exec.Command, []string{"/culvert", "drain", "--delay", "5s"}; !slices.Equal(got, want) {
		t.Errorf("preStop runs %q, want %q", got, want)
	}
	if got, want := variable(c, "CULVERT_HEALTH_LISTEN"), ":15081"; got != want {
		t.Errorf("the probes' address is %q, want %q: the kubelet asks the pod's address", got, want)
	}
	if got, want := variable(c, "CULVERT_ADMIN_LISTEN"), "127.0.0.1:15082"; got != want {
		t.Errorf("the admin address is %q, want %q: nobody outside may drain culvert", got, want)
	}
}

func TestSidecarIsRestricted(t *testing.T) {
	pod, c := injected(t, read(t, orders), testConfig())
	s := c.SecurityContext
	if !*s.RunAsNonRoot || *s.RunAsUser == 0 || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem ||
		!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("it may do more than needed: %+v", s)
	}
	// The API server mounts the token wherever nothing else is mounted.
	mount := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.MountPath == "/var/run/secrets/kubernetes.io/serviceaccount" && m.ReadOnly
	})
	if mount < 0 {
		t.Fatalf("nothing keeps the token away: %+v", c.VolumeMounts)
	}
	for _, v := range pod.Spec.Volumes {
		if v.Name == c.VolumeMounts[mount].Name && (v.DownwardAPI == nil || len(v.DownwardAPI.Items) > 0) {
			t.Errorf("the volume over the token isn't empty: %+v", v)
		}
		if v.EmptyDir != nil || v.HostPath != nil {
			t.Errorf("kubectl drain refuses a pod with the volume %+v", v)
		}
	}
}

// TestProcessors sets GOMAXPROCS for a limit of one CPU or less, and leaves it to Go
// otherwise.
func TestProcessors(t *testing.T) {
	for limit, want := range map[string]string{"": "-", "100m": "1", "1": "1", "1001m": "-", "4": "-"} {
		c := testConfig()
		if limit != "" {
			c.Resources.Limits[corev1.ResourceCPU] = resource.MustParse(limit)
		}
		if _, sidecar := injected(t, read(t, orders), c); variable(sidecar, "GOMAXPROCS") != want {
			t.Errorf("a limit of %q: GOMAXPROCS=%s, want %s", limit, variable(sidecar, "GOMAXPROCS"), want)
		}
	}
}

// TestLimitsOfALimitRange has limits that the API server sets after the injection.
func TestLimitsOfALimitRange(t *testing.T) {
	pod, _ := injected(t, read(t, orders), testConfig())
	pod.Spec.InitContainers = append([]corev1.Container{{Name: "first"}}, pod.Spec.InitContainers...)
	pod.Spec.InitContainers[1].Resources.Limits[corev1.ResourceCPU] = resource.MustParse("50m")
	result, err := inject.Pod(pod, inject.Namespace{Name: "shop"}, testConfig())
	if err != nil || result.Action != inject.AlreadyInjected {
		t.Fatalf("%+v, %v", result, err)
	}
	sidecar := inject.Sidecar(&result.Pod.Spec)
	if request := sidecar.Resources.Requests.Cpu().String(); request != "50m" || variable(sidecar, "GOMAXPROCS") != "1" || sidecar.Resources.Requests.Memory().String() != "64Mi" {
		t.Errorf("%+v, GOMAXPROCS=%s", sidecar.Resources, variable(sidecar, "GOMAXPROCS"))
	}
	again, err := inject.Pod(result.Pod, inject.Namespace{Name: "shop"}, testConfig())
	if err != nil || !equality.Semantic.DeepEqual(again.Pod, result.Pod) {
		t.Errorf("a second time it changes (%v): %+v", err, again.Pod)
	}
}

func TestAnnotationsReachTheSidecar(t *testing.T) {
	pod := read(t, orders)
	pod.Spec.Volumes = []corev1.Volume{{Name: "data"}}
	pod.Annotations = map[string]string{
		"example.com/other":                "is nobody's business",
		"culvert.dev/backend-port":         "9001",
		"culvert.dev/listen-port":          "8080",
		"culvert.dev/config":               "orders-proxy",
		"culvert.dev/allow_origins":        "https://a.example.com ~https://b\\.example\\.com$$(CULVERT_LISTEN)$",
		"culvert.dev/limits.message_bytes": "4MiB",
		"culvert.dev/drain_timeout":        "1m",
		"culvert.dev/image":                "culvert:debug",
		"culvert.dev/tls-secret":           "orders-tls",
		"culvert.dev/backend-host":         "::1",
		"culvert.dev/args":                 `["--log-level", "debug"]`,
		"culvert.dev/mounts":               `[{"name": "data", "mountPath": "/data"}]`,
		"culvert.dev/security-context":     `{"runAsUser": 1000}`,
	}
	c := testConfig()
	c.Allow = []inject.Allowance{{Namespaces: []string{"sh*"}, Annotations: []string{"args", "backend-host", "image", "mounts", "security-context", "tls-secret"}}}
	made, sidecar := injected(t, pod, c)
	for name, want := range map[string]string{
		"CULVERT_BACKEND_ADDRESS":      "[::1]:9001",
		"CULVERT_LISTEN":               ":8080",
		"CULVERT_CONFIG":               "/etc/culvert/config/proxy.yaml",
		"CULVERT_ALLOW_ORIGINS":        "https://a.example.com ~https://b\\.example\\.com$$(CULVERT_LISTEN)$",
		"CULVERT_LIMITS_MESSAGE_BYTES": "4MiB",
		"CULVERT_DRAIN_TIMEOUT":        "1m0s",
		"CULVERT_TLS_CERT":             "/etc/culvert/tls/tls.crt",
		"CULVERT_TLS_KEY":              "/etc/culvert/tls/tls.key",
	} {
		if got := expanded(variable(sidecar, name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if sidecar.Image != "culvert:debug" || *sidecar.SecurityContext.RunAsUser != 1000 ||
		!slices.Equal(sidecar.Args, []string{"serve", "--log-level", "debug"}) || sidecar.Ports[0].ContainerPort != 8080 {
		t.Errorf("the sidecar is %+v", sidecar)
	}
	if s := sidecar.SecurityContext; !*s.RunAsNonRoot || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || s.SeccompProfile == nil {
		t.Errorf("the annotation also changes what it doesn't set: %+v", s)
	}
	var mounted []string
	for _, m := range sidecar.VolumeMounts {
		mounted = append(mounted, m.Name+":"+m.MountPath)
	}
	want := "culvert-no-token:/var/run/secrets/kubernetes.io/serviceaccount culvert-config:/etc/culvert/config culvert-tls:/etc/culvert/tls data:/data"
	if got := strings.Join(mounted, " "); got != want {
		t.Errorf("mounted: %s, want %s", got, want)
	}
	if got := *made.Spec.TerminationGracePeriodSeconds; got != 67 { // 5 s, 60 s, and 2 s to spare
		t.Errorf("the grace period is %d s, want 67", got)
	}
}

// TestRestrictedAnnotations tries each one where the configuration allows nothing,
// and where it allows another one.
func TestRestrictedAnnotations(t *testing.T) {
	var restricted []string
	for _, name := range inject.AnnotationNames() {
		if inject.Restricted(name) {
			restricted = append(restricted, name)
		}
	}
	if len(restricted) != 6 {
		t.Errorf("restricted are %q", restricted)
	}
	for _, name := range restricted {
		pod := read(t, orders)
		annotate(name, "x")(pod)
		c := testConfig()
		for _, other := range restricted {
			if other != name {
				c.Allow = append(c.Allow, inject.Allowance{Namespaces: []string{"*"}, Annotations: []string{other}})
			}
		}
		c.Allow = append(c.Allow, inject.Allowance{Namespaces: []string{"elsewhere"}, Annotations: []string{name}})
		_, err := inject.Pod(pod, inject.Namespace{Name: "shop"}, c)
		if err == nil || !strings.Contains(err.Error(), "annotation culvert.dev/"+name+": not allowed in namespace \"shop\"") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPauseOfTheApplication counts the application's own pause before its end, if it
// is longer than culvert's.
func TestPauseOfTheApplication(t *testing.T) {
	pod := read(t, orders)
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 30}}}
	made, _ := injected(t, pod, testConfig())
	if got := *made.Spec.TerminationGracePeriodSeconds; got != 52 { // 30 s, 20 s, and 2 s to spare
		t.Errorf("the grace period is %d s, want 52", got)
	}
}

// TestOtherInjectors has sidecars of others in front and behind.
func TestOtherInjectors(t *testing.T) {
	pod := read(t, orders)
	pod.Spec.InitContainers = []corev1.Container{{Name: "mesh", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}, {Name: "prepare"}}
	made, _ := injected(t, pod, testConfig())
	made.Spec.InitContainers = append([]corev1.Container{{Name: "later"}}, made.Spec.InitContainers...)
	made.Spec.Containers = append(made.Spec.Containers, corev1.Container{Name: "agent"})
	result, err := inject.Pod(made, inject.Namespace{Name: "shop"}, testConfig())
	if err != nil || result.Action != inject.AlreadyInjected {
		t.Errorf("called again: %s, %v", result.Action, err)
	}
	clean, _ := inject.Remove(made)
	var names []string
	for _, c := range slices.Concat(clean.Spec.InitContainers, clean.Spec.Containers) {
		names = append(names, c.Name)
	}
	if got, want := strings.Join(names, " "), "later mesh prepare orders agent"; got != want {
		t.Errorf("after removal: %s, want %s", got, want)
	}
}

func TestConfigurationOfTheInjector(t *testing.T) {
	for text, want := range map[string]string{
		"immage: a":                              `unknown field "immage"`,
		"image: a\nimage: b":                     `already set`,
		"image: a\n---\nimage: b":                "a second document",
		"image: a\nLISTENPORT: 99":               `unknown field "LISTENPORT"`,
		"image: a\nexcludedNamespaces: [team-*]": "excludedNamespaces: \"team-*\" isn't the name of a namespace",
		"image: a\nresources: {requests: {memory: 2Gi}, limits: {memory: 1Gi}}": "the request of memory is more than its limit",
		"image: a\nresources: {requests: {foo: '-1'}}":                          "the request of foo is negative",
		"{}":                             "no image for the sidecar",
		"image: 'a b'":                   "isn't the name of an image",
		"image: a\nlistenPort: 0":        "listenPort: 0 isn't a port",
		"image: a\nhealthPort: 15080":    "healthPort: 15080 is also listenPort",
		"image: a\ndrainDelay: 1500ms":   "isn't whole seconds",
		"image: a\ndrainTimeout: 2h":     "isn't whole seconds up to 1h0m0s",
		"image: a\nimagePullPolicy: now": "isn't one of Always",
		"image: a\ntlsSecret: A":         "isn't the name of a Secret",
		"image: a\nallow: [{}]":          "names no namespaces or no annotations",
		"image: a\nallow: [{namespaces: ['['], annotations: [image]}]": "isn't a pattern",
		"image: a\nallow: [{namespaces: [a], annotations: [imag]}]":    `did you mean "image"?`,
	} {
		c, err := inject.ReadConfig([]byte(text))
		if err == nil {
			err = c.Check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in the error", text, err, want)
		}
	}
	if err := testConfig().Check(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	// A limit alone lowers the default request.
	c, err := inject.ReadConfig([]byte("image: a\nresources: {limits: {cpu: 50m}}"))
	if err != nil || c.Check() != nil || c.Resources.Requests.Cpu().String() != "50m" || c.Resources.Requests.Memory().String() != "64Mi" {
		t.Errorf("a limit below the default request: %+v, %v", c.Resources, errors.Join(err, c.Check()))
	}
}
