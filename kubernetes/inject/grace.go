package inject

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// GracePeriod returns the seconds that the kubelet gives the pod to end.
func GracePeriod(pod *corev1.Pod) int64 {
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return *s
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

// GraceNeeded returns how many seconds a pod with culvert needs at least: the longest
// pause before an end, of which culvert's is delay, the drain, and two seconds to spare.
// The pauses of all containers begin together. Only the author of an application knows
// what it needs after its SIGTERM.
func GraceNeeded(pod *corev1.Pod, delay, drain time.Duration) int64 {
	pause := delay
	for _, c := range containersOf(pod) {
		if c.sidecar && c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.Sleep != nil {
			pause = max(pause, time.Duration(min(c.Lifecycle.PreStop.Sleep.Seconds, int64(maxDrain/time.Second)))*time.Second)
		}
	}
	const spare = 2 * time.Second
	return int64((pause + drain + spare + time.Second - 1) / time.Second)
}
