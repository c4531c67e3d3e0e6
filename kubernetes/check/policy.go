package check

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// policies checks which ports of the pod other pods reach.
//
// A pod that no policy selects takes connections from everywhere. Once one selects
// it, it takes only those that some policy allows. Policies don't affect
// connections inside the pod, such as culvert's to the backend.
// https://kubernetes.io/docs/concepts/services-networking/network-policies/
//
// The steps must come before the backend's port is closed: clients need it until then.
func (c *checker) policies(s *subject, steps []string) {
	selecting := c.snapshot.policiesOf(s)
	if len(selecting) > 0 && !s.pod.Spec.HostNetwork {
		c.closed(s, selecting)
	}
	if s.backend == 0 || s.onLoopback() && !s.pod.Spec.HostNetwork {
		return
	}
	const loopback = "let the backend listen on 127.0.0.1 only"
	switch {
	case s.pod.Spec.HostNetwork:
		c.add(Warning, s.object, fmt.Sprintf("the backend's port %d can be reached past culvert: the pod has hostNetwork, and no NetworkPolicy protects it", s.backend),
			after(steps, loopback+", if it doesn't yet"))
	case len(selecting) == 0:
		f := c.add(Warning, s.object, fmt.Sprintf("every pod of the cluster can reach the backend's port %d past culvert: no NetworkPolicy%s selects the pod",
			s.backend, c.here()), "apply the NetworkPolicy below, or "+loopback)
		switch {
		case s.selector == nil:
			f.Remedy = after(steps, "give the pod a label that a NetworkPolicy can select, or "+loopback)
		case len(steps) > 0: // -o yaml prints manifests alone, for kubectl apply
			f.Remedy = after(steps, "apply the NetworkPolicy that check prints, or "+loopback)
		default:
			f.Manifest = policyHead + toYAML(c.policy(s, true))
		}
	default:
		if !c.opened(s, selecting, steps) {
			return
		}
	}
	c.probes(s)
}

const policyHead = `# It closes all ports that it doesn't list to other pods. It has no effect on
# connections inside a pod. Most network plugins always let the kubelet's probes pass;
# a plugin without policies ignores it.
`

// policiesOf returns the policies that decide who reaches the subject's pods.
func (s *Snapshot) policiesOf(sub *subject) []*networkingv1.NetworkPolicy {
	return slices.DeleteFunc(slices.Clone(s.policies), func(p *networkingv1.NetworkPolicy) bool {
		// A policy without types is about ingress.
		about := len(p.Spec.PolicyTypes) == 0 || slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		return !about || err != nil || p.Namespace != sub.ns.Name || !selector.Matches(labels.Set(sub.pod.Labels))
	})
}

// closed finds policies that keep clients or probes from culvert.
func (c *checker) closed(s *subject, selecting []*networkingv1.NetworkPolicy) {
	var names []string
	for _, p := range selecting {
		names = append(names, p.Name)
	}
	by := "the NetworkPolicy " + strings.Join(names, ", ")
	if _, _, open := s.rule(selecting, s.listen, false); !open {
		f := c.add(Error, s.object, fmt.Sprintf("%s closes culvert's port %d: no client reaches it", by, s.listen), "apply the NetworkPolicy below, which opens it")
		if s.selector != nil {
			f.Manifest = toYAML(c.policy(s, false))
		}
	} else if _, _, open := s.rule(selecting, s.health, false); !open && s.health != 0 {
		c.add(Note, s.object, fmt.Sprintf("%s closes the port %d: the kubelet's probes pass with most network plugins, and Prometheus can't read the metrics",
			by, s.health), "open the port to Prometheus")
	}
}

// opened finds rules that let others reach the backend.
func (c *checker) opened(s *subject, selecting []*networkingv1.NetworkPolicy, steps []string) bool {
	severity, who, unless := Warning, "every pod", ""
	p, i, open := s.rule(selecting, s.backend, true)
	if !open {
		severity, who, unless = Note, "some pods", "if they needn't, "
		p, i, open = s.rule(selecting, s.backend, false)
	}
	if open {
		c.add(severity, s.object, fmt.Sprintf("the NetworkPolicy %s lets %s reach the backend's port %d past culvert, by spec.ingress[%d]", p.Name, who, s.backend, i),
			after(steps, fmt.Sprintf("%slet the rule list its ports, with %d instead of %d", unless, s.listen, s.backend)))
	}
	return open
}

// rule returns the first rule that opens the port: to anybody at all, or with
// everybody, to all.
func (s *subject) rule(selecting []*networkingv1.NetworkPolicy, port int32, everybody bool) (*networkingv1.NetworkPolicy, int, bool) {
	for _, p := range selecting {
		for i, rule := range p.Spec.Ingress {
			if s.covers(rule.Ports, port) && (!everybody || fromAll(rule.From)) {
				return p, i, true
			}
		}
	}
	return nil, 0, false
}

