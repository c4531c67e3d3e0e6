package e2e

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// injectLabel asks for culvert, or opts out.
const injectLabel = "culvert.dev/inject"

// newPod returns a pod with the application's container, which the policy
// "restricted" of Pod Security accepts. Labels are pairs.
func newPod(labels ...string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "orders-", Labels: map[string]string{"app": "orders"}, Annotations: map[string]string{}},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(1000)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "orders", Image: "orders:1",
				Ports: []corev1.ContainerPort{{Name: "grpc", ContainerPort: 9000}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
	for i := 0; i < len(labels); i += 2 {
		pod.Labels[labels[i]] = labels[i+1]
	}
	return pod
}

// sidecars counts the containers named culvert in a pod.
func sidecars(pod *corev1.PodSpec) int {
	n := 0
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if c.Name == "culvert" {
			n++
		}
	}
	return n
}

func create(ctx context.Context, namespace string, pod *corev1.Pod, o metav1.CreateOptions) (*corev1.Pod, error) {
	return kube.CoreV1().Pods(namespace).Create(ctx, pod, o)
}

// onlyDry asks for an answer without an effect.
var onlyDry = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
