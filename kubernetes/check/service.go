package check

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// reach finds who reaches culvert, and who reaches the backend past it.
func (c *checker) reach(s *subject) {
	steps := append(s.unready(), c.hostPorts(s)...)
	if c.snapshot.Unread["Pod"] != "" {
		steps = append(steps, "let check list Pods")
	}
	if c.snapshot.Unread["Service"] != "" {
		steps = append(steps, "let check list Services")
	} else {
		steps = append(steps, c.services(s)...)
	}
	if c.snapshot.Unread["NetworkPolicy"] == "" {
		c.policies(s, steps)
	}
}

// services finds Services that lead past culvert. It returns the steps after which their
// clients don't need the backend's port.
func (c *checker) services(s *subject) (steps []string) {
	reached, port := false, c.port(s)
	var past []string
	for _, svc := range c.snapshot.servicesOf(s) {
		if svc.Spec.ClusterIP == corev1.ClusterIPNone {
			to, by := c.headless(s, svc)
			reached = reached || to
			if by {
				steps = append(steps, fmt.Sprintf("let the clients of the headless Service %s use port %d", svc.Name, s.listen))
			}
			continue
		}
		for _, p := range svc.Spec.Ports {
			if p.TargetPort.StrVal == inject.PortName && port.StrVal == "" {
				reached = true // once it is corrected
				steps = append(steps, fmt.Sprintf("set targetPort: %s in the Service %s", port.String(), svc.Name))
				c.add(Error, objectName("Service", svc.Namespace, svc.Name),
					fmt.Sprintf("its targetPort %s leads nowhere: the API server %s is older than 1.%d, and finds no ports of native sidecars by name", inject.PortName, c.snapshot.Version, namedSince),
					"set targetPort: "+port.String())
				continue
			}
			switch s.target(p) {
			case 0:
				if p.TargetPort.StrVal == inject.PortName {
					reached = true // the number is another one in other pods
				} else if p.TargetPort.StrVal != "" && inject.IsTCP(p.Protocol) {
					reached = c.nowhere(s, svc, p) || reached
				}
			case s.listen:
				reached = true
			case s.backend:
				if !slices.Contains(past, svc.Name) {
					past = append(past, svc.Name)
				}
				c.past(s, svc, p)
			}
		}
	}
	if len(past) > 0 {
		steps = append(steps, fmt.Sprintf("set targetPort: %s in the Service %s", port.String(), strings.Join(past, ", ")))
	}
	if reached || !s.endsUnderLoad() { // a Job serves nobody
		return steps
	}
	selector := s.serviceSelector()
	remedy := "apply the Service below"
	if len(selector) == 0 {
		remedy = "give the pod a label that a Service can select"
	} else if len(past) > 0 {
		remedy = after(s.unready(), fmt.Sprintf("set targetPort: %s in the Service %s, or apply the Service below", port.String(), past[0]))
	}
	f := c.add(c.missing(Warning), s.object, fmt.Sprintf("no Service%s leads to culvert's port", c.here()), remedy)
	if len(selector) > 0 {
		f.Manifest = toYAML(&corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: metav1.ObjectMeta{Name: c.newName("Service", s), Namespace: s.ns.Name},
			Spec: corev1.ServiceSpec{
				Selector: selector,
				Ports:    []corev1.ServicePort{{Name: "culvert", Port: servicePort, TargetPort: port}},
			},
		})
	}
	return steps
}

// nowhere tells of a Service's port that names a port which the pods don't have. It reports
// whether that should be culvert's.
func (c *checker) nowhere(s *subject, svc *corev1.Service, p corev1.ServicePort) (culverts bool) {
	names := []string{inject.PortName}
	for _, other := range s.others() {
		for _, p := range other.Ports {
			names = append(names, p.Name)
		}
	}
	near := config.Nearest(p.TargetPort.StrVal, names)
	remedy := "write the name of one of their ports: " + strings.Join(slices.DeleteFunc(names, func(n string) bool { return n == "" }), ", ")
	if near != "" {
		remedy = "set targetPort: " + near
	}
	c.add(Error, objectName("Service", svc.Namespace, svc.Name),
		fmt.Sprintf("its targetPort %s leads nowhere in the pods of %s: no container has a port of that name", p.TargetPort.StrVal, s.object), remedy)
	return near == inject.PortName
}

// newName returns the name of an object that check makes for a subject. It fits a
// Service, whose names are the strictest (RFC 1035). Subjects of the same name, such as a
// Deployment and a StatefulSet, get several.
func (c *checker) newName(kind string, s *subject) string {
	name := "culvert-" + strings.ReplaceAll(s.name, ".", "-")
	ending := func(end string) string {
		const longest = 63
		return strings.TrimRight(name[:min(len(name), longest-len(end))], "-") + end
	}
	unique := ending("")
	for i := 2; c.made[objectName(kind, s.ns.Name, unique)]; i++ {
		unique = ending(fmt.Sprintf("-%d", i))
	}
	c.made[objectName(kind, s.ns.Name, unique)] = true
	return unique
}

// servicePort is the port of a Service that check prints.
const servicePort = 8080

