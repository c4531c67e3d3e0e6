package inject_test

import (
	"cmp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

const orders = `
metadata:
  name: orders
  labels: {culvert.dev/inject: enabled}
spec:
  containers:
    - name: orders
      image: orders:1
      ports: [{name: grpc, containerPort: 9000}]
`

func read(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	pod := new(corev1.Pod)
	if err := yaml.UnmarshalStrict([]byte(text), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

func testConfig() *inject.Config {
	c := inject.DefaultConfig()
	c.Image = "culvert:test"
	return &c
}

func TestPodGetsASidecar(t *testing.T) {
	pod := read(t, orders)
	result, err := inject.Pod(pod, inject.Namespace{Name: "shop"}, testConfig())
	if err != nil || result.Action != inject.Injected {
		t.Fatalf("%s: %v", result.Action, err)
	}
	if len(pod.Spec.InitContainers) != 0 {
		t.Error("the argument was modified")
	}
	c := inject.Sidecar(&result.Pod.Spec)
	if c == nil || c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
		t.Fatalf("no native sidecar: %+v", c)
	}
	values := map[string]string{}
	for _, v := range c.Env {
		values[v.Name] = v.Value
	}
	if got, want := values["CULVERT_BACKEND_ADDRESS"], "127.0.0.1:9000"; got != want {
		t.Errorf("the backend is %q, want %q", got, want)
	}

	again, err := inject.Pod(result.Pod, inject.Namespace{Name: "shop"}, testConfig())
	if err != nil || again.Action != inject.AlreadyInjected || !equality.Semantic.DeepEqual(again.Pod, result.Pod) {
		t.Errorf("the second time: %s, %v", again.Action, err)
	}
	clean, removed := inject.Remove(result.Pod)
	if !removed || !equality.Semantic.DeepEqual(clean, pod) {
		t.Errorf("after removal (%v): %+v", removed, clean)
	}
}

func TestWhoAsks(t *testing.T) {
	for _, row := range []struct {
		pod, namespace string
		want           inject.Action
	}{
		{"", "", inject.Skipped},
		{"", "enabled", inject.Injected},
		{"", "disabled", inject.Skipped},
		{"enabled", "", inject.Injected},
		{"enabled", "disabled", inject.Injected},
		{"disabled", "enabled", inject.Skipped},
	} {
		pod, ns := read(t, orders), inject.Namespace{Name: "shop", Labels: map[string]string{inject.Label: row.namespace}}
		pod.Labels[inject.Label] = row.pod
		if row.pod == "" {
			delete(pod.Labels, inject.Label)
		}
		result, err := inject.Pod(pod, ns, testConfig())
		if err != nil || result.Action != row.want {
			t.Errorf("pod %q in namespace %q: %s, %v, want %s", row.pod, row.namespace, result.Action, err, row.want)
		}
	}
}

// TestOthersInTheNamespace: the namespace's label is for its gRPC services. A pod that says
// more of culvert is a mistake without a port.
func TestOthersInTheNamespace(t *testing.T) {
	shop := inject.Namespace{Name: "shop", Labels: map[string]string{inject.Label: inject.Enabled}}
	pod := read(t, orders)
	delete(pod.Labels, inject.Label)
	pod.Spec.Containers[0].Ports[0].Name = "redis"
	result, err := inject.Pod(pod, shop, testConfig())
	if err != nil || result.Action != inject.Skipped || result.Reason != inject.NoPort || len(result.Warnings) > 0 || !equality.Semantic.DeepEqual(result.Pod, pod) {
		t.Errorf("%+v, %v", result, err)
	}
	for name, change := range map[string]func(*corev1.Pod){
		"an annotation": annotate("allow_origins", "https://app.example.com"),
		"its own label": func(p *corev1.Pod) { p.Labels[inject.Label] = inject.Enabled },
		"several of them": func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "grpc-a", ContainerPort: 1}, {Name: "grpc-b", ContainerPort: 2}}
		},
	} {
		asking := pod.DeepCopy()
		change(asking)
		if result, err := inject.Pod(asking, shop, testConfig()); err == nil {
			t.Errorf("%s: %+v, want an error", name, result)
		}
	}
}

