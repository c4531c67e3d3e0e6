package inject

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	yamlv3 "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/culvert-grpc/culvert/config"
)

// Config is the injector's own configuration. Annotations of a pod can't change
// it.
type Config struct {
	// Image is the image of the sidecar. Required.
	Image string `json:"image,omitempty"`

	// ImagePullPolicy of the sidecar. Default: Kubernetes' own.
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`

	// ListenPort is the port for clients, if the annotation listen-port sets no
	// other. HealthPort has the probes and the metrics, on the pod's address.
	// AdminPort is for the drain, on loopback.
	ListenPort int32 `json:"listenPort,omitempty"`
	HealthPort int32 `json:"healthPort,omitempty"`
	AdminPort  int32 `json:"adminPort,omitempty"`

	// Resources of the sidecar.
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`

	// DrainDelay is how long culvert still serves new calls when the pod ends.
	// DrainTimeout is culvert's drain_timeout. Both are whole seconds.
	DrainDelay   metav1.Duration `json:"drainDelay,omitempty"`
	DrainTimeout metav1.Duration `json:"drainTimeout,omitempty"`

	// TLSSecret is a Secret of the pod's namespace with tls.crt and tls.key. Empty:
	// clients use plaintext.
	TLSSecret string `json:"tlsSecret,omitempty"`

	// HostNetwork also injects pods with hostNetwork, whose ports are the node's.
	HostNetwork bool `json:"hostNetwork,omitempty"`

	// ExcludedNamespaces are never injected, besides kube-system, kube-public and
	// kube-node-lease.
	ExcludedNamespaces []string `json:"excludedNamespaces,omitempty"`

	// Allow lists the restricted annotations that pods may have, by namespace.
	Allow []Allowance `json:"allow,omitempty"`
}

// An Allowance lets the pods of some namespaces have restricted annotations.
type Allowance struct {
	Namespaces  []string `json:"namespaces"`  // patterns as in [path.Match]: "payments", "team-*"
	Annotations []string `json:"annotations"` // names without "culvert.dev/": "image", "tls-secret"
}

// DefaultConfig returns the configuration without an image. Its ports are none
// that applications and other sidecars usually have.
func DefaultConfig() Config {
	return Config{
		ListenPort: 15080,
		HealthPort: 15081,
		AdminPort:  15082,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("100m"),
				corev1.ResourceMemory: resource.MustParse("64Mi"),
			},
			// Without a CPU limit, which would throttle bursts. culvert takes nine tenths
			// of the memory limit as limits.memory.
			Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		},
		DrainDelay:   metav1.Duration{Duration: 5 * time.Second},
		DrainTimeout: metav1.Duration{Duration: 20 * time.Second},
	}
}

// ReadConfig reads a configuration in YAML. Keys that it doesn't set have their
// defaults. It refuses unknown and repeated keys. The caller may set Image before it
// calls [Config.Check].
func ReadConfig(text []byte) (*Config, error) {
	c := DefaultConfig()
	documents := yamlv3.NewDecoder(bytes.NewReader(text))
	for i := 0; ; i++ {
		if err := documents.Decode(new(yamlv3.Node)); err != nil {
			break // a mistake is reported below
		} else if i > 0 {
			return nil, errors.New("a second document follows ---: write all keys into one")
		}
	}
	whole, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	mistakes, err := kjson.UnmarshalStrict(whole, &c)
	if err := errors.Join(append(mistakes, err)...); err != nil {
		return nil, err
	}
	var set Config
	if err := kjson.UnmarshalCaseSensitivePreserveInts(whole, &set); err != nil {
		return nil, err
	}
	// A default request gives way to a lower limit.
	for name, limit := range set.Resources.Limits {
		request, has := c.Resources.Requests[name]
		if _, chosen := set.Resources.Requests[name]; has && !chosen && request.Cmp(limit) > 0 {
			c.Resources.Requests[name] = limit
		}
	}
	return &c, nil
}

