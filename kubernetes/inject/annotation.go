package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/culvert-grpc/culvert/config"
)

// AnnotationPrefix begins the name of each annotation that is for the injector.
const AnnotationPrefix = "culvert.dev/"

// graceWas is an annotation that only the injector writes: terminationGracePeriodSeconds
// before it was raised, or "" if it wasn't set. Only removal reads it.
const graceWas = "grace-period-was"

// GraceAnnotation is the name in full. A pod that has it and no culvert is the rest
// of an injected one.
const GraceAnnotation = AnnotationPrefix + graceWas

// settings are what a pod's annotations say, with the injector's defaults.
type settings struct {
	backendPort string // a number or the name of a port; empty: the port named grpc
	backendHost string
	listenPort  int32
	image       string
	configMap   string
	tlsSecret   string
	args        []string
	mounts      []corev1.VolumeMount
	security    *corev1.SecurityContext // with what the annotation doesn't set
	drain       time.Duration
	variables   []corev1.EnvVar   // of keys of the configuration, in the order of their names
	values      map[string]string // the same by the keys' names

	backend string // host:port, by findBackend
	port    int32  // the backend's, by findBackend
}

// annotations are those that are no keys of the configuration, by their names
// without the prefix.
var annotations = map[string]func(s *settings, value string) error{
	"backend-port": func(s *settings, v string) error {
		s.backendPort = v
		if _, err := portNumber(v); err != nil && len(validation.IsValidPortName(v)) > 0 {
			return fmt.Errorf("%q is neither a port from 1 to 65535 nor the name of a container's port", v)
		}
		return nil
	},
	"listen-port": func(s *settings, v string) (err error) { s.listenPort, err = portNumber(v); return err },
	"config":      func(s *settings, v string) error { s.configMap = v; return checkName(v, "ConfigMap") },
	// The names below are restricted.
	"image":      func(s *settings, v string) error { s.image = v; return checkImage(v) },
	"tls-secret": func(s *settings, v string) error { s.tlsSecret = v; return checkName(v, "Secret") },
	"backend-host": func(s *settings, v string) error {
		s.backendHost = v
		if net.ParseIP(v) == nil && len(validation.IsDNS1123Subdomain(v)) > 0 {
			return fmt.Errorf("%q is neither an IP address nor a name of a host", v)
		}
		return nil
	},
	"args": func(s *settings, v string) error { return readJSON(v, &s.args, `["--log-level", "debug"]`) },
	"mounts": func(s *settings, v string) error {
		return readJSON(v, &s.mounts, `[{"name": "data", "mountPath": "/data"}]`)
	},
	"security-context": func(s *settings, v string) error { return readJSON(v, s.security, `{"runAsUser": 1000}`) },
}

// restricted annotations need the permission of the injector's configuration. They
// could give a pod's author the rights of another one.
var restricted = []string{"args", "backend-host", "image", "mounts", "security-context", "tls-secret"}

// keys are the keys of culvert's configuration that annotations set, by name: the
// limits, the origins, and the time for a drain. The variable of the key has the
// value.
var keys = func() map[string]config.Key {
	m := map[string]config.Key{}
	for _, k := range config.Keys() {
		if k.Env == "" { // a list of sections
			continue
		}
		if k.Name == "allow_origins" || k.Name == drainKey || strings.HasPrefix(k.Name, "limits.") {
			m[k.Name] = k
		}
	}
	return m
}()

const (
	drainKey  = "drain_timeout"
	memoryKey = "limits.memory"
)

// fitsContainer returns an error if culvert would believe that it may use more memory than
// its container has: the kernel would then end it, before it refuses calls.
func fitsContainer(value string, c *Config) error {
	limit, limited := c.Resources.Limits[corev1.ResourceMemory]
	if size, err := units.RAMInBytes(value); err == nil && limited && size > limit.Value() { // otherwise it is auto
		return fmt.Errorf("%q is more than the container has (%s): lower it, or raise resources in the injector's configuration", value, limit.String())
	}
	return nil
}