// past tells of a Service that leads to the backend.
func (c *checker) past(s *subject, svc *corev1.Service, p corev1.ServicePort) {
	where := ""
	switch spec := &svc.Spec; {
	case spec.Type == corev1.ServiceTypeLoadBalancer:
		where = ", also from outside the cluster: it is a LoadBalancer"
	case spec.Type == corev1.ServiceTypeNodePort:
		where = ", also from outside the cluster: it is a NodePort"
	case len(spec.ExternalIPs) > 0:
		where = ", also from outside the cluster: it has external addresses"
	}
	if names := c.snapshot.ingressesTo(svc, p); where == "" && len(names) > 0 {
		where = fmt.Sprintf(", also from outside the cluster: through the Ingress %s", strings.Join(names, ", "))
	}
	c.add(Warning, objectName("Service", svc.Namespace, svc.Name),
		fmt.Sprintf("its port %d leads to port %d of %s, past culvert%s", p.Port, s.backend, s.object, where),
		after(s.unready(), fmt.Sprintf("set targetPort: %s. culvert takes native gRPC on that port, too", new(c.port(s)).String())))
}

// headless reports whether the clients of a headless Service reach culvert, and whether
// they get past it. DNS gives them the pods' addresses. Only SRV records have ports, and
// most clients use the one in their target: the Service's port shows which that is.
// https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
func (c *checker) headless(s *subject, svc *corev1.Service) (reached, past bool) {
	srv := false // only clients that read SRV records reach culvert
	for _, p := range svc.Spec.Ports {
		target := s.target(p)
		switch {
		case !inject.IsTCP(p.Protocol):
		case s.backend != 0 && (p.Port == s.backend || target == s.backend):
			past = true
		case p.Port == s.listen:
			reached = true
		case target == s.listen || p.TargetPort.StrVal == inject.PortName:
			srv = true
		}
	}
	if past || srv && !reached {
		c.add(Warning, objectName("Service", svc.Namespace, svc.Name),
			fmt.Sprintf("it is headless: clients connect to pods of %s with the port in their target, and reach culvert only with %d. The Service's ports are only in SRV records", s.object, s.listen),
			after(s.unready(), fmt.Sprintf("let the clients use port %d, and set port: %d in the Service. Or give culvert the clients' port by the annotation %slisten-port, and the backend another one",
				s.listen, s.listen, inject.AnnotationPrefix)))
	}
	return reached, past
}

// hostPorts finds ports of nodes that lead to the backend. It returns the steps after
// which no client uses them. With hostNetwork, every port is one of the node.
func (c *checker) hostPorts(s *subject) (steps []string) {
	if s.backend == 0 || s.pod.Spec.HostNetwork {
		return nil
	}
	for _, other := range s.others() {
		for _, p := range other.Ports {
			if p.HostPort == 0 || p.ContainerPort != s.backend || !inject.IsTCP(p.Protocol) {
				continue
			}
			c.add(Warning, s.object, fmt.Sprintf("the container %s opens the backend's port %d on the node, as hostPort %d: clients reach it past culvert", other.Name, s.backend, p.HostPort),
				"remove hostPort, or move it to the port of culvert's container if that is in your manifest")
			steps = append(steps, "remove the hostPort of the container "+other.Name)
		}
	}
	return steps
}

func (s *Snapshot) servicesOf(sub *subject) []*corev1.Service {
	return slices.DeleteFunc(slices.Clone(s.services), func(svc *corev1.Service) bool {
		return svc.Namespace != sub.ns.Name || len(svc.Spec.Selector) == 0 ||
			!labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(sub.pod.Labels))
	})
}

// target returns the pod's port that a Service's port leads to; 0 if the pod has none
// of that name.
func (s *subject) target(p corev1.ServicePort) int32 {
	if !inject.IsTCP(p.Protocol) {
		return 0
	}
	if p.TargetPort == (intstr.IntOrString{}) {
		return p.Port
	}
	return s.number(p.TargetPort)
}

// number returns the number of a port of the pod.
func (s *subject) number(port intstr.IntOrString) int32 {
	if port.Type == intstr.Int {
		return port.IntVal
	}
	for _, c := range append(s.others(), s.sidecar) {
		for _, p := range c.Ports {
			if p.Name == port.StrVal {
				return p.ContainerPort
			}
		}
	}
	return 0
}

func (s *Snapshot) ingressesTo(svc *corev1.Service, p corev1.ServicePort) []string {
	var names []string
	for _, in := range s.ingresses {
		leads := func(b *networkingv1.IngressBackend) bool {
			return in.Namespace == svc.Namespace && b != nil && b.Service != nil && b.Service.Name == svc.Name &&
				(b.Service.Port.Number == p.Port || b.Service.Port.Name != "" && b.Service.Port.Name == p.Name)
		}
		found := leads(in.Spec.DefaultBackend)
		for _, rule := range in.Spec.Rules {
			if rule.HTTP != nil {
				found = found || slices.ContainsFunc(rule.HTTP.Paths, func(p networkingv1.HTTPIngressPath) bool { return leads(&p.Backend) })
			}
		}
		if found {
			names = append(names, in.Name)
		}
	}
	return names
}