// Check returns an error with a line for each wrong value.
func (c *Config) Check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Image == "" {
		wrong("image: no image for the sidecar: set it, such as culvert:1.0.0")
	} else if err := checkImage(c.Image); err != nil {
		wrong("image: %w", err)
	}
	if p := c.ImagePullPolicy; p != "" && p != corev1.PullAlways && p != corev1.PullIfNotPresent && p != corev1.PullNever {
		wrong("imagePullPolicy: %q isn't one of Always, IfNotPresent, Never", p)
	}
	ports := map[int32]string{}
	for _, p := range []struct {
		key  string
		port int32
	}{{"listenPort", c.ListenPort}, {"healthPort", c.HealthPort}, {"adminPort", c.AdminPort}} {
		if p.port < 1 || p.port > 65535 {
			wrong("%s: %d isn't a port: write a number from 1 to 65535", p.key, p.port)
		} else if other, taken := ports[p.port]; taken {
			wrong("%s: %d is also %s: give each a port of its own", p.key, p.port, other)
		}
		ports[p.port] = p.key
	}
	for _, d := range []struct {
		key string
		d   metav1.Duration
	}{{"drainDelay", c.DrainDelay}, {"drainTimeout", c.DrainTimeout}} {
		if d.d.Duration < 0 || d.d.Duration%1e9 != 0 || d.d.Duration > maxDrain {
			wrong("%s: %v isn't whole seconds up to %v, such as 5s", d.key, d.d.Duration, maxDrain)
		}
	}
	if s := c.TLSSecret; s != "" && len(validation.IsDNS1123Subdomain(s)) > 0 {
		wrong("tlsSecret: %q isn't the name of a Secret", s)
	}
	for _, name := range c.ExcludedNamespaces {
		if len(validation.IsDNS1123Label(name)) > 0 {
			wrong("excludedNamespaces: %q isn't the name of a namespace: write each in full", name)
		}
	}
	for name, limit := range c.Resources.Limits {
		if request := c.Resources.Requests[name]; request.Cmp(limit) > 0 {
			wrong("resources: the request of %s is more than its limit", name)
		}
	}
	for name, request := range c.Resources.Requests {
		if request.Sign() < 0 {
			wrong("resources: the request of %s is negative", name)
		}
	}
	for i, a := range c.Allow {
		if len(a.Namespaces) == 0 || len(a.Annotations) == 0 {
			wrong("allow[%d]: names no namespaces or no annotations: set both, or remove the entry", i)
		}
		for _, pattern := range a.Namespaces {
			if _, err := path.Match(pattern, ""); err != nil {
				wrong("allow[%d].namespaces: %q isn't a pattern: write a name, or one with * such as team-*", i, pattern)
			}
		}
		for _, name := range a.Annotations {
			if !slices.Contains(restricted, name) {
				wrong("allow[%d].annotations: %q isn't a restricted annotation%s", i, name, suggest(name, restricted))
			}
		}
	}
	return errors.Join(errs...)
}

// allows reports whether pods of the namespace may have the restricted annotation.
func (c *Config) allows(namespace, annotation string) bool {
	matches := func(pattern string) bool {
		ok, err := path.Match(pattern, namespace)
		return err == nil && ok
	}
	return slices.ContainsFunc(c.Allow, func(a Allowance) bool {
		return slices.Contains(a.Annotations, annotation) && slices.ContainsFunc(a.Namespaces, matches)
	})
}

// checkImage returns an error for a text that no container engine would take as an
// image. What the image contains only the kubelet finds out.
func checkImage(image string) error {
	if image == "" || strings.ContainsFunc(image, func(r rune) bool { return r <= ' ' || r > '~' }) || len(image) > 1024 {
		return fmt.Errorf("%q isn't the name of an image, such as culvert:1.0.0", image)
	}
	return nil
}

// suggest ends an error about an unknown word.
func suggest(word string, right []string) string {
	if near := config.Nearest(word, right); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return fmt.Sprintf(": it can be %s", strings.Join(right, ", "))
}
