package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// namespaces finds labels of namespaces that have no effect.
func (c *checker) namespaces() {
	for _, name := range slices.Sorted(maps.Keys(c.snapshot.namespaces)) {
		label, labelled := c.snapshot.namespaces[name].Labels[inject.Label]
		if !labelled || label == inject.Enabled || label == inject.Disabled {
			continue
		}
		remedy := fmt.Sprintf("kubectl label namespace %s %s=%s --overwrite", name, inject.Label, inject.Enabled)
		if len(validation.IsDNS1123Label(name)) > 0 { // nobody may copy it into a shell
			remedy = ""
		}
		c.add(Warning, objectName("Namespace", "", name), fmt.Sprintf("label %s: %q is neither %q nor %q: its pods get no culvert, except those with a label of their own",
			inject.Label, label, inject.Enabled, inject.Disabled), remedy)
	}
}

// injection says which of the subject's pods have culvert, and which get it.
func (c *checker) injection(s *subject) {
	switch {
	case s.err != nil:
		c.Summary.Refused++
		for line := range strings.Lines(s.err.Error()) {
			c.add(Error, s.object, "refused: "+strings.TrimRight(line, "\n"), "")
		}
	case !s.asks():
		c.unasked(s)
	case s.templateHas || s.having > 0 && s.lacking == 0:
		c.Summary.Injected++
	case s.having == 0 && s.lacking == 0:
		c.Summary.Waiting++
		c.add(Note, s.object, "new pods get culvert", "")
	default:
		c.Summary.Waiting++
		c.add(Warning, s.object, fmt.Sprintf("pods without culvert: %d of %d. They were made before the label was set, or while the injector wasn't there",
			s.lacking, len(s.pods)), s.remake())
	}
	if s.asks() && !s.templateHas && s.having == 0 {
		for _, w := range s.result.Warnings {
			c.add(Note, s.object, "when injected: "+w, "")
		}
	}
	if _, own := s.template.Labels[inject.Label]; s.label != "" && !own && !(s.label == inject.Enabled && s.asks()) {
		c.add(Warning, s.object, fmt.Sprintf("its label %s: %s has no effect: only those of the pod and of the namespace have one", inject.Label, s.label),
			"move the label to "+s.templateLabels())
	}
	c.limitRanges(s)
	c.leftovers(s)
	c.outdated(s)
	c.version(s)
}

// templateLabels returns the field with the labels of a workload's pods.
func (s *subject) templateLabels() string {
	switch s.kind {
	case "CronJob":
		return "spec.jobTemplate.spec.template.metadata.labels"
	case "PodTemplate":
		return "template.metadata.labels"
	}
	return "spec.template.metadata.labels"
}

// unasked is for a subject whose labels don't ask.
func (c *checker) unasked(s *subject) {
	switch {
	case s.templateHas:
		c.Summary.Injected++
	case s.having > 0:
		c.Summary.Injected++
		if !s.workload && (!slices.Contains(workloadKinds, s.kind) || c.snapshot.Unread[s.kind] != "") {
			return // what makes its pods isn't known, and may put culvert into them
		}
		c.add(Warning, s.object, fmt.Sprintf("pods with culvert: %d of %d. New ones don't get it: %s", s.having, len(s.pods), s.result.Reason),
			fmt.Sprintf("set the label %s: %s, or make the pods again without culvert: %s", inject.Label, inject.Enabled, s.remake()))
	case s.result.Warnings != nil:
		for _, w := range s.result.Warnings {
			c.add(Warning, s.object, w, "")
		}
	case s.result.Reason == inject.NoPort:
		c.add(Note, s.object, "gets no culvert: "+inject.NoPort,
			fmt.Sprintf("if it is a gRPC service, name its port grpc, or set the annotation %sbackend-port to the port's number", inject.AnnotationPrefix))
	default:
		for _, name := range slices.Sorted(maps.Keys(s.template.Annotations)) {
			if strings.HasPrefix(name, inject.AnnotationPrefix) && name != inject.GraceAnnotation && s.template.Labels[inject.Label] != inject.Disabled {
				c.add(Warning, s.object, fmt.Sprintf("the annotation %s does nothing: %s", name, s.result.Reason),
					fmt.Sprintf("set the label %s: %s on the pod or its namespace, or remove the annotation", inject.Label, inject.Enabled))
				return
			}
		}
	}
}

