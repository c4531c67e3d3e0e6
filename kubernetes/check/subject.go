package check

import (
	"cmp"
	"iter"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// A subject is a workload and its pods, or pods without a known workload. The checks
// look at one subject at a time, so that a thousand equal pods make one finding.
type subject struct {
	object          string // "Deployment shop/orders"
	kind, name      string
	ns              inject.Namespace
	template        *corev1.Pod // what new pods are made of; without a workload, one of the pods
	workload        bool
	label           string // the workload's own label, which has no effect; empty: it has none
	pods            []*corev1.Pod
	selector        *metav1.LabelSelector // nil: no label selects the pods
	err             error                 // why culvert is refused
	result          inject.Result         // of the template without culvert
	sidecar         *corev1.Container
	pod             *corev1.Pod // with the sidecar; nil: it has none and gets none
	listen, health  int32
	backend         int32 // 0: not in the pod
	templateHas     bool  // the workload's template has the sidecar: inject was called on the manifest
	having, lacking int   // how many of the pods have culvert
}

// asks reports whether the labels ask for culvert.
func (s *subject) asks() bool { return s.err != nil || s.result.Action == inject.Injected }

// subjects joins workloads and pods.
func (s *Snapshot) subjects(c *inject.Config) []*subject {
	byName := map[string]*subject{}
	var all []*subject
	add := func(kind, namespace, name string, template *corev1.Pod, workload bool) *subject {
		sub := &subject{
			object: objectName(kind, namespace, name), kind: kind, name: name,
			ns: s.namespace(namespace), template: template, workload: workload,
		}
		byName[sub.object] = sub
		all = append(all, sub)
		return sub
	}
	for _, w := range s.workloads {
		pod := &corev1.Pod{ObjectMeta: *w.template.ObjectMeta.DeepCopy(), Spec: w.template.Spec}
		pod.Namespace = w.meta.Namespace
		sub := add(w.kind, w.meta.Namespace, w.meta.Name, pod, true)
		sub.selector, sub.label = w.selector, w.meta.Labels[inject.Label]
	}
	for _, pod := range s.pods {
		kind, name := "Pod", cmp.Or(pod.Name, pod.GenerateName)
		for k, n := range makers(pod) {
			kind, name = k, n
			if byName[objectName(kind, pod.Namespace, name)] != nil {
				break
			}
		}
		sub := byName[objectName(kind, pod.Namespace, name)]
		if sub == nil {
			sub = add(kind, pod.Namespace, name, pod, false)
		}
		sub.pods = append(sub.pods, pod)
	}
	for _, sub := range all {
		sub.inspect(c)
	}
	slices.SortStableFunc(all, func(a, b *subject) int { return cmp.Compare(a.object, b.object) })
	return all
}

// cronJobSuffix ends the name of a Job of a CronJob, with the minute of its time.
var cronJobSuffix = regexp.MustCompile(`-\d+$`)

// makers returns the kinds and names of the workloads that may have made a pod, the
// nearest last. The names of ReplicaSets and of CronJobs' Jobs begin with their
// owners', which saves reading these.
func makers(pod *corev1.Pod) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		owner := metav1.GetControllerOfNoCopy(pod)
		if owner == nil {
			return
		}
		hash := pod.Labels[hashOfReplicaSets]
		if deployment, cut := strings.CutSuffix(owner.Name, "-"+hash); owner.Kind == "ReplicaSet" && hash != "" && cut {
			yield("Deployment", deployment)
			return
		}
		if at := cronJobSuffix.FindStringIndex(owner.Name); owner.Kind == "Job" && at != nil {
			if !yield("CronJob", owner.Name[:at[0]]) {
				return
			}
		}
		yield(owner.Kind, owner.Name)
	}
}

// inspect fills in what the pod has, and what it would get.
func (s *subject) inspect(c *inject.Config) {
	clean, had := inject.Remove(s.template)
	s.templateHas = had && s.workload
	s.result, s.err = inject.Pod(clean, s.ns, c)
	for _, pod := range s.pods {
		if inject.Sidecar(&pod.Spec) == nil {
			s.lacking++
			continue
		}
		s.having++
		s.pod = cmp.Or(s.pod, pod)
	}
	switch {
	case had:
		s.pod = s.template
	case s.asks() && s.err == nil:
		s.pod = s.result.Pod
	case s.pod == nil:
		return
	}
	s.sidecar = inject.Sidecar(&s.pod.Spec)
	for _, p := range s.sidecar.Ports {
		switch p.Name {
		case inject.PortName:
			s.listen = p.ContainerPort
		case inject.HealthPortName:
			s.health = p.ContainerPort
		}
	}
	host, port, err := net.SplitHostPort(variable(s.sidecar, "CULVERT_BACKEND_ADDRESS"))
	if ip := net.ParseIP(host); err == nil && (host == "localhost" || ip != nil && ip.IsLoopback()) {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			s.backend = int32(n)
		}
	}
	if labels := withoutOurs(s.template.Labels); s.selector == nil && len(labels) > 0 {
		s.selector = &metav1.LabelSelector{MatchLabels: labels}
	}
}

// serviceSelector returns the labels by which a Service selects the pods. Services know
// no expressions.
func (s *subject) serviceSelector() map[string]string {
	switch {
	case s.selector == nil:
		return nil
	case len(s.selector.MatchExpressions) > 0:
		return withoutOurs(s.template.Labels)
	}
	return s.selector.MatchLabels
}

// withoutOurs returns the labels that can select the pods of a workload.
func withoutOurs(labels map[string]string) map[string]string {
	selector := maps.Clone(labels)
	maps.DeleteFunc(selector, func(name, _ string) bool {
		return slices.Contains([]string{
			inject.Label, hashOfReplicaSets, "controller-revision-hash", "pod-template-generation",
			"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "controller-uid", "job-name",
		}, name) || strings.HasPrefix(name, "batch.kubernetes.io/")
	})
	return selector
}

func variable(c *corev1.Container, name string) string {
	for _, v := range c.Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// onLoopback reports whether a container's command or variables name the backend's port on the
// loopback. It then listens there alone, or else is a client, which is unusual.
func (s *subject) onLoopback() bool {
	for _, c := range s.others() {
		for _, text := range c.Args {
			if m := loopbackAddress.FindStringSubmatch(text); m != nil && m[1] == strconv.Itoa(int(s.backend)) {
				return true
			}
		}
	}
	return false
}

// others returns the containers that run with the application, except culvert.
func (s *subject) others() []*corev1.Container {
	var all []*corev1.Container
	for i := range s.pod.Spec.InitContainers {
		c := &s.pod.Spec.InitContainers[i]
		if c != s.sidecar && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			all = append(all, c)
		}
	}
	for i := range s.pod.Spec.Containers {
		if c := &s.pod.Spec.Containers[i]; c != s.sidecar {
			all = append(all, c)
		}
	}
	return all
}
