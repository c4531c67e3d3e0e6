package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"

	"github.com/culvert-grpc/culvert/kubernetes/check"
)

var (
	namespaces = resource{"Namespace", "", "namespaces", true, func() list { return new(corev1.NamespaceList) }}
	configMaps = resource{"ConfigMap", "", "configmaps", false, nil}
	endpoints  = resource{"EndpointSlice", "discovery.k8s.io", "endpointslices", false, func() list { return new(discoveryv1.EndpointSliceList) }}

	// pods and workloads: without them there is nothing to check.
	workloads = []resource{
		{"Pod", "", "pods", false, func() list { return new(corev1.PodList) }},
		{"Deployment", "apps", "deployments", false, func() list { return new(appsv1.DeploymentList) }},
		{"StatefulSet", "apps", "statefulsets", false, func() list { return new(appsv1.StatefulSetList) }},
		{"DaemonSet", "apps", "daemonsets", false, func() list { return new(appsv1.DaemonSetList) }},
		{"Job", "batch", "jobs", false, func() list { return new(batchv1.JobList) }},
		{"CronJob", "batch", "cronjobs", false, func() list { return new(batchv1.CronJobList) }},
	}
	others = []resource{
		{"Service", "", "services", false, func() list { return new(corev1.ServiceList) }},
		{"LimitRange", "", "limitranges", false, func() list { return new(corev1.LimitRangeList) }},
		{"Ingress", "networking.k8s.io", "ingresses", false, func() list { return new(networkingv1.IngressList) }},
		{"NetworkPolicy", "networking.k8s.io", "networkpolicies", false, func() list { return new(networkingv1.NetworkPolicyList) }},
		{
			"MutatingWebhookConfiguration", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", true,
			func() list { return new(admissionv1.MutatingWebhookConfigurationList) },
		},
	}
)

// Read fills the snapshot. What the server refuses to show is noted there. An error
// means that nothing can be checked.
func (r *Reader) Read(ctx context.Context, s *check.Snapshot) error {
	raw, err := r.client.Get().AbsPath("/version").DoRaw(ctx)
	if err != nil && !apierrors.IsForbidden(err) {
		return fmt.Errorf("the API server doesn't answer: %w", err)
	}
	var server version.Info
	if err == nil && json.Unmarshal(raw, &server) == nil {
		s.Version = server.GitVersion
	}
	if err := r.namespaces(ctx, s); err != nil {
		return err
	}
	for _, what := range slices.Concat(workloads, others) {
		namespace := r.namespace
		if what.cluster {
			namespace = ""
		}
		if err := r.list(ctx, s, what, namespace, ""); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(workloads, func(w resource) bool { return s.Unread[w.kind] == "" }) {
		return fmt.Errorf("neither pods nor workloads can be read: %s", s.Unread[workloads[0].kind])
	}
	r.injector(ctx, s)
	for _, service := range s.WebhookServices() {
		if err := r.list(ctx, s, endpoints, service[0], discoveryv1.LabelServiceName+"="+service[1]); err != nil {
			return err
		}
	}
	return r.configMaps(ctx, s)
}

// list adds what is listed. It returns an error if reading on makes no sense.
func (r *Reader) list(ctx context.Context, s *check.Snapshot, what resource, namespace, selector string) error {
	return unread(s, what, r.each(ctx, what, namespace, selector, s.Add))
}

// unread notes an error of the API server, and returns any other one.
func unread(s *check.Snapshot, what resource, err error) error {
	var status apierrors.APIStatus
	if err == nil {
		return nil
	}
	if errors.As(err, &status) && !apierrors.IsUnauthorized(err) {
		s.NotRead(what.kind, err)
		return nil
	}
	return fmt.Errorf("%s: %w", what.name, err)
}

func (r *Reader) namespaces(ctx context.Context, s *check.Snapshot) error {
	if r.namespace == "" {
		return r.list(ctx, s, namespaces, "", "")
	}
	ns := new(corev1.Namespace)
	err := r.get(ctx, namespaces, "", r.namespace, ns)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no namespace %q: name another with -n, or read all with -A", r.namespace)
	}
	if err == nil {
		s.Add(ns)
	}
	return unread(s, namespaces, err)
}

// configMaps reads those that pods name. Their Secrets stay unread: check needs no
// right to see any.
func (r *Reader) configMaps(ctx context.Context, s *check.Snapshot) error {
	wanted := s.ConfigMaps()
	for _, namespace := range slices.Sorted(maps.Keys(wanted)) {
		for _, name := range wanted[namespace] {
			m := new(corev1.ConfigMap)
			err := r.get(ctx, configMaps, namespace, name, m)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err == nil {
				s.Add(m)
			}
			if err := unread(s, configMaps, err); err != nil {
				return err
			}
		}
	}
	return nil
}
