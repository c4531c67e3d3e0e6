package check

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// A Snapshot has the objects that [Run] looks at. Namespaces are added before what is
// in them: Add drops workloads and pods that have nothing to do with culvert.
type Snapshot struct {
	// Partial says that objects may exist that the snapshot doesn't have, as with
	// manifests. What is missing then is no error.
	Partial bool

	// All treats namespaces that don't opt out as if they had the label.
	All bool

	// Version of the API server, such as "v1.36.3"; empty: not known.
	Version string

	// Now is when the snapshot was taken.
	Now time.Time

	// Injector is the configuration of the cluster's injector; nil: not known.
	Injector *inject.Config

	// Unread has a text for each kind of object that couldn't be read.
	Unread map[string]string

	// Seen counts the workloads that were added, also those that were dropped.
	Seen int

	namespaces map[string]inject.Namespace
	workloads  []*workload
	pods       []*corev1.Pod
	services   []*corev1.Service
	limits     []*corev1.LimitRange
	slices     []*discoveryv1.EndpointSlice
	policies   []*networkingv1.NetworkPolicy
	ingresses  []*networkingv1.Ingress
	webhooks   []*admissionv1.MutatingWebhookConfiguration
	configMaps map[string]*corev1.ConfigMap // by namespace/name
}

type workload struct {
	kind     string
	meta     metav1.ObjectMeta
	selector *metav1.LabelSelector // finds its pods; nil: the template's labels do
	template corev1.PodTemplateSpec
}

// Add adds an object, if the checks know its kind. It keeps the object, and removes from
// it what the checks don't look at.
func (s *Snapshot) Add(object metav1.Object) {
	object.SetManagedFields(nil)
	switch o := object.(type) {
	case *corev1.Namespace:
		if s.namespaces == nil {
			s.namespaces = map[string]inject.Namespace{}
		}
		s.namespaces[o.Name] = inject.Namespace{Name: o.Name, Labels: o.Labels}
	case *corev1.Pod:
		s.addPod(o)
	case *appsv1.Deployment:
		s.addWorkload("Deployment", o.ObjectMeta, o.Spec.Selector, o.Spec.Template)
	case *appsv1.StatefulSet:
		s.addWorkload("StatefulSet", o.ObjectMeta, o.Spec.Selector, o.Spec.Template)
	case *appsv1.DaemonSet:
		s.addWorkload("DaemonSet", o.ObjectMeta, o.Spec.Selector, o.Spec.Template)
	case *appsv1.ReplicaSet:
		s.addWorkload("ReplicaSet", o.ObjectMeta, o.Spec.Selector, o.Spec.Template)
	case *corev1.ReplicationController:
		if o.Spec.Template != nil {
			s.addWorkload("ReplicationController", o.ObjectMeta, &metav1.LabelSelector{MatchLabels: o.Spec.Selector}, *o.Spec.Template)
		}
	case *corev1.PodTemplate:
		s.addWorkload("PodTemplate", o.ObjectMeta, nil, o.Template)
	case *batchv1.Job:
		s.addJob(o)
	case *batchv1.CronJob:
		s.addWorkload("CronJob", o.ObjectMeta, nil, o.Spec.JobTemplate.Spec.Template)
	case *corev1.Service:
		s.services = append(s.services, o)
	case *corev1.LimitRange:
		s.limits = append(s.limits, o)
	case *discoveryv1.EndpointSlice:
		s.slices = append(s.slices, o)
	case *networkingv1.NetworkPolicy:
		s.policies = append(s.policies, o)
	case *networkingv1.Ingress:
		s.ingresses = append(s.ingresses, o)
	case *admissionv1.MutatingWebhookConfiguration:
		s.webhooks = append(s.webhooks, o)
	case *corev1.ConfigMap:
		if s.configMaps == nil {
			s.configMaps = map[string]*corev1.ConfigMap{}
		}
		o.BinaryData = nil
		for key := range o.Data {
			if key != inject.ConfigMapKey { // of the others only the keys are looked at
				o.Data[key] = ""
			}
		}
		s.configMaps[o.Namespace+"/"+o.Name] = o
	}
}

// NotRead says that objects of a kind couldn't be read.
func (s *Snapshot) NotRead(kind string, err error) {
	if s.Unread == nil {
		s.Unread = map[string]string{}
	}
	s.Unread[kind] = err.Error()
}

// ConfigMaps returns the ConfigMaps that the pods name, by namespace.
func (s *Snapshot) ConfigMaps() map[string][]string {
	names := map[string][]string{}
	note := func(namespace string, annotations map[string]string) {
		if name := annotations[configAnnotation]; name != "" {
			names[namespace] = append(names[namespace], name)
		}
	}
	for _, w := range s.workloads {
		note(w.meta.Namespace, w.template.Annotations)
	}
	for _, p := range s.pods {
		note(p.Namespace, p.Annotations)
	}
	for namespace, list := range names {
		slices.Sort(list)
		names[namespace] = slices.Compact(list)
	}
	return names
}

// WebhookServices returns the Services that the injector's webhooks are behind, as
// namespace and name.
func (s *Snapshot) WebhookServices() [][2]string {
	var all [][2]string
	for _, w := range s.injectors() {
		if ref := w.hook.ClientConfig.Service; ref != nil && !slices.Contains(all, [2]string{ref.Namespace, ref.Name}) {
			all = append(all, [2]string{ref.Namespace, ref.Name})
		}
	}
	return all
}

