package inject

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Label on a pod or its namespace asks for culvert, or opts out. The pod's label
// wins over its namespace's.
const (
	Label    = "culvert.dev/inject"
	Enabled  = "enabled"
	Disabled = "disabled"
)

// SystemNamespaces are Kubernetes' own, which are never injected. A cluster must
// start without an injector.
var SystemNamespaces = []string{"kube-system", "kube-public", "kube-node-lease"}

// An asking is who asked for culvert.
type asking struct {
	in    bool // the pod gets culvert
	byPod bool // the pod's own label asks for it
}

// asks decides whether the pod gets culvert, and says why not.
func asks(pod *corev1.Pod, ns Namespace, c *Config) (asking, string, error) {
	label, labelled := pod.Labels[Label]
	a := asking{byPod: label == Enabled}
	if why := neverInjected(pod, ns, c); why != "" {
		return a, why, nil
	}
	switch {
	case labelled && label != Enabled && label != Disabled:
		return asking{}, "", fmt.Errorf("label %s: %q is neither %q nor %q", Label, label, Enabled, Disabled)
	case label == Disabled:
		return a, fmt.Sprintf("the pod's label %s is %s", Label, Disabled), nil
	case label == Enabled, ns.Labels[Label] == Enabled:
		a.in = true
		return a, "", nil
	}
	return a, fmt.Sprintf("neither the pod nor its namespace has the label %s: %s", Label, Enabled), nil
}

// neverInjected returns why no label can inject the pod, or "".
func neverInjected(pod *corev1.Pod, ns Namespace, c *Config) string {
	spec := &pod.Spec
	switch {
	case slices.Contains(SystemNamespaces, ns.Name):
		return fmt.Sprintf("the namespace %s is Kubernetes' own", ns.Name)
	case slices.Contains(c.ExcludedNamespaces, ns.Name):
		return fmt.Sprintf("the injector's configuration excludes the namespace %s", ns.Name)
	case forWindows(spec):
		return "the pod is for Windows, and culvert's image is for Linux"
	case spec.HostNetwork && !c.HostNetwork:
		return "the pod has hostNetwork, so culvert's ports would be the node's: the injector's configuration doesn't allow that"
	case pod.Annotations[corev1.MirrorPodAnnotationKey] != "":
		return "it is the copy of a static pod, which the API server can't change"
	}
	return ""
}

// forWindows reports whether the pod runs on Windows only.
func forWindows(spec *corev1.PodSpec) bool {
	if spec.OS != nil && spec.OS.Name == corev1.Windows || spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows) {
		return true
	}
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil || spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return false
	}
	// A node fits that fits one of the terms.
	terms := spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	return len(terms) > 0 && !slices.ContainsFunc(terms, func(term corev1.NodeSelectorTerm) bool {
		return !slices.ContainsFunc(term.MatchExpressions, func(r corev1.NodeSelectorRequirement) bool {
			return r.Key == corev1.LabelOSStable && r.Operator == corev1.NodeSelectorOpIn && slices.Equal(r.Values, []string{string(corev1.Windows)})
		})
	})
}