// remake says how the pods are made again.
func (s *subject) remake() string {
	switch s.kind {
	case "Deployment", "StatefulSet", "DaemonSet":
		return fmt.Sprintf("kubectl rollout restart %s/%s -n %s", strings.ToLower(s.kind), s.name, s.ns.Name)
	case "CronJob":
		return "its next Job has new pods"
	case "Pod":
		return "delete the pod and make it again"
	}
	return "delete its pods, so that new ones are made"
}

// unready returns the steps after which all pods have culvert. Until then, pods without
// it lose their clients to targetPort: culvert and to a closed backend's port.
func (s *subject) unready() []string {
	var steps []string
	if s.workload && !s.asks() && !s.templateHas {
		steps = append(steps, fmt.Sprintf("set the label %s: %s", inject.Label, inject.Enabled))
	}
	if s.lacking > 0 {
		steps = append(steps, fmt.Sprintf("give all pods culvert (%s)", s.remake()))
	}
	return steps
}

// after returns a remedy that cuts clients off unless other steps come first.
func after(steps []string, remedy string) string {
	if len(steps) == 0 {
		return remedy
	}
	return "first " + strings.Join(steps, ", then ") + ". Then " + remedy
}

// leftovers finds traces of culvert without culvert: someone removed the container
// by hand, or copied the rest of a pod.
func (c *checker) leftovers(s *subject) {
	if s.err != nil || inject.Sidecar(&s.template.Spec) != nil { // a refusal is about them, too
		return
	}
	leftover := func(what string) {
		c.add(Error, s.object, fmt.Sprintf("the %s is from an injected pod, but the container %s is missing", what, inject.ContainerName), "remove it")
	}
	if _, left := s.template.Annotations[inject.GraceAnnotation]; left {
		leftover("annotation " + inject.GraceAnnotation)
	}
	for _, v := range s.template.Spec.Volumes {
		if inject.IsVolume(v) {
			leftover("volume " + v.Name)
		}
	}
}

// outdated compares the sidecars with those that pods get now.
func (c *checker) outdated(s *subject) {
	images := map[string]int{}
	var differing []string
	pods := s.pods
	if s.templateHas && len(pods) == 0 {
		pods = []*corev1.Pod{s.template}
	}
	for _, pod := range pods {
		have := inject.Sidecar(&pod.Spec)
		if have == nil {
			continue
		}
		images[have.Image]++
		if want := c.wanted(pod, have, s.ns.Name); want != nil {
			for _, text := range c.differences(have, want) {
				if !slices.Contains(differing, text) {
					differing = append(differing, text)
				}
			}
		}
	}
	if len(images) == 0 {
		return
	}
	texts := slices.Sorted(maps.Keys(images))
	if len(s.pods) > 0 {
		for i, image := range texts {
			texts[i] = fmt.Sprintf("%s (%s)", image, count(images[image], "pod"))
		}
	}
	c.add(Note, s.object, "has culvert: "+strings.Join(texts, ", "), "")
	if len(differing) == 0 {
		return
	}
	remedy := s.remake()
	if s.templateHas {
		remedy = "take culvert out of the manifest and put it in again: culvert-kube uninject -f FILE | culvert-kube inject -f - --sidecar-image " + cmp.Or(c.config.Image, "IMAGE")
		if c.known {
			remedy += " --config FILE, with the injector's configuration"
		}
	}
	c.add(Warning, s.object, fmt.Sprintf("culvert is outdated: the injector now sets %s", strings.Join(differing, ", ")), remedy)
}

