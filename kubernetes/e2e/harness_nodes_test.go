package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// nodes do for the pods of some namespaces what a cluster's nodes would: they run the
// injector's containers as processes, and say of each pod that it is ready. The images
// of the other pods aren't run. The package kubelet has a real node.
type nodes struct {
	t          *testing.T
	namespaces []string
	dir        string

	running map[string]*controlplane.Process // by the pod's name
	ending  sync.WaitGroup
}

// runNodes runs the nodes until the end of the test.
func runNodes(t *testing.T, namespaces ...string) {
	t.Helper()
	n := &nodes{t: t, namespaces: namespaces, dir: t.TempDir(), running: map[string]*controlplane.Process{}}
	ctx, cancel := context.WithCancel(context.Background())
	pods, err := kube.CoreV1().Pods(metav1.NamespaceAll).Watch(ctx, metav1.ListOptions{}) // first those that there are
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	var watching sync.WaitGroup
	watching.Go(func() {
		for event := range pods.ResultChan() {
			if pod, is := event.Object.(*corev1.Pod); is && slices.Contains(namespaces, pod.Namespace) {
				if err := n.react(ctx, event.Type, pod); err != nil && ctx.Err() == nil {
					t.Errorf("%s %s/%s: %v", event.Type, pod.Namespace, pod.Name, err)
				}
			}
		}
	})
	t.Cleanup(func() {
		pods.Stop()
		cancel()
		watching.Wait()
		for name := range n.running {
			n.stop(ctx, "", name)
		}
		n.ending.Wait()
	})
}

func (n *nodes) react(ctx context.Context, event watch.EventType, pod *corev1.Pod) error {
	switch event {
	case watch.Added:
		if pod.Labels["app.kubernetes.io/component"] == "injector" {
			return n.runInjector(ctx, pod)
		}
		return ready(ctx, pod)
	case watch.Deleted: // at once: no kubelet is asked
		if n.running[pod.Name] != nil {
			n.stop(ctx, pod.Namespace, pod.Name)
		}
	}
	return nil
}

// lag is how much later than a pod's SIGTERM the API server learns that the Service no
// longer leads to it. Controllers and watches take that long in a busy cluster.
const lag = time.Second

// stop ends a process in the background: it drains for some seconds.
func (n *nodes) stop(ctx context.Context, namespace, pod string) {
	p := n.running[pod]
	delete(n.running, pod)
	n.ending.Go(func() {
		var later sync.WaitGroup
		later.Go(func() { n.forget(ctx, namespace, pod) })
		if err := p.Stop(patience); err != nil {
			n.t.Errorf("%s: %v\n%s", pod, err, p.Tail(20))
		}
		later.Wait()
	})
}

// forget makes the Service no longer lead to a pod, after the lag.
func (n *nodes) forget(ctx context.Context, namespace, pod string) {
	select {
	case <-ctx.Done(): // the test is over
		return
	case <-time.After(lag):
	}
	err := kube.DiscoveryV1().EndpointSlices(namespace).Delete(ctx, pod, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		n.t.Errorf("%s: %v", pod, err)
	}
}

// runInjector starts the pod's program with its arguments and the rights of its service
// account, and makes the Service lead to it when it is ready.
func (n *nodes) runInjector(ctx context.Context, pod *corev1.Pod) error {
	address := newAddress()
	c := pod.Spec.Containers[0]
	here, err := n.mount(ctx, pod, c.VolumeMounts)
	if err != nil {
		return err
	}
	account := "system:serviceaccount:" + pod.Namespace + ":" + pod.Spec.ServiceAccountName
	kubeconfig, err := cluster.Kubeconfig("injector-"+pod.Name, account, "system:serviceaccounts", "system:serviceaccounts:"+pod.Namespace)
	if err != nil {
		return err
	}
	argv := []string{programs[programOf(c.Image)]}
	for _, arg := range c.Args {
		argv = append(argv, strings.NewReplacer(append(here, "listen=:", "listen="+address+":")...).Replace(arg))
	}
	p, err := starter.Start("injector-"+pod.Name, []string{"KUBECONFIG=" + kubeconfig}, argv...)
	if err != nil {
		return err
	}
	n.running[pod.Name] = p
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	health := fmt.Sprintf("http://%s:9901/readyz", address)
	if err := p.Until(patient, func(ctx context.Context) error { _, err := get(ctx, health); return err }); err != nil {
		return fmt.Errorf("%w\n%s", err, p.Tail(20))
	}
	// The Service has the same name as the account.
	_, err = kube.DiscoveryV1().EndpointSlices(pod.Namespace).Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: pod.Name, Labels: map[string]string{discoveryv1.LabelServiceName: pod.Spec.ServiceAccountName}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
		Ports:       []discoveryv1.EndpointPort{{Name: new("webhook"), Port: new(int32(8443))}},
	}, metav1.CreateOptions{})
	return errors.Join(err, ready(ctx, pod))
}

// mount writes the files of the pod's ConfigMaps and Secrets. It returns each path of the
// container with the folder here, as pairs.
func (n *nodes) mount(ctx context.Context, pod *corev1.Pod, mounts []corev1.VolumeMount) (here []string, err error) {
	for _, m := range mounts {
		i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		files := map[string][]byte{}
		switch v := pod.Spec.Volumes[i]; {
		case v.ConfigMap != nil:
			c, err := kube.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, v.ConfigMap.Name, metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			for name, text := range c.Data {
				files[name] = []byte(text)
			}
		case v.Secret != nil:
			s, err := kube.CoreV1().Secrets(pod.Namespace).Get(ctx, v.Secret.SecretName, metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			files = s.Data
		}
		dir := filepath.Join(n.dir, pod.Name, m.Name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				return nil, err
			}
		}
		here = append(here, m.MountPath, dir)
	}
	return here, nil
}

// The images of the next version.
const (
	nextImage   = "culvert-kube:next"
	nextSidecar = "culvert:1.1.0"
)

// programOf returns the name of an image's program.
func programOf(image string) string {
	if image == nextImage {
		return "culvert-kube-next"
	}
	return "culvert-kube"
}

// ready says of a pod that it runs and is ready.
func ready(ctx context.Context, pod *corev1.Pod) error {
	pod = pod.DeepCopy()
	pod.Status.Phase = corev1.PodRunning
	for _, c := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
	}
	_, err := kube.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) { // it has gone meanwhile
		return nil
	}
	return err
}
