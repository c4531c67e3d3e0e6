package check

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// onTheWay is time for calls that clients sent before they knew of the drain.
const onTheWay = 5 * time.Second

// ending checks what the pod needs to end without losing calls.
func (c *checker) ending(s *subject) {
	delay, drain := inject.Pauses(s.sidecar)
	if backend := s.backendContainer(); backend != nil && s.endsUnderLoad() {
		if pause, known := pauseOf(backend); known && pause < delay {
			c.add(Warning, s.object, fmt.Sprintf("the container %s gets SIGTERM %v after the pod begins to end, and culvert passes new calls for %v: some fail",
				backend.Name, pause, delay), fmt.Sprintf("give the container a pause: lifecycle: {preStop: {sleep: {seconds: %d}}}", int64((delay+onTheWay)/time.Second)))
		}
	}
	need := inject.GraceNeeded(s.pod, delay, drain)
	for _, pod := range append(slices.Clone(s.pods), s.pod) {
		if have := inject.GracePeriod(pod); inject.Sidecar(&pod.Spec) != nil && have < need {
			c.add(Warning, s.object, fmt.Sprintf("terminationGracePeriodSeconds is %d, and culvert needs %d to drain: the kubelet ends the calls that are left",
				have, need), fmt.Sprintf("set terminationGracePeriodSeconds: %d", need))
			return
		}
	}
}

// endsUnderLoad reports whether pods of the kind end while others take new calls. A
// Job's pod ends by itself.
func (s *subject) endsUnderLoad() bool { return s.kind != "Job" && s.kind != "CronJob" }

// pauseOf returns how long a container runs on when its pod begins to end, if that is
// known: what a command waits for isn't.
func pauseOf(c *corev1.Container) (time.Duration, bool) {
	switch {
	case c.Lifecycle == nil || c.Lifecycle.PreStop == nil:
		return 0, true
	case c.Lifecycle.PreStop.Sleep != nil:
		return time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second, true
	}
	return 0, false
}

// backendContainer returns the container of the gRPC service: the one with the port,
// or the only one.
func (s *subject) backendContainer() *corev1.Container {
	if s.backend == 0 {
		return nil
	}
	others := s.others()
	for _, c := range others {
		if slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == s.backend }) {
			return c
		}
	}
	if len(others) == 1 {
		return others[0]
	}
	return nil
}