// TestInitContainerIsNoBackend: an init container has ended when culvert could call it, so
// its port says nothing in a namespace that asks for culvert.
func TestInitContainerIsNoBackend(t *testing.T) {
	shop := inject.Namespace{Name: "shop", Labels: map[string]string{inject.Label: inject.Enabled}}
	pod := read(t, orders)
	delete(pod.Labels, inject.Label)
	pod.Spec.InitContainers = []corev1.Container{{Name: "prepare", Image: "i", Ports: pod.Spec.Containers[0].Ports}}
	pod.Spec.Containers[0].Ports = nil
	result, err := inject.Pod(pod, shop, testConfig())
	if err != nil || result.Action != inject.Skipped || result.Reason != inject.NoPort {
		t.Errorf("%+v, %v", result, err)
	}
	pod.Labels[inject.Label] = inject.Enabled
	if result, err := inject.Pod(pod, shop, testConfig()); err == nil {
		t.Errorf("with its own label: %+v, want an error", result)
	}
}

// TestCopiedPod copies an injected pod without its init containers, as
// "kubectl debug --copy-to --keep-init-containers=false" does, and injects the copy.
func TestCopiedPod(t *testing.T) {
	free := inject.Namespace{Name: "free", Labels: map[string]string{inject.Label: inject.Enabled}} // it may have all annotations
	for name, row := range map[string]struct{ before, after func(*corev1.Pod) }{
		"labels and annotations are lost": {func(*corev1.Pod) {}, func(p *corev1.Pod) { p.Labels, p.Annotations = nil, nil }},
		"annotations are kept":            {func(*corev1.Pod) {}, func(*corev1.Pod) {}},
		"with a configuration of its own, which is lost": {
			annotate("config", "orders-culvert"), func(p *corev1.Pod) { p.Labels, p.Annotations = nil, nil },
		},
		"with a grace period that was raised": {
			func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(5)) }, func(*corev1.Pod) {},
		},
		"with a certificate": {annotate("tls-secret", "orders-tls"), func(*corev1.Pod) {}},
	} {
		t.Run(name, func(t *testing.T) {
			pod, config := read(t, orders), testConfig()
			row.before(pod)
			config.Allow = []inject.Allowance{{Namespaces: []string{"free"}, Annotations: []string{"config", "tls-secret"}}}
			injected, err := inject.Pod(pod, free, config)
			if err != nil {
				t.Fatal(err)
			}
			fromAPIServer := injected.Pod.DeepCopy()
			fromAPIServer.Spec.InitContainers = nil
			for i := range fromAPIServer.Spec.Volumes {
				if d := fromAPIServer.Spec.Volumes[i].DownwardAPI; d != nil {
					d.DefaultMode = new(int32(0o644))
				}
			}
			row.after(fromAPIServer)
			again, err := inject.Pod(fromAPIServer, free, config)
			if err != nil || again.Action != inject.Injected {
				t.Fatalf("%+v, %v", again, err)
			}
			names := map[string]bool{}
			for _, v := range again.Pod.Spec.Volumes {
				if names[v.Name] {
					t.Errorf("two volumes are named %s", v.Name)
				}
				names[v.Name] = true
			}
			for _, m := range inject.Sidecar(&again.Pod.Spec).VolumeMounts {
				if !names[m.Name] {
					t.Errorf("culvert mounts %s, which the pod doesn't have", m.Name)
				}
			}
		})
	}
}

func withVolume(change func(*corev1.Pod)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "data"})
		change(p)
	}
}