// namespace returns a namespace, without labels if it isn't in the snapshot.
func (s *Snapshot) namespace(name string) inject.Namespace {
	ns, known := s.namespaces[name]
	if !known {
		ns.Name = name
	}
	if s.All && ns.Labels[inject.Label] == "" {
		ns.Labels = maps.Clone(ns.Labels)
		if ns.Labels == nil {
			ns.Labels = map[string]string{}
		}
		ns.Labels[inject.Label] = inject.Enabled
	}
	return ns
}

const (
	configAnnotation  = inject.AnnotationPrefix + "config"
	managedByCronJob  = "CronJob"
	hashOfReplicaSets = appsv1.DefaultDeploymentUniqueLabelKey
	prometheusPort    = "prometheus.io/port" // the port that Prometheus reads, by its usual configuration
)

func (s *Snapshot) addJob(o *batchv1.Job) {
	if owner := metav1.GetControllerOfNoCopy(o); owner != nil && owner.Kind == managedByCronJob {
		return // the CronJob stands for it, and its pods are found by the Job's name
	}
	if o.Status.CompletionTime != nil {
		return // it makes no more pods
	}
	s.addWorkload("Job", o.ObjectMeta, o.Spec.Selector, o.Spec.Template)
}

func (s *Snapshot) addWorkload(kind string, meta metav1.ObjectMeta, selector *metav1.LabelSelector, template corev1.PodTemplateSpec) {
	s.Seen++
	_, labelled := meta.Labels[inject.Label]
	labelled = labelled && kind != "Pod"
	if !labelled && !s.concerns(meta.Namespace, template.ObjectMeta, &template.Spec) {
		return
	}
	w := &workload{kind: kind, template: template}
	w.meta = metav1.ObjectMeta{Name: meta.Name, Namespace: meta.Namespace, UID: meta.UID}
	if labelled {
		w.meta.Labels = map[string]string{inject.Label: meta.Labels[inject.Label]}
	}
	if selector != nil && !empty(selector) { // an empty one would select all pods of the namespace
		w.selector = selector
	}
	trim(&w.template.ObjectMeta, &w.template.Spec)
	s.workloads = append(s.workloads, w)
}

// workloadKinds are the kinds of which a cluster's snapshot has all that exist.
var workloadKinds = []string{"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}

func (s *Snapshot) addPod(pod *corev1.Pod) {
	if s.Partial { // it doesn't run: it is what a pod will be made of
		s.addWorkload("Pod", pod.ObjectMeta, nil, corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec})
		return
	}
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		s.Seen++
	}
	if pod.DeletionTimestamp != nil || // it drains: culvert isn't ready then, and new pods replace it
		pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed ||
		!s.concerns(pod.Namespace, pod.ObjectMeta, &pod.Spec) {
		return
	}
	trim(&pod.ObjectMeta, &pod.Spec)
	s.pods = append(s.pods, pod)
}

// concerns reports whether a pod has, or may want, anything of culvert.
func (s *Snapshot) concerns(namespace string, meta metav1.ObjectMeta, spec *corev1.PodSpec) bool {
	if _, labelled := meta.Labels[inject.Label]; labelled || s.namespace(namespace).Labels[inject.Label] != "" {
		return true
	}
	for name := range meta.Annotations {
		if strings.HasPrefix(name, inject.AnnotationPrefix) {
			return true
		}
	}
	return inject.Sidecar(spec) != nil
}

// trim removes what a large cluster has much of and no check looks at.
func trim(meta *metav1.ObjectMeta, spec *corev1.PodSpec) {
	maps.DeleteFunc(meta.Annotations, func(name, _ string) bool {
		return !strings.HasPrefix(name, inject.AnnotationPrefix) && name != corev1.MirrorPodAnnotationKey && name != prometheusPort
	})
	meta.ManagedFields = nil
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if c := &list[i]; c.Name != inject.ContainerName {
				texts := slices.Concat(c.Command, c.Args)
				for _, v := range c.Env {
					texts = append(texts, v.Value)
				}
				c.Env, c.EnvFrom, c.Command, c.Args = nil, nil, nil, onLoopback(texts)
				c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return !strings.HasPrefix(m.Name, ownVolumes) })
			}
		}
	}
	for i := range spec.Volumes {
		if v := &spec.Volumes[i]; !strings.HasPrefix(v.Name, ownVolumes) {
			v.VolumeSource = corev1.VolumeSource{}
		}
	}
	if a := spec.Affinity; a != nil && a.NodeAffinity != nil { // it may keep the pod on Windows
		spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution}}
	} else {
		spec.Affinity = nil
	}
	spec.Tolerations, spec.TopologySpreadConstraints = nil, nil
}

// ownVolumes begins the names of the injector's volumes.
const ownVolumes = "culvert-"

var loopbackAddress = regexp.MustCompile(`(?:^|[^0-9A-Za-z.])(?:127\.0\.0\.1|localhost|\[::1\]):([0-9]+)\b`)

// onLoopback returns the addresses of the loopback in a container's texts.
func onLoopback(texts []string) []string {
	var all []string
	for _, text := range texts {
		all = append(all, loopbackAddress.FindAllString(text, -1)...)
	}
	return all
}

func objectName(kind, namespace, name string) string {
	if namespace == "" {
		return fmt.Sprintf("%s %s", kind, name)
	}
	return fmt.Sprintf("%s %s/%s", kind, namespace, name)
}