// covers reports whether the ports of a rule include one.
func (s *subject) covers(ports []networkingv1.NetworkPolicyPort, port int32) bool {
	if len(ports) == 0 {
		return true
	}
	return slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		switch {
		case p.Protocol != nil && !inject.IsTCP(*p.Protocol):
			return false
		case p.Port == nil:
			return true
		case p.EndPort != nil:
			return p.Port.IntVal <= port && port <= *p.EndPort
		}
		return s.number(*p.Port) == port
	})
}

// fromAll reports whether the peers of a rule are all pods of the cluster.
func fromAll(peers []networkingv1.NetworkPolicyPeer) bool {
	if len(peers) == 0 {
		return true
	}
	return slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		if b := p.IPBlock; b != nil {
			return strings.HasSuffix(b.CIDR, "/0") && len(b.Except) == 0
		}
		return p.NamespaceSelector != nil && empty(p.NamespaceSelector) && (p.PodSelector == nil || empty(p.PodSelector))
	})
}

// empty reports whether a selector matches everything.
func empty(s *metav1.LabelSelector) bool { return len(s.MatchLabels)+len(s.MatchExpressions) == 0 }

// policy opens culvert's ports. With others, it opens those of the other containers
// too, also undeclared ones that Prometheus and probes ask, so that only the backend's
// port becomes closed.
func (c *checker) policy(s *subject, others bool) *networkingv1.NetworkPolicy {
	port := func(protocol corev1.Protocol, n int32) networkingv1.NetworkPolicyPort {
		return networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: new(intstr.FromInt32(n))}
	}
	// Numbers: some network plugins look for names among the containers alone, and
	// culvert is an init container.
	ports := []networkingv1.NetworkPolicyPort{port(corev1.ProtocolTCP, s.listen)}
	open := func(protocol corev1.Protocol, n int32) {
		protocol = cmp.Or(protocol, corev1.ProtocolTCP)
		known := slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool { return *p.Protocol == protocol && p.Port.IntVal == n })
		if n != 0 && !known && (n != s.backend || protocol != corev1.ProtocolTCP) {
			ports = append(ports, port(protocol, n))
		}
	}
	open(corev1.ProtocolTCP, s.health)
	if others {
		for _, other := range s.others() {
			for _, p := range other.Ports {
				open(p.Protocol, p.ContainerPort)
			}
			for _, p := range probesOf(other) {
				open(corev1.ProtocolTCP, s.asked(p.Probe))
			}
		}
		if n, err := strconv.ParseUint(s.pod.Annotations[prometheusPort], 10, 16); err == nil {
			open(corev1.ProtocolTCP, int32(n))
		}
		for _, svc := range c.snapshot.servicesOf(s) {
			for _, p := range svc.Spec.Ports {
				if p.TargetPort == (intstr.IntOrString{}) {
					p.TargetPort = intstr.FromInt32(p.Port)
				}
				open(p.Protocol, s.number(p.TargetPort))
			}
		}
	}
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: c.newName("NetworkPolicy", s), Namespace: s.ns.Name},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: *s.selector,
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress:     []networkingv1.NetworkPolicyIngressRule{{Ports: ports}},
		},
	}
}

// probes finds probes of the backend's port. They come from the node.
func (c *checker) probes(s *subject) {
	backend := s.backendContainer()
	if backend == nil {
		return
	}
	for _, p := range probesOf(backend) {
		if s.asked(p.Probe) == s.backend {
			c.add(Note, s.object, fmt.Sprintf("the %s of the container %s asks port %d from the node: most network plugins let it pass a NetworkPolicy, and it can't reach a backend on 127.0.0.1",
				p.name, backend.Name, s.backend), "see that the pod stays ready; an exec probe works everywhere")
		}
	}
}

type probe struct {
	name string
	*corev1.Probe
}

func probesOf(c *corev1.Container) []probe {
	all := []probe{{"startupProbe", c.StartupProbe}, {"livenessProbe", c.LivenessProbe}, {"readinessProbe", c.ReadinessProbe}}
	return slices.DeleteFunc(all, func(p probe) bool { return p.Probe == nil })
}

// asked returns the port that a probe asks; 0 if it is an exec probe.
func (s *subject) asked(p *corev1.Probe) int32 {
	switch {
	case p.GRPC != nil:
		return p.GRPC.Port
	case p.HTTPGet != nil:
		return s.number(p.HTTPGet.Port)
	case p.TCPSocket != nil:
		return s.number(p.TCPSocket.Port)
	}
	return 0
}

func toYAML(object any) string {
	text, err := yaml.Marshal(object)
	if err != nil {
		return fmt.Sprintf("# %v\n", err) // these types always have JSON
	}
	// Fields that only the API server writes.
	return strings.NewReplacer("status:\n  loadBalancer: {}\n", "", "  creationTimestamp: null\n", "").Replace(string(text))
}
