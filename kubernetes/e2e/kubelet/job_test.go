package kubelet

import (
	"context"
	"syscall"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// TestJob runs a Job whose pod has culvert. The kubelet ends culvert after the work is
// done, and the Job is complete. culvert's delay is an hour, so that the test fails if it
// goes on without the service.
func TestJob(t *testing.T) {
	namespace := makeNamespace(t)
	pod := template()
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	injected, err := kube.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "dry", Labels: pod.Labels}, Spec: pod.Spec,
	}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		t.Fatal(err)
	}
	own := injected.Spec.InitContainers[0]
	own.Lifecycle.PreStop.Exec.Command = []string{"/culvert", "drain", "--delay", "1h"}
	own.VolumeMounts = nil // the empty volume in the token's place
	pod.Spec.InitContainers = []corev1.Container{own}
	pod.Spec.TerminationGracePeriodSeconds = new(int64(7200))
	jobs := kube.BatchV1().Jobs(namespace)
	if _, err := jobs.Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "orders"},
		Spec:       batchv1.JobSpec{Template: pod, BackoffLimit: new(int32(0))},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	running := awaitPod(t, namespace, "ready", podReady)
	callAll(t, address(t, running))
	kill(t, running, "orders", syscall.SIGTERM) // the service then exits with 0

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := controlplane.Await(ctx, &batchv1.Job{}, jobs.List, jobs.Watch, func(j *batchv1.Job) bool {
		for _, c := range j.Status.Conditions {
			if c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue {
				t.Errorf("the Job has failed: %s", c.Message)
				return true
			}
			if c.Type == batchv1.JobComplete && c.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	}); err != nil {
		t.Fatalf("the Job isn't complete: %v", err)
	}
	ended := awaitPod(t, namespace, "over", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	if s := statusOf(ended, sidecar).State.Terminated; s == nil || s.ExitCode != 0 {
		t.Errorf("culvert: %+v, want exit code 0", s)
	}
}