func TestRefusedPods(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"a label that is neither":      {func(p *corev1.Pod) { p.Labels[inject.Label] = "true" }, `"true" is neither "enabled" nor "disabled"`},
		"an unknown annotation":        {annotate("backendport", "9000"), `did you mean "backend-port"?`},
		"a malformed port":             {annotate("listen-port", "0"), "write a number from 1 to 65535"},
		"an image without leave":       {annotate("image", "other:1"), `not allowed in namespace "shop"`},
		"a limit that culvert refuses": {annotate("limits.message_bytes", "much"), "culvert.dev/limits.message_bytes"},
		"a limit out of its range":     {annotate("limits.calls_per_connection", "1000000"), "annotation culvert.dev/limits.calls_per_connection: "},
		"a limit below another one":    {annotate("limits.buffered_bytes", "64KiB"), "culvert.dev/limits.buffered_bytes: "},
		"too little memory":            {annotate("limits.memory", "64KiB"), "culvert.dev/limits.memory: "},
		"more memory than there is":    {annotate("limits.memory", "257MiB"), "more than the container has (256Mi)"},
		"a mount without a path":       {restrictedly(withVolume(annotate("mounts", `[{"name": "data"}]`))), `mountPath "" of data isn't an absolute path`},
		"a mount over culvert's own":   {restrictedly(withVolume(annotate("mounts", `[{"name": "data", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]`))), "something is mounted at /var/run/secrets/kubernetes.io/serviceaccount already"},
		"no port named grpc":           {func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].Name = "http" }, "set the annotation culvert.dev/backend-port"},
		"several ports named grpc": {func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{Name: "grpc-admin", ContainerPort: 9001})
		}, "grpc (9000, container orders), grpc-admin (9001, container orders)"},
		"a port that culvert uses": {func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{ContainerPort: 15080})
		}, "port 15080 of container orders is also culvert's port for clients"},
		"the rest of another pod":  {annotate("grace-period-was", "5"), "culvert.dev/grace-period-was: it is from a pod that the injector has changed: remove it"},
		"an image without a name":  {restrictedly(annotate("image", "")), "isn't the name of an image"},
		"text after the arguments": {restrictedly(annotate("args", `["a"]]`)), "text after the JSON"},
		"a limit of the whole pod": {resourcesOfThePod("128Mi", corev1.ResourceRequirements{Limits: corev1.ResourceList{"memory": resource.MustParse("128Mi")}}), "spec.resources.limits of the pod has 128Mi of memory, and culvert's own limit is 256Mi"},
		"an ordinary init container": {func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "culvert", Ports: []corev1.ContainerPort{{Name: "culvert", ContainerPort: 1}}}}
		}, "the init container culvert has no restartPolicy: Always"},
		"another container culvert": {func(p *corev1.Pod) { p.Spec.Containers[0].Name = "culvert" }, "has no port named culvert"},
		"a volume of that name":     {func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "culvert-config"}} }, "a volume is named culvert-config"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := read(t, orders)
			row.change(pod)
			c := testConfig()
			c.Allow = []inject.Allowance{{Namespaces: []string{"free"}, Annotations: []string{"args", "image", "mounts"}}}
			_, err := inject.Pod(pod, inject.Namespace{Name: cmp.Or(pod.Namespace, "shop")}, c)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("the error is %v, want %q in it", err, row.want)
			}
		})
	}
}

// resourcesOfThePod sets what the service requests, and the resources of the whole pod.
func resourcesOfThePod(service string, whole corev1.ResourceRequirements) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"memory": resource.MustParse(service)}
		p.Spec.Resources = &whole
	}
}

// restrictedly changes a pod of the namespace that may have restricted annotations.
func restrictedly(change func(*corev1.Pod)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Namespace = "free"
		change(p)
	}
}

func annotate(name, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations = map[string]string{inject.AnnotationPrefix + name: value} }
}