// wanted returns the sidecar that the injector now gives to a pod with culvert; nil if none.
func (c *checker) wanted(pod *corev1.Pod, have *corev1.Container, namespace string) *corev1.Container {
	asking := inject.Namespace{Name: namespace, Labels: map[string]string{inject.Label: inject.Enabled}} // if it has culvert, compare it
	clean, _ := inject.Remove(pod)
	result, err := inject.Pod(clean, asking, c.config)
	if err != nil || result.Action != inject.Injected {
		return nil
	}
	// Limits that the injector doesn't set are a LimitRange's. It fits the sidecar to them
	// when the API server calls again.
	want := inject.Sidecar(&result.Pod.Spec)
	limits := corev1.ResourceList{}
	maps.Copy(limits, have.Resources.Limits)
	maps.Copy(limits, want.Resources.Limits)
	want.Resources.Limits = limits
	if result, err = inject.Pod(result.Pod, asking, c.config); err != nil {
		return nil
	}
	return inject.Sidecar(&result.Pod.Spec)
}

// differences returns what of the sidecar isn't as the injector makes it. Fields that
// the injector leaves unset are others' affair: the API server sets defaults.
func (c *checker) differences(have, want *corev1.Container) []string {
	var d []string
	if c.config.Image != "" && have.Image != want.Image {
		d = append(d, "image "+want.Image)
	}
	if !c.known {
		return d
	}
	h, w := tree(have), tree(want)
	delete(w, "image")
	// A sidecar in the ordinary form has no restartPolicy, and that is a choice.
	delete(w, "restartPolicy")
	for _, field := range slices.Sorted(maps.Keys(w)) {
		if field == "env" {
			d = append(d, variables(have, want)...)
		} else if !contains(h[field], w[field]) {
			d = append(d, field)
		}
	}
	return d
}

// variables returns the names of culvert's variables with other values.
func variables(have, want *corev1.Container) []string {
	names := map[string]bool{}
	for _, v := range slices.Concat(have.Env, want.Env) {
		if strings.HasPrefix(v.Name, "CULVERT_") && variable(have, v.Name) != variable(want, v.Name) {
			names["variable "+v.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// tree returns the container as the maps and lists of its JSON.
func tree(c *corev1.Container) map[string]any {
	text, err := json.Marshal(c)
	if err != nil {
		return nil // every container has JSON
	}
	var m map[string]any
	if json.Unmarshal(text, &m) != nil {
		return nil
	}
	return m
}

// contains reports whether have has everything of want. Lists of things with names
// may have more of them.
func contains(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		for key, value := range want {
			ok = ok && contains(h[key], value)
		}
		return ok
	case []any:
		h, ok := have.([]any)
		for i, w := range want {
			if _, named := name(w); named {
				ok = ok && slices.ContainsFunc(h, func(v any) bool { return contains(v, w) })
			} else {
				ok = ok && len(h) == len(want) && contains(h[i], w)
			}
		}
		return ok
	}
	return reflect.DeepEqual(have, want)
}

func name(v any) (string, bool) {
	m, _ := v.(map[string]any)
	s, named := m["name"].(string)
	return s, named
}

// The minor versions of Kubernetes that brought what injected pods need.
const (
	nativeSince = 29 // API server and kubelet start native sidecars without a feature gate
	namedSince  = 33 // Services find ports of native sidecars by name: kubernetes/kubernetes#128850
)

// older reports whether the API server is known to be older than Kubernetes 1.minor.
func (c *checker) older(minor int) bool {
	var major, its int
	n, _ := fmt.Sscanf(c.snapshot.Version, "v%d.%d", &major, &its) // n tells whether it failed
	return n == 2 && major == 1 && its < minor
}

// version finds API servers that would drop restartPolicy from an init container,
// which then never ends and keeps the pod from starting.
func (c *checker) version(s *subject) {
	if !c.older(nativeSince) || s.sidecar == nil || s.sidecar.RestartPolicy == nil {
		return
	}
	c.add(Error, s.object, fmt.Sprintf("the API server %s is older than 1.%d, which brought native sidecars: the pod would wait for culvert to end, forever",
		c.snapshot.Version, nativeSince), "upgrade Kubernetes, or write culvert as an ordinary container into the pod")
}

// port is how a Service names culvert's port.
func (c *checker) port(s *subject) intstr.IntOrString {
	if s.sidecar.RestartPolicy != nil && c.older(namedSince) {
		return intstr.FromInt32(s.listen)
	}
	return intstr.FromString(inject.PortName)
}
