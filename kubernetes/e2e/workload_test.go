package e2e

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// template returns the pod of a workload.
func template() corev1.PodTemplateSpec {
	pod := newPod()
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels}, Spec: pod.Spec}
}

var (
	workloadMeta     = metav1.ObjectMeta{Name: "orders"}
	workloadSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "orders"}}
)

func newDeployment(replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: workloadMeta, Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: workloadSelector, Template: template()}}
}

// replicasRefused reports whether the Deployment's status has the webhook's text.
func replicasRefused(d *appsv1.Deployment) bool {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return has(c.Message, "admission webhook", "culvert.dev/backend-port", "grpc-other")
		}
	}
	return false
}

// TestWorkloads has the real controllers create the pods.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	_, _, whose := setup(t)
	for name, make := range map[string]func(ctx context.Context, namespace string) error{
		"Deployment": func(ctx context.Context, namespace string) error {
			_, err := kube.AppsV1().Deployments(namespace).Create(ctx, newDeployment(2), metav1.CreateOptions{})
			return err
		},
		"StatefulSet": func(ctx context.Context, namespace string) error {
			s := &appsv1.StatefulSet{ObjectMeta: workloadMeta, Spec: appsv1.StatefulSetSpec{
				Replicas: new(int32(2)), Selector: workloadSelector, Template: template(),
				PodManagementPolicy: appsv1.ParallelPodManagement, // no pod becomes ready without a node
			}}
			_, err := kube.AppsV1().StatefulSets(namespace).Create(ctx, s, metav1.CreateOptions{})
			return err
		},
		"Job": func(ctx context.Context, namespace string) error {
			pod := template()
			pod.Spec.RestartPolicy = corev1.RestartPolicyNever
			j := &batchv1.Job{ObjectMeta: workloadMeta, Spec: batchv1.JobSpec{Template: pod, Completions: new(int32(2)), Parallelism: new(int32(2))}}
			_, err := kube.BatchV1().Jobs(namespace).Create(ctx, j, metav1.CreateOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := makeNamespace(t, injectLabel, "enabled", own, whose)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := make(ctx, namespace); err != nil {
				t.Fatal(err)
			}
			names := map[string]bool{}
			pods := kube.CoreV1().Pods(namespace)
			if err := controlplane.Await(ctx, &corev1.Pod{}, pods.List, pods.Watch, func(p *corev1.Pod) bool {
				if sidecars(&p.Spec) == 1 && strings.HasPrefix(p.Name, "orders-") {
					names[p.Name] = true
				}
				return len(names) == 2
			}); err != nil {
				t.Errorf("the pods with culvert are %v, want two: %v", names, err)
			}
		})
	}
}
