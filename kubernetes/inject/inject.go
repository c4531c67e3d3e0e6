package inject

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Names of what is added to a pod. Services reach culvert by targetPort: culvert.
const (
	ContainerName  = "culvert"
	PortName       = "culvert"        // the port for clients
	HealthPortName = "culvert-health" // probes and metrics
)

// A Namespace is the namespace of a pod.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// An Action says what [Pod] did.
type Action string

// The actions.
const (
	Injected        Action = "injected"
	AlreadyInjected Action = "already injected"
	Skipped         Action = "skipped"
)

// A Result is a pod that wasn't refused.
type Result struct {
	Pod      *corev1.Pod // with culvert if Action is Injected, otherwise as it was
	Action   Action
	Reason   string   // why the pod isn't changed; empty if it is
	Warnings []string // for whoever made the pod
}

// Pod returns the pod with culvert beside its containers, if the pod or its
// namespace asks for it. It doesn't modify its argument. A pod that has culvert
// already stays as it is.
//
// An error means that the pod asks for culvert and can't have it. The text has a
// line for each cause, with the remedy, for whoever wrote the pod.
func Pod(pod *corev1.Pod, ns Namespace, c *Config) (Result, error) {
	change, result, err := plan(pod, ns, c)
	if err != nil {
		return Result{}, err
	}
	result.Pod = pod.DeepCopy()
	if change != nil {
		change.apply(result.Pod)
	}
	return result, nil
}

// plan returns what must change in the pod: nil if nothing does. The result has no
// pod yet.
func plan(pod *corev1.Pod, ns Namespace, c *Config) (*change, Result, error) {
	asked, why, err := asks(pod, ns, c)
	if err != nil {
		return nil, Result{}, err
	}
	if !asked.in {
		result := Result{Action: Skipped, Reason: why}
		if asked.byPod {
			result.Warnings = []string{"culvert isn't injected: " + why}
		}
		return nil, result, nil
	}
	if Sidecar(&pod.Spec) != nil {
		return nil, Result{Action: AlreadyInjected, Reason: "the pod has culvert already"}, nil
	}
	s, err := readAnnotations(pod, ns.Name, c)
	if err != nil {
		return nil, Result{}, err
	}
	if err := errors.Join(findBackend(pod, s), clashes(pod, s, c), resources(pod, c)); err != nil {
		return nil, Result{}, err
	}
	change := &change{container: container(s, c), volumes: volumes(s)}
	result := Result{Action: Injected}
	if need := GraceNeeded(pod, c.DrainDelay.Duration, s.drain); GracePeriod(pod) < need {
		change.grace = &need
		change.graceWas = pod.Spec.TerminationGracePeriodSeconds
		result.Warnings = append(result.Warnings, fmt.Sprintf(
			"terminationGracePeriodSeconds is raised from %d to %d, so that culvert can drain", GracePeriod(pod), need))
	}
	return change, result, nil
}

// Sidecar returns the container that is culvert, or nil: one named culvert, with a
// port named culvert. It looks at native sidecars and at ordinary containers, and
// at nothing that only says that a pod is injected. Somebody can copy an annotation
// to a pod without the container.
func Sidecar(spec *corev1.PodSpec) *corev1.Container {
	if i := slices.IndexFunc(spec.InitContainers, isNativeCulvert); i >= 0 {
		return &spec.InitContainers[i]
	}
	if i := slices.IndexFunc(spec.Containers, isCulvert); i >= 0 {
		return &spec.Containers[i]
	}
	return nil
}

func isCulvert(c corev1.Container) bool {
	return c.Name == ContainerName &&
		slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == PortName })
}

// isNativeCulvert reports whether an init container is culvert. An ordinary one keeps the pod
// from starting, because culvert doesn't end.
func isNativeCulvert(c corev1.Container) bool { return isCulvert(c) && isNative(&c) }

// isNative reports whether an init container is a native sidecar.
func isNative(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
