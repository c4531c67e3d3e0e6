package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// The name of culvert's container and of its port.
const sidecar = "culvert"

// template returns a pod with an ordinary gRPC service. It is set as the guide about the
// drain asks: culvert's clients go elsewhere before the service gets SIGTERM, and it
// then ends its running calls.
func template() corev1.PodTemplateSpec {
	const port = 9000
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "orders"}},
		Spec: corev1.PodSpec{
			NodeName: nodeName,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot:   new(true),
				FSGroup:        new(int64(65532)), // of the image's user: it writes into the volume
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			TerminationGracePeriodSeconds: new(int64(60)),
			Containers: []corev1.Container{{
				Name: "orders", Image: "backend:" + version,
				Args:  []string{"-listen", fmt.Sprintf(":%d", port), "-control", "/control/s", "-grace", "20s"},
				Ports: []corev1.ContainerPort{{Name: "grpc", ContainerPort: port}},
				ReadinessProbe: &corev1.Probe{
					ProbeHandler:  corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: port}},
					PeriodSeconds: 1,
				},
				Lifecycle:    &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 10}}},
				VolumeMounts: []corev1.VolumeMount{{Name: "c", MountPath: "/control"}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false),
					ReadOnlyRootFilesystem:   new(true),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
			Volumes: []corev1.Volume{{Name: "c", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
	}
}

// createPod creates a pod with annotations, and returns it when it is ready.
func createPod(t *testing.T, namespace string, annotations map[string]string) *corev1.Pod {
	t.Helper()
	from := template()
	pod, err := kube.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "orders", Labels: from.Labels, Annotations: annotations}, Spec: from.Spec,
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(pod.Spec.InitContainers) != 1 {
		t.Fatalf("%d init containers, want culvert alone", len(pod.Spec.InitContainers))
	}
	return awaitPod(t, namespace, "ready", podReady)
}

// awaitPod waits until some pod of the namespace has what done looks for.
func awaitPod(t *testing.T, namespace, what string, done func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var found *corev1.Pod
	pods := kube.CoreV1().Pods(namespace)
	if err := controlplane.Await(ctx, &corev1.Pod{}, pods.List, pods.Watch, func(p *corev1.Pod) bool {
		found = p
		return done(p)
	}); err != nil {
		t.Fatalf("no pod is %s: %v", what, err)
	}
	return found
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// statusOf returns what the kubelet says of a container, nil if nothing yet.
func statusOf(p *corev1.Pod, container string) *corev1.ContainerStatus {
	for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if c.Name == container {
			return &c
		}
	}
	return nil
}

// address returns where clients reach culvert in the pod.
func address(t *testing.T, p *corev1.Pod) string {
	t.Helper()
	for _, c := range p.Spec.InitContainers {
		for _, port := range c.Ports {
			if port.Name == sidecar {
				return net.JoinHostPort(p.Status.PodIP, strconv.Itoa(int(port.ContainerPort)))
			}
		}
	}
	t.Fatalf("pod %s has no port %s", p.Name, sidecar)
	return ""
}

// control returns the service's other side, which is a socket in a volume of the pod.
func control(t *testing.T, p *corev1.Pod) *probe.Control {
	t.Helper()
	c := probe.NewControl(filepath.Join(podsDir, string(p.UID), "volumes/kubernetes.io~empty-dir/c/s"))
	t.Cleanup(c.Close)
	return c
}

// kill sends a signal to the first process of a container.
func kill(t *testing.T, p *corev1.Pod, container string, signal syscall.Signal) {
	t.Helper()
	pid, err := processOf(p, container)
	if err == nil {
		err = syscall.Kill(pid, signal)
	}
	if err != nil {
		t.Fatalf("%s: %v", container, err)
	}
}

// processOf finds the only process of a container by its cgroup, whose name has the
// container's.
func processOf(p *corev1.Pod, container string) (int, error) {
	status := statusOf(p, container)
	if status == nil {
		return 0, errors.New("no such container")
	}
	_, id, _ := strings.Cut(status.ContainerID, "://")
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), id) { // it may have ended meanwhile
			continue
		}
		return strconv.Atoi(filepath.Base(filepath.Dir(file)))
	}
	return 0, fmt.Errorf("no process of %s", id)
}
