package inject

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// A change is what injection adds to a pod.
type change struct {
	container *corev1.Container // nil: the pod has culvert already
	volumes   []corev1.Volume
	grace     *int64 // the new terminationGracePeriodSeconds; nil: the pod's own
	graceWas  string // the value of GraceAnnotation if grace isn't nil, such as "10 to 27"

	// For a pod that has culvert already.
	index    int                 // of culvert among the init containers
	requests corev1.ResourceList // the requests that change; nil: none
	oneCPU   *corev1.EnvVar      // GOMAXPROCS; nil: it isn't missing
}

// fit lets the change adapt the sidecar to limits that it got after it was injected: a
// LimitRange sets them where the injector doesn't, and the API server then calls again. It
// refuses a container that requests more than its limit.
func (c *change) fit(pod *corev1.Pod, sidecar *corev1.Container) {
	c.index = slices.IndexFunc(pod.Spec.InitContainers, isNativeCulvert)
	for name, limit := range sidecar.Resources.Limits {
		if request, has := sidecar.Resources.Requests[name]; has && request.Cmp(limit) > 0 {
			if c.requests == nil {
				c.requests = corev1.ResourceList{}
			}
			c.requests[name] = limit.DeepCopy()
		}
	}
	isSet := func(v corev1.EnvVar) bool { return v.Name == processors }
	if one := oneProcessor(sidecar.Resources.Limits); one != nil && !slices.ContainsFunc(sidecar.Env, isSet) {
		c.oneCPU = one
	}
}

// raiseGrace lets the change raise the pod's grace period to what is needed, and returns
// the warning about it.
func (c *change) raiseGrace(pod *corev1.Pod, need int64) (warnings []string) {
	have := GracePeriod(pod)
	if have >= need {
		return nil
	}
	c.grace = &need
	was, raised := graceBefore(pod)
	if !raised {
		was = notSet
		if own := pod.Spec.TerminationGracePeriodSeconds; own != nil {
			was = strconv.FormatInt(*own, 10)
		}
	}
	c.graceWas = fmt.Sprintf("%s%s%d", was, raisedTo, need)
	return []string{fmt.Sprintf("terminationGracePeriodSeconds is raised from %d to %d, so that culvert can drain", have, need)}
}

// The parts of GraceAnnotation's value: "10 to 27", "not set to 37".
const (
	notSet   = "not set"
	raisedTo = " to "
)

// graceBefore returns the grace period before it was raised, if the pod still has the one
// that it was raised to.
func graceBefore(pod *corev1.Pod) (was string, raised bool) {
	was, to, _ := strings.Cut(pod.Annotations[GraceAnnotation], raisedTo)
	return was, to != "" && to == strconv.FormatInt(GracePeriod(pod), 10)
}

func (c *change) apply(pod *corev1.Pod) {
	spec := &pod.Spec
	// In front of the others: init containers and sidecars behind it have culvert, and
	// it ends after them.
	if c.container != nil {
		spec.InitContainers = append([]corev1.Container{*c.container.DeepCopy()}, spec.InitContainers...)
	}
	for _, v := range c.volumes {
		spec.Volumes = append(spec.Volumes, *v.DeepCopy())
	}
	for name, request := range c.requests {
		spec.InitContainers[c.index].Resources.Requests[name] = request.DeepCopy()
	}
	if c.oneCPU != nil {
		spec.InitContainers[c.index].Env = append(spec.InitContainers[c.index].Env, *c.oneCPU)
	}
	if c.grace != nil {
		spec.TerminationGracePeriodSeconds = new(*c.grace)
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[GraceAnnotation] = c.graceWas
	}
}

// An Operation is one step of a JSON patch (RFC 6902).
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"` // a JSON pointer (RFC 6901)
	Value any    `json:"value,omitempty"`
}

// Operations is [Pod] that returns the steps of a JSON patch for the pod, none if it
// stays as it is. The patch adds and sets single fields, and touches nothing else, so fields
// of a newer API that this program doesn't know stay as they are. The result's pod is the
// argument.
func Operations(pod *corev1.Pod, ns Namespace, c *Config) ([]Operation, Result, error) {
	change, result, err := plan(pod, ns, c)
	if err != nil {
		return nil, Result{}, err
	}
	result.Pod = pod
	if change == nil {
		return nil, result, nil
	}
	return change.operations(pod), result, nil
}

func (c *change) operations(pod *corev1.Pod) []Operation {
	var ops []Operation
	add := func(path string, value any) { ops = append(ops, Operation{"add", path, value}) }
	switch {
	case c.container == nil:
	case len(pod.Spec.InitContainers) == 0:
		add("/spec/initContainers", []corev1.Container{*c.container})
	default:
		add("/spec/initContainers/0", *c.container)
	}
	if len(pod.Spec.Volumes) == 0 && len(c.volumes) > 0 {
		add("/spec/volumes", c.volumes)
	} else {
		for _, v := range c.volumes {
			add("/spec/volumes/-", v)
		}
	}
	sidecar := fmt.Sprintf("/spec/initContainers/%d", c.index)
	for _, name := range slices.Sorted(maps.Keys(c.requests)) {
		add(sidecar+"/resources/requests/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(string(name)), c.requests[name])
	}
	if c.oneCPU != nil && len(pod.Spec.InitContainers[c.index].Env) == 0 {
		add(sidecar+"/env", []corev1.EnvVar{*c.oneCPU})
	} else if c.oneCPU != nil {
		add(sidecar+"/env/-", *c.oneCPU)
	}
	if c.grace != nil {
		add("/spec/terminationGracePeriodSeconds", *c.grace)
		if len(pod.Annotations) == 0 {
			add("/metadata/annotations", map[string]string{GraceAnnotation: c.graceWas})
		} else {
			add("/metadata/annotations/culvert.dev~1"+graceWas, c.graceWas)
		}
	}
	return ops
}

// Remove returns the pod without culvert and what came with it, and whether there
// was one. It doesn't modify its argument.
func Remove(pod *corev1.Pod) (*corev1.Pod, bool) {
	clean := pod.DeepCopy()
	if Sidecar(&clean.Spec) == nil {
		return clean, false
	}
	spec := &clean.Spec
	spec.InitContainers = cut(spec.InitContainers, isNativeCulvert)
	spec.Containers = cut(spec.Containers, isCulvert)
	spec.Volumes = cut(spec.Volumes, IsVolume)
	if was, raised := graceBefore(clean); raised { // otherwise somebody has set another one since
		spec.TerminationGracePeriodSeconds = nil
		if seconds, err := strconv.ParseInt(was, 10, 64); err == nil {
			spec.TerminationGracePeriodSeconds = &seconds
		}
	}
	if _, noted := clean.Annotations[GraceAnnotation]; noted {
		delete(clean.Annotations, GraceAnnotation)
		if len(clean.Annotations) == 0 {
			clean.Annotations = nil
		}
	}
	return clean, true
}

// cut removes elements; an empty list becomes nil, as if it had never been there.
func cut[T any](list []T, gone func(T) bool) []T {
	list = slices.DeleteFunc(list, gone)
	if len(list) == 0 {
		return nil
	}
	return list
}
