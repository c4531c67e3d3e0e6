package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// Options say what the cluster should be like.
type Options struct {
	// Config is the injector's configuration. Nil: the one in the snapshot. If that is
	// nil, too, check can't tell whether a sidecar is outdated, and takes every
	// annotation as allowed.
	Config *inject.Config

	// Image is culvert's image, instead of the configuration's. Empty: that one.
	Image string
}

// Run returns what is wrong, and what will be injected.
func Run(s *Snapshot, o Options) *Report {
	r := new(Report)
	c, known := o.config(s)
	subjects := s.subjects(c)
	r.Summary.Workloads = s.Seen
	checker := &checker{Report: r, snapshot: s, config: c, known: known, made: map[string]bool{}}
	for _, svc := range s.services {
		checker.made[objectName("Service", svc.Namespace, svc.Name)] = true
	}
	for _, p := range s.policies {
		checker.made[objectName("NetworkPolicy", p.Namespace, p.Name)] = true
	}
	checker.namespaces()
	checker.webhooks(subjects)
	for _, sub := range subjects {
		checker.injection(sub)
		if sub.sidecar == nil {
			continue
		}
		checker.status(sub)
		checker.configMap(sub)
		checker.secret(sub)
		checker.ending(sub)
		checker.reach(sub)
	}
	for _, kind := range slices.Sorted(maps.Keys(s.Unread)) {
		r.add(Warning, kind, "not checked: "+s.Unread[kind], "")
	}
	r.finish()
	return r
}

// config returns the configuration by which pods are injected, and whether it is
// known.
func (o Options) config(s *Snapshot) (*inject.Config, bool) {
	known := cmp.Or(o.Config, s.Injector)
	if known == nil {
		known = anything()
	}
	c := *known
	c.Image = cmp.Or(o.Image, c.Image)
	return &c, cmp.Or(o.Config, s.Injector) != nil
}

// anything returns a configuration that allows everything.
func anything() *inject.Config {
	c := inject.DefaultConfig()
	restricted := slices.DeleteFunc(inject.AnnotationNames(), func(name string) bool { return !inject.Restricted(name) })
	c.Allow = []inject.Allowance{{Namespaces: []string{"*"}, Annotations: restricted}}
	return &c
}

type checker struct {
	*Report
	snapshot *Snapshot
	config   *inject.Config
	known    bool            // config is the injector's own
	made     map[string]bool // Services and NetworkPolicies that exist, or are in the report
}

// missing is the severity of an object that isn't there.
func (c *checker) missing(s Severity) Severity {
	if c.snapshot.Partial {
		return Note
	}
	return s
}

// here ends a text about an object that isn't there.
func (c *checker) here() string {
	if c.snapshot.Partial {
		return " in these manifests"
	}
	return ""
}

// secret names the Secret that check doesn't read.
func (c *checker) secret(s *subject) {
	for _, v := range s.pod.Spec.Volumes {
		if inject.IsVolume(v) && v.Secret != nil {
			c.add(Note, s.object, fmt.Sprintf("the Secret %s isn't checked: pods don't start without its keys tls.crt and tls.key", v.Secret.SecretName),
				fmt.Sprintf("kubectl describe secret %s -n %s", v.Secret.SecretName, s.ns.Name))
		}
	}
}