func TestNeverInjected(t *testing.T) {
	for name, row := range map[string]struct {
		namespace string
		change    func(*corev1.Pod)
	}{
		"Kubernetes' own namespace": {"kube-system", func(*corev1.Pod) {}},
		"Windows":                   {"shop", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }},
		"Windows by node":           {"shop", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelOSStable: "windows"} }},
		"Windows by affinity":       {"shop", onNodes([]string{"windows"}, []string{"windows"})},
		"the node's network":        {"shop", func(p *corev1.Pod) { p.Spec.HostNetwork = true }},
		"with a wrong label":        {"kube-system", func(p *corev1.Pod) { p.Labels[inject.Label] = "true" }},
	} {
		t.Run(name, func(t *testing.T) {
			pod := read(t, orders)
			row.change(pod)
			result, err := inject.Pod(pod, inject.Namespace{Name: row.namespace}, testConfig())
			if err != nil || result.Action != inject.Skipped || result.Reason == "" || (len(result.Warnings) == 1) != (pod.Labels[inject.Label] == inject.Enabled) {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

// onNodes lets a pod run on nodes with one of the operating systems of a term, by any of
// the terms.
func onNodes(terms ...[]string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		var of corev1.NodeSelector
		for _, systems := range terms {
			of.NodeSelectorTerms = append(of.NodeSelectorTerms, corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: corev1.LabelArchStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"amd64"}},
				{Key: corev1.LabelOSStable, Operator: corev1.NodeSelectorOpIn, Values: systems},
			}})
		}
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &of}}
	}
}

// TestMixedNodes injects pods that may run on Linux, too.
func TestMixedNodes(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"either system in a term": onNodes([]string{"windows", "linux"}),
		"either term":             onNodes([]string{"windows"}, []string{"linux"}),
		"no required terms":       func(p *corev1.Pod) { p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}} },
	} {
		t.Run(name, func(t *testing.T) {
			pod := read(t, orders)
			change(pod)
			injected(t, pod, testConfig())
		})
	}
}

// TestSharedRequests has pods with requests of their own, for all containers together.
func TestSharedRequests(t *testing.T) {
	memory := func(q string) corev1.ResourceList { return corev1.ResourceList{"memory": resource.MustParse(q)} }
	for name, row := range map[string]struct {
		pod, service, first string // requests; first: of an init container
		want                string // culvert's request
	}{
		"room":                   {"96Mi", "32Mi", "0", "64Mi"},
		"no room":                {"95Mi", "32Mi", "0", "0"},
		"as the API server does": {"32Mi", "32Mi", "0", "0"},
		"room at the start":      {"128Mi", "32Mi", "64Mi", "64Mi"},
		"no room at the start":   {"127Mi", "32Mi", "64Mi", "0"},
		"a fraction":             {"4Gi", "32Mi", "1.5Gi", "64Mi"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := read(t, orders)
			resourcesOfThePod(row.service, corev1.ResourceRequirements{Requests: memory(row.pod)})(pod)
			pod.Spec.InitContainers = []corev1.Container{{Name: "first", Resources: corev1.ResourceRequirements{Requests: memory(row.first)}}}
			config, before := testConfig(), pod.DeepCopy()
			result, err := inject.Pod(pod, inject.Namespace{Name: "shop"}, config)
			if err != nil {
				t.Fatal(err)
			}
			got, want := inject.Sidecar(&result.Pod.Spec).Resources.Requests["memory"], resource.MustParse(row.want)
			if !got.Equal(want) || strings.Contains(strings.Join(result.Warnings, "\n"), "culvert requests no memory") != want.IsZero() {
				t.Errorf("culvert requests %v, want %v; warnings %q", got.String(), row.want, result.Warnings)
			}
			if !equality.Semantic.DeepEqual(config, testConfig()) || !equality.Semantic.DeepEqual(pod, before) {
				t.Errorf("the configuration or the argument has changed: %+v, %+v", config, pod)
			}
		})
	}
}

