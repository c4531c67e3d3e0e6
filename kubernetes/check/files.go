package check

import (
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/kubernetes/manifest"
)

// kinds are the objects of manifests that the checks look at.
var kinds = map[[2]string]func() metav1.Object{
	{"", "Namespace"}:                      func() metav1.Object { return new(corev1.Namespace) },
	{"", "Pod"}:                            func() metav1.Object { return new(corev1.Pod) },
	{"", "LimitRange"}:                     func() metav1.Object { return new(corev1.LimitRange) },
	{"", "Service"}:                        func() metav1.Object { return new(corev1.Service) },
	{"", "ConfigMap"}:                      func() metav1.Object { return new(corev1.ConfigMap) },
	{"", "PodTemplate"}:                    func() metav1.Object { return new(corev1.PodTemplate) },
	{"", "ReplicationController"}:          func() metav1.Object { return new(corev1.ReplicationController) },
	{"apps", "DaemonSet"}:                  func() metav1.Object { return new(appsv1.DaemonSet) },
	{"apps", "Deployment"}:                 func() metav1.Object { return new(appsv1.Deployment) },
	{"apps", "ReplicaSet"}:                 func() metav1.Object { return new(appsv1.ReplicaSet) },
	{"apps", "StatefulSet"}:                func() metav1.Object { return new(appsv1.StatefulSet) },
	{"batch", "CronJob"}:                   func() metav1.Object { return new(batchv1.CronJob) },
	{"batch", "Job"}:                       func() metav1.Object { return new(batchv1.Job) },
	{"discovery.k8s.io", "EndpointSlice"}:  func() metav1.Object { return new(discoveryv1.EndpointSlice) },
	{"networking.k8s.io", "Ingress"}:       func() metav1.Object { return new(networkingv1.Ingress) },
	{"networking.k8s.io", "NetworkPolicy"}: func() metav1.Object { return new(networkingv1.NetworkPolicy) },
	{"admissionregistration.k8s.io", "MutatingWebhookConfiguration"}: func() metav1.Object {
		return new(admissionv1.MutatingWebhookConfiguration)
	},
}

// AddManifests adds the objects of manifests. Objects without a namespace get the
// given one. An error has a line for each object that can't be read.
func (s *Snapshot) AddManifests(text []byte, namespace string) error {
	objects, err := manifest.Objects(text)
	if err != nil {
		return err
	}
	var errs []error
	var rest []metav1.Object
	for _, o := range objects {
		make, known := kinds[[2]string{o.Group, o.Kind}]
		if !known {
			continue
		}
		into := make()
		if err := o.Decode(into); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o, err))
			continue
		}
		if into.GetName() == "" {
			into.SetName(o.Name) // generateName
		}
		if o.Kind == "Namespace" {
			s.Add(into)
			continue
		}
		if into.GetNamespace() == "" && o.Kind != "MutatingWebhookConfiguration" {
			into.SetNamespace(namespace)
		}
		rest = append(rest, into)
	}
	for _, o := range rest { // after the namespaces
		s.Add(o)
	}
	return errors.Join(errs...)
}
