package check

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// configMap checks the ConfigMap in the annotation config.
func (c *checker) configMap(s *subject) {
	name := s.pod.Annotations[configAnnotation]
	if name == "" || c.snapshot.Unread["ConfigMap"] != "" {
		return
	}
	if len(validation.IsDNS1123Subdomain(name)) > 0 { // nobody may copy it into a shell
		c.add(Error, s.object, fmt.Sprintf("the annotation %s: %q isn't the name of a ConfigMap", configAnnotation, name), "")
		return
	}
	remedy := fmt.Sprintf("kubectl create configmap %s -n %s --from-file=%s", name, s.ns.Name, inject.ConfigMapKey)
	m := c.snapshot.configMaps[s.ns.Name+"/"+name]
	if m == nil {
		c.add(c.missing(Error), s.object, fmt.Sprintf("the annotation %s names the ConfigMap %s, which doesn't exist%s: pods don't start without it",
			configAnnotation, name, c.here()), remedy)
		return
	}
	text, has := m.Data[inject.ConfigMapKey]
	if !has {
		c.add(Error, s.object, fmt.Sprintf("the ConfigMap %s has no key %s: pods don't start without it", name, inject.ConfigMapKey),
			"store culvert's configuration under that key: "+remedy+" --dry-run=client -o yaml | kubectl apply -f -")
		return
	}
	c.configuration(s, name, text)
}

// configuration finds keys of culvert's configuration that can't have an effect, because
// the sidecar has variables for them. culvert itself judges the rest when it starts.
func (c *checker) configuration(s *subject, name, text string) {
	var keys struct {
		Backends yaml.Node `yaml:"backends"`
		Listen   yaml.Node `yaml:"listen"`
		Spread   string    `yaml:"drain_spread"`
	}
	if err := yaml.Unmarshal([]byte(text), &keys); err != nil {
		c.add(Error, s.object, fmt.Sprintf("%s in the ConfigMap %s: %v: pods don't start with it", inject.ConfigMapKey, name, strings.Join(strings.Fields(err.Error()), " ")), "correct it: culvert validate names the mistakes")
		return
	}
	if variable(s.sidecar, "CULVERT_BACKEND_ADDRESS") != "" && len(keys.Backends.Content) > 0 {
		c.add(Error, s.object, fmt.Sprintf("%s in the ConfigMap %s has backends, and the injector sets backend.address: culvert doesn't start with both", inject.ConfigMapKey, name),
			"remove backends: an injected culvert has one backend, the service of the pod")
	}
	if variable(s.sidecar, "CULVERT_LISTEN") != "" && keys.Listen.Kind == yaml.SequenceNode {
		c.add(Warning, s.object, fmt.Sprintf("%s in the ConfigMap %s has a list in listen, which the injector replaces by its own port: tls and all other keys in the list have no effect", inject.ConfigMapKey, name),
			"set tls, trusted_proxies, proxy_protocol and allow_origins at the top of the file")
	}
	timeout, timeoutErr := time.ParseDuration(variable(s.sidecar, "CULVERT_DRAIN_TIMEOUT"))
	if spread, err := time.ParseDuration(keys.Spread); err == nil && timeoutErr == nil && spread > timeout {
		c.add(Error, s.object, fmt.Sprintf("%s in the ConfigMap %s has drain_spread: %s, and the injector sets drain_timeout to %v, of which it is a part: culvert doesn't start with both", inject.ConfigMapKey, name, keys.Spread, timeout),
			fmt.Sprintf("lower drain_spread, or set the annotation %sdrain_timeout of the pod", inject.AnnotationPrefix))
	}
}