// TestSharedLimits has pods without requests: the API server takes limits instead.
func TestSharedLimits(t *testing.T) {
	list := func(q string) corev1.ResourceList { return corev1.ResourceList{"memory": resource.MustParse(q)} }
	for name, row := range map[string]struct {
		pod, service corev1.ResourceRequirements
		shares       bool
	}{
		"a container's limit":           {corev1.ResourceRequirements{Requests: list("128Mi")}, corev1.ResourceRequirements{Limits: list("128Mi")}, true},
		"the pod's limit":               {corev1.ResourceRequirements{Limits: list("256Mi")}, corev1.ResourceRequirements{Requests: list("250Mi")}, true},
		"room within the pod's limit":   {corev1.ResourceRequirements{Limits: list("256Mi")}, corev1.ResourceRequirements{Requests: list("192Mi")}, false},
		"room beside a container's":     {corev1.ResourceRequirements{Requests: list("192Mi")}, corev1.ResourceRequirements{Limits: list("128Mi")}, false},
		"the pod's request comes first": {corev1.ResourceRequirements{Requests: list("128Mi"), Limits: list("1Gi")}, corev1.ResourceRequirements{Requests: list("128Mi")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			pod := read(t, orders)
			pod.Spec.Resources, pod.Spec.Containers[0].Resources = &row.pod, row.service
			_, sidecar := injected(t, pod, testConfig())
			if q := sidecar.Resources.Requests["memory"]; q.IsZero() != row.shares {
				t.Errorf("culvert requests %v", q.String())
			}
		})
	}
}

// TestLostQuality has a pod whose class of service gets worse, and some whose doesn't.
func TestLostQuality(t *testing.T) {
	both := corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("64Mi")}
	equal := testConfig()
	equal.Resources = corev1.ResourceRequirements{Limits: both, Requests: both}
	for name, row := range map[string]struct {
		config  *inject.Config
		service corev1.ResourceRequirements
		warns   bool
	}{
		"a Guaranteed pod":       {testConfig(), corev1.ResourceRequirements{Limits: both}, true},
		"culvert is as strict":   {equal, corev1.ResourceRequirements{Limits: both}, false},
		"a Burstable pod":        {testConfig(), corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("1")}}, false},
		"requests below a limit": {testConfig(), corev1.ResourceRequirements{Limits: both, Requests: corev1.ResourceList{"cpu": resource.MustParse("1m")}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := read(t, orders)
			pod.Spec.Containers[0].Resources = row.service
			result, err := inject.Pod(pod, inject.Namespace{Name: "shop"}, row.config)
			if err != nil || strings.Contains(strings.Join(result.Warnings, "\n"), "becomes Burstable") != row.warns {
				t.Errorf("warnings %q, %v", result.Warnings, err)
			}
		})
	}
}

func TestPortsBelow1024AreWarnedOf(t *testing.T) {
	for port, warns := range map[string]bool{"443": true, "1024": false} {
		pod := read(t, orders)
		annotate("listen-port", port)(pod)
		result, err := inject.Pod(pod, inject.Namespace{Name: "shop"}, testConfig())
		if err != nil || strings.Contains(strings.Join(result.Warnings, "\n"), "below 1024") != warns {
			t.Errorf("port %s: warnings %q, %v", port, result.Warnings, err)
		}
	}
}

// TestGracePeriodIsRaisedLater has a pod with culvert, to which another injector adds a
// sidecar with a pause.
func TestGracePeriodIsRaisedLater(t *testing.T) {
	ns := inject.Namespace{Name: "shop"}
	for name, own := range map[string]*int64{"of 10 s": new(int64(10)), "of 40 s": new(int64(40)), "none": nil} {
		t.Run(name, func(t *testing.T) {
			before := read(t, orders)
			before.Spec.TerminationGracePeriodSeconds = own
			pod, _ := injected(t, before, testConfig())
			always := corev1.ContainerRestartPolicyAlways
			later := corev1.Container{Name: "mesh", RestartPolicy: &always, Lifecycle: &corev1.Lifecycle{
				PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 60}},
			}}
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, later)
			result, err := inject.Pod(pod, ns, testConfig())
			if err != nil || result.Action != inject.AlreadyInjected || inject.GracePeriod(result.Pod) != 82 || len(result.Warnings) != 1 {
				t.Fatalf("%s, %v, %d s, %q: want 82 s and a warning", result.Action, err, inject.GracePeriod(result.Pod), result.Warnings)
			}
			if ops, _, err := inject.Operations(pod, ns, testConfig()); err != nil || len(ops) != 2 {
				t.Errorf("the patch is %v (%v), want the grace period and an annotation", ops, err)
			}
			if again, err := inject.Pod(result.Pod, ns, testConfig()); err != nil || !equality.Semantic.DeepEqual(again.Pod, result.Pod) || again.Warnings != nil {
				t.Errorf("the second time: %+v, %v", again, err)
			}
			before.Spec.InitContainers = append(before.Spec.InitContainers, later)
			if clean, _ := inject.Remove(result.Pod); !equality.Semantic.DeepEqual(clean, before) {
				t.Errorf("after removal: %+v, want %+v", clean, before)
			}
		})
	}
}

