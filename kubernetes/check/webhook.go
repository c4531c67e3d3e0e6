package check

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// webhookSuffix ends the names of the injector's webhooks.
const webhookSuffix = "inject.culvert.dev"

type injector struct {
	config string
	hook   *admissionv1.MutatingWebhook
}

func (s *Snapshot) injectors() []injector {
	var all []injector
	for _, config := range s.webhooks {
		for i := range config.Webhooks {
			if strings.HasSuffix(config.Webhooks[i].Name, webhookSuffix) {
				all = append(all, injector{config.Name, &config.Webhooks[i]})
			}
		}
	}
	return all
}

// webhooks checks whether the API server can call the injector.
func (c *checker) webhooks(subjects []*subject) {
	const kind = "MutatingWebhookConfiguration"
	if c.snapshot.Unread[kind] != "" {
		return
	}
	all := c.snapshot.injectors()
	asking := slices.ContainsFunc(subjects, func(s *subject) bool { return s.asks() && !s.templateHas })
	if len(all) == 0 {
		severity := Note
		if asking {
			severity = Error
		}
		if !c.snapshot.Partial {
			c.add(severity, kind, "the injector's webhook isn't installed: no pod gets culvert when it is made",
				"install the injector, or put culvert into the manifests by culvert-kube inject")
		}
		return
	}
	// The webhooks of one configuration mostly have the same problems.
	type problem struct {
		Severity
		config, text, remedy string
	}
	var problems []problem
	names := map[problem][]string{}
	for _, in := range all {
		for _, f := range c.webhook(in.hook) {
			p := problem{f.Severity, in.config, f.Problem, f.Remedy}
			if names[p] == nil {
				problems = append(problems, p)
			}
			names[p] = append(names[p], in.hook.Name)
		}
	}
	for _, p := range problems {
		c.add(p.Severity, kind+" "+p.config, strings.Join(names[p], ", ")+": "+p.text, p.remedy)
	}
	if c.snapshot.Unread["Namespace"] == "" && !c.snapshot.Partial {
		for _, s := range subjects {
			if s.asks() && !s.templateHas && !slices.ContainsFunc(all, func(in injector) bool { return calledFor(in.hook, s) }) {
				c.add(Error, s.object, "it asks for culvert, and the selectors of no webhook match its pods: they are made without it",
					"put the label on the pod itself, or change namespaceSelector and objectSelector of the injector's webhooks")
			}
		}
	}
}

// webhook returns what is wrong with one webhook.
func (c *checker) webhook(hook *admissionv1.MutatingWebhook) []Finding {
	var found []Finding
	add := func(s Severity, problem, remedy string) {
		found = append(found, Finding{Severity: s, Problem: problem, Remedy: remedy})
	}
	consequence := "the API server refuses pods that ask for culvert"
	if p := hook.FailurePolicy; p != nil && *p == admissionv1.Ignore {
		consequence = "pods that ask for culvert start without it"
		add(Note, "failurePolicy is Ignore: pods that are made while the injector doesn't answer start without culvert, and stay so",
			"set failurePolicy: Fail if no pod may be without culvert")
	}
	if !slices.ContainsFunc(hook.Rules, isForPods) {
		add(Error, "its rules don't have the creation of pods, so nothing is injected", "install the injector's manifest again")
	}
	// In a manifest, the caBundle is empty: the injector fills it in the cluster.
	unfilled := c.snapshot.Partial && len(hook.ClientConfig.CABundle) == 0
	if problem := bundleProblem(hook.ClientConfig.CABundle, c.snapshot.Now); problem != "" && !unfilled {
		add(Error, problem+": "+consequence, "look at the injector's log: it fills the caBundle itself, unless it has --tls-cert")
	}
	ref := hook.ClientConfig.Service
	if ref == nil || c.snapshot.Unread["EndpointSlice"] != "" || c.snapshot.Partial {
		return found
	}
	switch c.snapshot.ready(ref.Namespace, ref.Name) {
	case 0:
		add(Error, fmt.Sprintf("the Service %s/%s has no ready endpoint: %s", ref.Namespace, ref.Name, consequence),
			fmt.Sprintf("kubectl get pods,endpointslices -n %s", ref.Namespace))
	case 1:
		add(Warning, fmt.Sprintf("the Service %s/%s has one ready endpoint: while that restarts, %s", ref.Namespace, ref.Name, consequence),
			"run two replicas of the injector")
	}
	return found
}

func isForPods(r admissionv1.RuleWithOperations) bool {
	has := func(list []string, one string) bool { return slices.Contains(list, one) || slices.Contains(list, "*") }
	return has(r.Resources, "pods") && has(r.APIGroups, "") && has(r.APIVersions, "v1") &&
		(slices.Contains(r.Operations, admissionv1.Create) || slices.Contains(r.Operations, admissionv1.OperationAll))
}

// bundleProblem says why the API server trusts no certificate by a caBundle. Whether
// the injector's certificate is one of these only a call shows.
func bundleProblem(bundle []byte, now time.Time) string {
	if len(bytes.TrimSpace(bundle)) == 0 {
		return "the caBundle is empty"
	}
	var last time.Time
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Sprintf("the caBundle has something that is no certificate: %v", err)
		}
		if certificate.NotAfter.After(last) {
			last = certificate.NotAfter
		}
	}
	switch {
	case last.IsZero():
		return "the caBundle has no certificate"
	case last.Before(now):
		return "the caBundle expired on " + last.UTC().Format(time.DateOnly)
	}
	return ""
}

// ready counts the ready endpoints of a Service.
func (s *Snapshot) ready(namespace, service string) int {
	addresses := map[string]bool{}
	for _, slice := range s.slices {
		if slice.Namespace != namespace || slice.Labels["kubernetes.io/service-name"] != service {
			continue
		}
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				for _, a := range e.Addresses {
					addresses[a] = true
				}
			}
		}
	}
	return len(addresses)
}

// calledFor reports whether the API server calls the webhook for the subject's pods.
func calledFor(hook *admissionv1.MutatingWebhook, s *subject) bool {
	namespace := labels.Set{corev1.LabelMetadataName: s.ns.Name}
	maps.Copy(namespace, s.ns.Labels)
	return matches(hook.NamespaceSelector, namespace) && matches(hook.ObjectSelector, s.template.Labels)
}

// matches reports whether a webhook's selector matches. A webhook without one takes
// everything.
func matches(selector *metav1.LabelSelector, set labels.Set) bool {
	if selector == nil {
		return true
	}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && parsed.Matches(set)
}