// maxDrain bounds what a drain may take.
const maxDrain = time.Hour

// AnnotationNames returns the names that a pod may have, without the prefix, in
// order.
func AnnotationNames() []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(annotations)), maps.Keys(keys))
	slices.Sort(names)
	return names
}

// Restricted reports whether an annotation, without the prefix, needs the permission
// of the injector's configuration.
func Restricted(name string) bool { return slices.Contains(restricted, name) }

// readAnnotations returns the settings of the pod. The error has a line for each
// wrong annotation.
func readAnnotations(pod *corev1.Pod, namespace string, c *Config) (*settings, error) {
	s := &settings{listenPort: c.ListenPort, image: c.Image, tlsSecret: c.TLSSecret, security: restrictedContext(), drain: c.DrainTimeout.Duration, values: map[string]string{}}
	var errs []error
	for _, full := range slices.Sorted(maps.Keys(pod.Annotations)) {
		name, ours := strings.CutPrefix(full, AnnotationPrefix)
		if !ours {
			continue
		}
		if _, raised := graceBefore(pod); raised && name == graceWas {
			continue // of a copy of an injected pod
		}
		if err := s.read(name, pod.Annotations[full], namespace, c); err != nil {
			errs = append(errs, fmt.Errorf("annotation %s: %w", full, err))
		}
	}
	if len(errs) == 0 && s.configMap == "" { // the file's values may make them fit, or not
		places := map[string]string{}
		for name := range s.values {
			places[name] = "annotation " + AnnotationPrefix + name
		}
		errs = append(errs, config.CheckTogether(s.values, places))
	}
	return s, errors.Join(errs...)
}

func (s *settings) read(name, value, namespace string, c *Config) error {
	if read, known := annotations[name]; known {
		if Restricted(name) && !c.allows(namespace, name) {
			return fmt.Errorf("not allowed in namespace %q: remove it, or let the injector's configuration allow it", namespace)
		}
		return read(s, value)
	}
	if name == graceWas {
		return errors.New("it is from a pod that the injector has changed: remove it")
	}
	key, known := keys[name]
	if !known {
		if name == strings.TrimPrefix(Label, AnnotationPrefix) {
			return fmt.Errorf("it is a label, not an annotation: write labels: {%s: %s}", Label, Enabled)
		}
		return fmt.Errorf("unknown%s", suggest(name, AnnotationNames()))
	}
	values := []string{value}
	if key.List { // as in the key's variable
		values = strings.Fields(value)
	}
	for _, v := range values {
		if err := key.Check(v); err != nil {
			return err
		}
	}
	if value == "" || len(values) == 0 {
		return errors.New("empty: give it a value, or remove it")
	}
	s.values[name] = value
	if name == memoryKey {
		if err := fitsContainer(value, c); err != nil {
			return err
		}
	}
	if name == drainKey {
		d, err := time.ParseDuration(value)
		if err != nil || d > maxDrain {
			return fmt.Errorf("%q is more than %v", value, maxDrain)
		}
		s.drain = d
		return nil
	}
	// Kubernetes would replace $(NAME) in the value, and reads $$ as $.
	// https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
	s.variables = append(s.variables, corev1.EnvVar{Name: key.Env, Value: strings.ReplaceAll(value, "$", "$$")})
	return nil
}

func portNumber(text string) (int32, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || text[0] == '0' {
		return 0, fmt.Errorf("%q isn't a port: write a number from 1 to 65535", text)
	}
	return int32(n), nil
}

func checkName(name, kind string) error {
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		return fmt.Errorf("%q isn't the name of a %s, which has lower case letters, digits, dots and hyphens", name, kind)
	}
	return nil
}

// readJSON reads a value that has a structure.
func readJSON(text string, to any, example string) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return fmt.Errorf("%w: write JSON, such as %s", err, example)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("text after the JSON: write one value, such as %s", example)
	}
	return nil
}
