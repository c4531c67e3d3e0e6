package inject

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// resources returns an error with a line for each of the pod's own limits that has no
// room for culvert. The API server would refuse the pod, without a word about culvert.
func resources(pod *corev1.Pod, c *Config) error {
	own := pod.Spec.Resources
	if own == nil {
		return nil
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(own.Limits)) {
		limit := own.Limits[name]
		if ours, has := c.Resources.Limits[name]; has && ours.Cmp(limit) > 0 {
			errs = append(errs, fmt.Errorf("spec.resources.limits of the pod has %s of %s, and culvert's own limit is %s: raise it", limit.String(), name, ours.String()))
		}
	}
	return errors.Join(errs...)
}

// shareRequests lets culvert request nothing of what the pod requests as a whole, where
// the pod has no room for culvert's own request. The API server refuses containers that
// request more than their pod. It makes up the pod's request itself, from the
// containers', before it calls an injector, if the pod has only limits.
func shareRequests(pod *corev1.Pod, sidecar *corev1.Container) (warnings []string) {
	if pod.Spec.Resources == nil {
		return nil
	}
	room := maps.Clone(pod.Spec.Resources.Limits)
	if room == nil {
		room = corev1.ResourceList{}
	}
	maps.Copy(room, pod.Spec.Resources.Requests)
	for _, name := range slices.Sorted(maps.Keys(room)) {
		most, ours := room[name], requestOf(sidecar, name)
		sum := Together(pod, func(c *corev1.Container) resource.Quantity { return requestOf(c, name) })
		sum.Add(ours) // it stands in front of the others
		if ours.IsZero() || sum.Cmp(most) <= 0 {
			continue
		}
		if sidecar.Resources.Requests == nil {
			sidecar.Resources.Requests = corev1.ResourceList{}
		}
		sidecar.Resources.Requests[name] = resource.Quantity{}
		warnings = append(warnings, fmt.Sprintf("culvert requests no %s: spec.resources of the pod has %s, and the other containers need it. Raise it to %s", name, most.String(), sum.String()))
	}
	return warnings
}

// requestOf returns what a container requests. A request that isn't set is the limit.
func requestOf(c *corev1.Container, name corev1.ResourceName) resource.Quantity {
	q, has := c.Resources.Requests[name]
	if !has {
		q = c.Resources.Limits[name]
	}
	return q
}

// Together returns how much of a resource a pod's containers use at most, by what each uses:
// all that run together, or an init container with the sidecars before it.
func Together(pod *corev1.Pod, of func(*corev1.Container) resource.Quantity) resource.Quantity {
	var running, most resource.Quantity
	for _, c := range containersOf(pod) {
		q := of(c.Container).DeepCopy() // Add may change a copy's original
		if c.sidecar {
			running.Add(q)
			continue
		}
		if q.Add(running); q.Cmp(most) > 0 {
			most = q
		}
	}
	if running.Cmp(most) > 0 {
		return running
	}
	return most
}

// lostQuality warns if the pod's class of service gets worse because of culvert.
// https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
func lostQuality(pod *corev1.Pod, sidecar *corev1.Container) (warnings []string) {
	if pod.Spec.Resources != nil || guaranteed(sidecar) || slices.ContainsFunc(containersOf(pod), func(c namedContainer) bool { return !guaranteed(c.Container) }) {
		return nil
	}
	return []string{"the pod's QoS class becomes Burstable instead of Guaranteed, because culvert's requests differ from its limits: both are in the injector's configuration, under resources"}
}

// guaranteed reports whether the container has limits of CPU and memory, and requests
// that much.
func guaranteed(c *corev1.Container) bool {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		limit := c.Resources.Limits[name]
		if request := requestOf(c, name); limit.IsZero() || !request.Equal(limit) {
			return false
		}
	}
	return true
}
