package manifest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
)

// templates has where each kind keeps its pod, by group and kind. The pod is an
// object with metadata and spec.
var templates = map[[2]string][]string{
	{"", "Pod"}:                   {},
	{"", "PodTemplate"}:           {"template"},
	{"", "ReplicationController"}: {"spec", "template"},
	{"apps", "DaemonSet"}:         {"spec", "template"},
	{"apps", "Deployment"}:        {"spec", "template"},
	{"apps", "ReplicaSet"}:        {"spec", "template"},
	{"apps", "StatefulSet"}:       {"spec", "template"},
	{"batch", "CronJob"}:          {"spec", "jobTemplate", "spec", "template"},
	{"batch", "Job"}:              {"spec", "template"},
}

// An object is one API object in a document.
type object struct {
	node            *yaml.Node
	group, kind     string
	name, nameSpace string
	wrong           error // why nobody can tell what else is in it, such as a key that stands twice
}

func (o object) String() string {
	name := o.name
	if o.nameSpace != "" {
		name = o.nameSpace + "/" + name
	}
	return strings.TrimSpace(o.kind + " " + name)
}

// objects returns the object of the document, or those in its list.
func (d *document) objects() []object {
	if d.root == nil {
		return nil
	}
	return objectsIn(d.root.Content[0], "", "")
}

// objectsIn returns the objects at a node. The entries of a typed list, such as
// DeploymentList, may leave out what the list's type says.
func objectsIn(n *yaml.Node, version, kind string) []object {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	var head struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
		Metadata   struct {
			Name         string `yaml:"name"`
			GenerateName string `yaml:"generateName"`
			Namespace    string `yaml:"namespace"`
		} `yaml:"metadata"`
	}
	wrong := n.Decode(&head)
	if wrong != nil { // it matters only if the object has a pod
		head.APIVersion, head.Kind, head.Metadata.Name = text(n, "apiVersion"), text(n, "kind"), text(n, "metadata", "name")
	}
	if head.Kind != "" {
		kind = head.Kind
	}
	if head.APIVersion != "" {
		version = head.APIVersion
	}
	if items := child(n, "items"); items != nil && items.Kind == yaml.SequenceNode && strings.HasSuffix(kind, "List") {
		var all []object
		for _, item := range items.Content {
			all = append(all, objectsIn(item, version, strings.TrimSuffix(kind, "List"))...)
		}
		return all
	}
	group, _, grouped := strings.Cut(version, "/")
	if !grouped {
		group = ""
	}
	name := head.Metadata.Name
	if name == "" {
		name = head.Metadata.GenerateName
	}
	return []object{{node: n, group: group, kind: kind, name: name, nameSpace: head.Metadata.Namespace, wrong: wrong}}
}

// A workload is an object with a pod.
type workload struct {
	object
	template *yaml.Node   // has metadata and spec
	path     []*yaml.Node // from the object to the template
	document *document
}

// workloads returns the workloads of a document.
func (d *document) workloads() ([]*workload, error) {
	var all []*workload
	for _, o := range d.objects() {
		path, known := templates[[2]string{o.group, o.kind}]
		if !known {
			continue
		}
		if o.wrong != nil {
			return nil, fmt.Errorf("%s: %w", o, o.wrong)
		}
		n := o.node
		through := []*yaml.Node{n}
		for _, key := range path {
			if n = own(n, key); n == nil {
				break
			}
			through = append(through, n)
		}
		if n == nil || n.Kind != yaml.MappingNode {
			return nil, fmt.Errorf("%s: it has no %s", o, strings.Join(path, "."))
		}
		all = append(all, &workload{o, n, through, d})
	}
	return all, nil
}

// namespace returns the workload's namespace.
func (w *workload) namespace(otherwise string) string {
	if w.nameSpace != "" {
		return w.nameSpace
	}
	return otherwise
}

// pod returns the workload's pod.
func (w *workload) pod() (*corev1.Pod, error) {
	var t struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
		Spec     corev1.PodSpec    `json:"spec"`
	}
	if err := decode(w.template, &t); err != nil {
		return nil, err
	}
	return &corev1.Pod{ObjectMeta: t.Metadata, Spec: t.Spec}, nil
}

// decode reads a node into one of the API's types, which have names for JSON. It is
// for reading only: changes are made in the tree. It reads YAML 1.1, as kubectl does.
func decode(n *yaml.Node, to any) error {
	for _, b := range oldBools(n, map[*yaml.Node]bool{}) {
		was := *b
		b.Tag, b.Value = "!!bool", strconv.FormatBool(isOldTrue(b.Value))
		defer func() { *b = was }() // it keeps its spelling
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("line %d: a key isn't a text: %w", n.Line, err)
	}
	return kjson.UnmarshalCaseSensitivePreserveInts(text, to)
}

// Booleans of YAML 1.1, which YAML 1.2 and its parser take for texts.
// https://yaml.org/type/bool.html
var (
	oldTrue  = []string{"y", "Y", "yes", "Yes", "YES", "on", "On", "ON"}
	oldFalse = []string{"n", "N", "no", "No", "NO", "off", "Off", "OFF"}
)

func isOldTrue(text string) bool { return slices.Contains(oldTrue, text) }
func isOldBool(text string) bool { return isOldTrue(text) || slices.Contains(oldFalse, text) }

// oldBools returns the values below a node that are booleans in YAML 1.1 only. seen
// has the nodes that were looked at.
func oldBools(n *yaml.Node, seen map[*yaml.Node]bool) (found []*yaml.Node) {
	if seen[n] {
		return nil
	}
	seen[n] = true
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Style == 0 && n.ShortTag() == "!!str" && isOldBool(n.Value) {
			return []*yaml.Node{n}
		}
	case yaml.AliasNode:
		return oldBools(n.Alias, seen)
	default:
		for i, c := range n.Content {
			if n.Kind != yaml.MappingNode || i%2 == 1 { // a key is a text
				found = append(found, oldBools(c, seen)...)
			}
		}
	}
	return found
}
