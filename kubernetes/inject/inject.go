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
	Pod      *corev1.Pod // with culvert if Action is Injected, otherwise as it was, but for a grace period that is too short and for culvert's limits
	Action   Action
	Reason   string   // why the pod gets no container; empty if it does
	Warnings []string // for whoever made the pod
}

// Pod returns the pod with culvert beside its containers, if the pod or its
// namespace asks for it. It doesn't modify its argument. A pod that has culvert
// already stays as it is, unless its grace period has become too short for culvert, or
// culvert has got limits that its requests and threads don't fit.
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
	if sidecar := Sidecar(&pod.Spec); sidecar != nil {
		change, result := new(change), Result{Action: AlreadyInjected, Reason: "the pod has culvert already"}
		// A sidecar that another injector has added since may need a longer pause.
		if delay, drain := Pauses(sidecar); isNative(sidecar) && drain > 0 {
			result.Warnings = change.raiseGrace(pod, GraceNeeded(pod, delay, drain))
			change.fit(pod, sidecar)
		}
		return change, result, nil
	}
	if !asked.byPod && isOther(pod) {
		return nil, Result{Action: Skipped, Reason: NoPort}, nil
	}
	s, err := readAnnotations(pod, ns.Name, c)
	if err != nil {
		return nil, Result{}, err
	}
	if err := errors.Join(findBackend(pod, s), clashes(pod, s, c), resources(pod, c)); err != nil {
		return nil, Result{}, err
	}
	sidecar := container(s, c)
	change := &change{container: &sidecar, volumes: volumes(s, pod)}
	warnings := slices.Concat(
		change.raiseGrace(pod, GraceNeeded(pod, c.DrainDelay.Duration, s.drain)),
		shareRequests(pod, &sidecar),
		lostQuality(pod, &sidecar),
	)
	if s.listenPort < 1024 {
		warnings = append(warnings, fmt.Sprintf("culvert is to listen on port %d: not every container runtime allows ports below 1024 without privileges (containerd 2 does)", s.listenPort))
	}
	return change, Result{Action: Injected, Warnings: warnings}, nil
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
