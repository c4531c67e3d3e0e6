package kubelet

import (
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestInjectedPod calls the service of a pod that the kubelet has found to be ready, by
// the probes of both containers.
func TestInjectedPod(t *testing.T) {
	pod := createPod(t, makeNamespace(t), nil)
	callAll(t, address(t, pod))
	if c := statusOf(pod, sidecar); !c.Ready || c.Started == nil || !*c.Started || c.RestartCount != 0 {
		t.Errorf("culvert's container: %+v", c)
	}
}

// TestKilledSidecar kills culvert's process. The kubelet starts another one.
func TestKilledSidecar(t *testing.T) {
	namespace := makeNamespace(t)
	pod := createPod(t, namespace, nil)
	kill(t, pod, sidecar, syscall.SIGKILL)
	pod = awaitPod(t, namespace, "ready again", func(p *corev1.Pod) bool {
		c := statusOf(p, sidecar)
		return c != nil && c.RestartCount == 1 && c.Ready && podReady(p)
	})
	if before := statusOf(pod, sidecar).LastTerminationState.Terminated; before == nil || before.ExitCode != 128+int32(syscall.SIGKILL) {
		t.Errorf("culvert ended before with %+v, want by SIGKILL", before)
	}
	if n := statusOf(pod, "orders").RestartCount; n != 0 {
		t.Errorf("the service was restarted %d times, want 0", n)
	}
	callAll(t, address(t, pod))
}