// TestGracePeriodOfSomebodyElse sets another grace period after injection, which stays
// when culvert is removed.
func TestGracePeriodOfSomebodyElse(t *testing.T) {
	pod := read(t, orders)
	pod.Spec.TerminationGracePeriodSeconds = new(int64(10))
	pod, _ = injected(t, pod, testConfig())
	pod.Spec.TerminationGracePeriodSeconds = new(int64(90))
	clean, _ := inject.Remove(pod)
	if _, left := clean.Annotations[inject.GraceAnnotation]; left || inject.GracePeriod(clean) != 90 {
		t.Errorf("after removal: %d s, annotations %v, want 90 s and none of culvert's", inject.GracePeriod(clean), clean.Annotations)
	}
}

// TestGracePeriodOfAnotherPause changes the pause of an application after injection: the
// earlier grace period comes back all the same, when culvert is removed.
func TestGracePeriodOfAnotherPause(t *testing.T) {
	pod := read(t, orders)
	pod.Spec.TerminationGracePeriodSeconds = new(int64(10))
	pause := func(seconds int64) *corev1.Lifecycle {
		return &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}}}
	}
	pod.Spec.Containers[0].Lifecycle = pause(10)
	pod, _ = injected(t, pod, testConfig())
	pod.Spec.Containers[0].Lifecycle = pause(15)
	if clean, _ := inject.Remove(pod); inject.GracePeriod(clean) != 10 {
		t.Errorf("after removal it is %d s, want 10 s", inject.GracePeriod(clean))
	}

	// One that somebody has set, and that is too short, is raised and comes back.
	pod.Spec.TerminationGracePeriodSeconds = new(int64(20))
	result, err := inject.Pod(pod, inject.Namespace{Name: "shop"}, testConfig())
	if err != nil || inject.GracePeriod(result.Pod) != 37 {
		t.Fatalf("%d s, %v, want 37 s", inject.GracePeriod(result.Pod), err)
	}
	if clean, _ := inject.Remove(result.Pod); inject.GracePeriod(clean) != 20 {
		t.Errorf("after removal it is %d s, want 20 s", inject.GracePeriod(clean))
	}
}

func TestGracePeriodIsRaised(t *testing.T) {
	pod := read(t, orders)
	pod.Spec.TerminationGracePeriodSeconds = new(int64(10))
	result, err := inject.Pod(pod, inject.Namespace{Name: "shop"}, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	if got := *result.Pod.Spec.TerminationGracePeriodSeconds; got != 27 { // 5 s, 20 s, and 2 s to spare
		t.Errorf("it is %d, want 27", got)
	}
	if clean, _ := inject.Remove(result.Pod); *clean.Spec.TerminationGracePeriodSeconds != 10 {
		t.Errorf("after removal it is %d, want 10", *clean.Spec.TerminationGracePeriodSeconds)
	}
}

func TestPatchAdds(t *testing.T) {
	ops, result, err := inject.Operations(read(t, orders), inject.Namespace{Name: "shop"}, testConfig())
	if err != nil || result.Action != inject.Injected || len(ops) == 0 {
		t.Fatal(ops, result, err)
	}
	for _, op := range ops {
		if op.Op != "add" {
			t.Errorf("%s %s: a patch only adds", op.Op, op.Path)
		}
	}
}
