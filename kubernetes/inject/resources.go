package inject

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// resources returns an error with a line for each of the pod's own resources that has no
// room for culvert. The API server would refuse some of these pods, without a word about
// culvert.
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
	for _, name := range slices.Sorted(maps.Keys(own.Requests)) {
		request, sum := own.Requests[name], c.Resources.Requests[name].DeepCopy()
		for _, other := range containersOf(pod) {
			if q, has := other.Resources.Requests[name]; has && other.sidecar {
				sum.Add(q)
			}
		}
		if sum.Cmp(request) > 0 {
			errs = append(errs, fmt.Errorf("spec.resources.requests of the pod has %s of %s, and its containers with culvert request %s: raise it", request.String(), name, sum.String()))
		}
	}
	return errors.Join(errs...)
}
