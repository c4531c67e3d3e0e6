package inject

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// defaultGrace is Kubernetes' default, in seconds.
const defaultGrace = corev1.DefaultTerminationGracePeriodSeconds

// gracePeriod returns the seconds that the kubelet gives the pod to end.
func gracePeriod(pod *corev1.Pod) int64 {
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return *s
	}
	return defaultGrace
}

// graceNeeded returns how many seconds the pod needs at least: the longest pause
// before an end, the drain, and two seconds to spare. The pauses of all containers
// begin together. What an application needs after its SIGTERM nobody but its author
// knows.
func graceNeeded(pod *corev1.Pod, s *settings, c *Config) int64 {
	pause := c.DrainDelay.Duration
	for _, other := range containersOf(pod) {
		if other.sidecar && other.Lifecycle != nil && other.Lifecycle.PreStop != nil && other.Lifecycle.PreStop.Sleep != nil {
			pause = max(pause, time.Duration(min(other.Lifecycle.PreStop.Sleep.Seconds, int64(maxDrain/time.Second)))*time.Second)
		}
	}
	const spare = 2 * time.Second
	return int64((pause + s.drain + spare + time.Second - 1) / time.Second)
}
