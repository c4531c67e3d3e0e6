package inject

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// A namedContainer is a container with its place in the pod, for errors.
type namedContainer struct {
	*corev1.Container
	sidecar bool // it runs beside the containers, or is one of them
}

func containersOf(pod *corev1.Pod) []namedContainer {
	var all []namedContainer
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		all = append(all, namedContainer{c, isNative(c)})
	}
	for i := range pod.Spec.Containers {
		all = append(all, namedContainer{&pod.Spec.Containers[i], true})
	}
	return all
}

// IsTCP reports whether the protocol of a port is TCP, which is the default.
func IsTCP(p corev1.Protocol) bool { return p == "" || p == corev1.ProtocolTCP }

// findBackend sets the backend of the settings: the port in the annotation, or the
// only port named grpc or grpc-*.
func findBackend(pod *corev1.Pod, s *settings) error {
	port, err := backendPort(pod, s.backendPort)
	if err != nil {
		return err
	}
	s.port = port
	s.backend = net.JoinHostPort(cmp.Or(s.backendHost, "127.0.0.1"), strconv.Itoa(int(port)))
	return nil
}

// NoPort is why a pod gets no culvert that says nothing of it, in a namespace that asks for it.
const NoPort = "no container has a port named grpc or grpc-*, and the namespace alone asks for culvert"

// isGRPC reports whether a port's name says that it is a gRPC service's.
func isGRPC(p corev1.ContainerPort) bool {
	return IsTCP(p.Protocol) && (p.Name == "grpc" || strings.HasPrefix(p.Name, "grpc-"))
}

// isOther reports whether a pod is none that culvert is for: no port that can be a backend's
// is named grpc, and no annotation is culvert's. Databases and Jobs share namespaces with
// gRPC services.
func isOther(pod *corev1.Pod) bool {
	for name := range pod.Annotations {
		if strings.HasPrefix(name, AnnotationPrefix) {
			return false
		}
	}
	return !slices.ContainsFunc(containersOf(pod), func(c namedContainer) bool { return c.sidecar && slices.ContainsFunc(c.Ports, isGRPC) })
}

func backendPort(pod *corev1.Pod, wanted string) (int32, error) {
	const annotation = AnnotationPrefix + "backend-port"
	if n, err := portNumber(wanted); wanted != "" && err == nil {
		return n, nil
	}
	fits := isGRPC
	if wanted != "" {
		fits = func(p corev1.ContainerPort) bool { return p.Name == wanted }
	}
	var found []string
	var numbers []int32
	for _, c := range containersOf(pod) {
		for _, p := range c.Ports {
			if c.sidecar && IsTCP(p.Protocol) && fits(p) {
				found = append(found, fmt.Sprintf("%s (%d, container %s)", p.Name, p.ContainerPort, c.Name))
				numbers = append(numbers, p.ContainerPort)
			}
		}
	}
	switch slices.Sort(numbers); len(slices.Compact(numbers)) {
	case 1:
		return numbers[0], nil
	case 0:
		if wanted != "" {
			return 0, fmt.Errorf("annotation %s: no container has a port named %q: write the port's number", annotation, wanted)
		}
		return 0, fmt.Errorf("no container has a port named grpc or grpc-*: name the port of the gRPC service grpc, or set the annotation %s to its number", annotation)
	}
	return 0, fmt.Errorf("several ports may be the gRPC service's: %s: set the annotation %s to the number of one", strings.Join(found, ", "), annotation)
}

// clashes returns an error with a line for each name and port that both the pod and
// culvert would use.
func clashes(pod *corev1.Pod, s *settings, c *Config) error {
	var errs []error
	const listen = AnnotationPrefix + "listen-port"
	ours := map[int32]string{
		s.listenPort: "culvert's port for clients: set the annotation " + listen + " to a free port",
		c.HealthPort: "culvert's port for probes: set healthPort in the injector's configuration, or change the container's port",
		c.AdminPort:  "culvert's port for the drain: set adminPort in the injector's configuration, or change the container's port",
	}
	if len(ours) < 3 {
		errs = append(errs, fmt.Errorf("annotation %s: %d is also culvert's port for probes or the drain: choose another port", listen, s.listenPort))
	}
	if use, taken := ours[s.port]; taken && s.backendHost == "" {
		errs = append(errs, fmt.Errorf("the backend's port %d is also %s", s.port, use))
	}
	for _, other := range containersOf(pod) {
		if isCulvert(*other.Container) { // otherwise it would be the pod's sidecar
			errs = append(errs, fmt.Errorf("the init container %s has no restartPolicy: Always, so the pod would wait for its end, forever: add that, or remove the container", ContainerName))
			continue
		}
		if other.Name == ContainerName {
			errs = append(errs, fmt.Errorf("a container is named %s, but has no port named %s: rename the container, or the port if the container is culvert, or opt out with the label %s: %s", ContainerName, PortName, Label, Disabled))
		}
		for _, p := range other.Ports {
			if p.Name == PortName || p.Name == HealthPortName {
				errs = append(errs, fmt.Errorf("a port of container %s is named %s, like culvert's: rename it", other.Name, p.Name))
			}
			if use, taken := ours[p.ContainerPort]; taken && IsTCP(p.Protocol) && p.ContainerPort != s.port {
				errs = append(errs, fmt.Errorf("port %d of container %s is also %s", p.ContainerPort, other.Name, use))
			}
		}
	}
	for _, v := range pod.Spec.Volumes {
		if strings.HasPrefix(v.Name, volumePrefix) && !isLeft(v, pod, s) {
			errs = append(errs, fmt.Errorf("a volume is named %s: names with %s are for the injector: rename it", v.Name, volumePrefix))
		}
	}
	for _, m := range s.mounts {
		if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
			errs = append(errs, fmt.Errorf("annotation %smounts: the pod has no volume named %q", AnnotationPrefix, m.Name))
		}
		if path.Clean(m.MountPath) != m.MountPath || !path.IsAbs(m.MountPath) || strings.Contains(m.MountPath, ":") {
			errs = append(errs, fmt.Errorf("annotation %smounts: mountPath %q of %s isn't an absolute path, such as /data", AnnotationPrefix, m.MountPath, m.Name))
		}
	}
	taken := map[string]bool{}
	for _, m := range mounts(s) {
		if taken[m.MountPath] {
			errs = append(errs, fmt.Errorf("annotation %smounts: something is mounted at %s already: choose another mountPath", AnnotationPrefix, m.MountPath))
		}
		taken[m.MountPath] = true
	}
	return errors.Join(errs...)
}
