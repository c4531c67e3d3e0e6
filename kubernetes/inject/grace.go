package inject

import (
	"strings"
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

// Pauses returns how long culvert still passes new calls when the pod ends, and how long
// its drain may take then; 0 for what the container doesn't say.
func Pauses(sidecar *corev1.Container) (delay, drain time.Duration) {
	if l := sidecar.Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Exec != nil {
		words := l.PreStop.Exec.Command
		for i, word := range words {
			value, joined := strings.CutPrefix(word, "--delay=")
			if word == "--delay" && i+1 < len(words) {
				value, joined = words[i+1], true
			}
			if d, err := time.ParseDuration(value); joined && err == nil {
				delay = d
				break
			}
		}
	}
	for _, v := range sidecar.Env {
		if v.Name == keys[drainKey].Env {
			drain, _ = time.ParseDuration(v.Value) // 0 if it is none
		}
	}
	return delay, drain
}
