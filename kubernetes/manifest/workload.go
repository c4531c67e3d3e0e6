package manifest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
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
	wrong           error // why the object can't be read, such as a key that stands twice
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
	return (&finder{left: len(d.body)}).objects(d.root.Content[0], "", "")
}

// A finder finds the objects of a document. Aliases can make lists of lists that never end,
// or hold more objects than the document has bytes.
type finder struct {
	left int // nodes that it may look at
}

// objects returns the objects at a node. The entries of a typed list, such as
// DeploymentList, may leave out what the list's type says.
func (f *finder) objects(n *yaml.Node, version, kind string) []object {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	if f.left--; f.left < 0 {
		return []object{{node: n, kind: "List", wrong: errors.New("its lists hold each other by aliases, again and again: write them out")}}
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
	kind, version = cmp.Or(head.Kind, kind), cmp.Or(head.APIVersion, version)
	if items := list(n, kind); wrong == nil && items != nil {
		var all []object
		for _, item := range items.Content {
			if all = append(all, f.objects(item, version, strings.TrimSuffix(kind, "List"))...); f.left < 0 {
				return all[len(all)-1:] // the error
			}
		}
		return all
	}
	group, _, grouped := strings.Cut(version, "/")
	if !grouped {
		group = ""
	}
	name := cmp.Or(head.Metadata.Name, head.Metadata.GenerateName)
	return []object{{node: n, group: group, kind: kind, name: name, nameSpace: head.Metadata.Namespace, wrong: wrong}}
}

// unread returns why a list can't be read: what it holds isn't known then.
func (o object) unread() error {
	if o.wrong != nil && strings.HasSuffix(o.kind, "List") {
		return fmt.Errorf("%s: %w", o, o.wrong)
	}
	return nil
}

// list returns the items if an object is a list, or nil.
func list(n *yaml.Node, kind string) *yaml.Node {
	if !strings.HasSuffix(kind, "List") {
		return nil
	}
	if items := own(n, "items"); items != nil && items.Kind == yaml.SequenceNode {
		return items
	}
	return nil
}

type workload struct {
	object
	template *yaml.Node   // has metadata and spec; nil: the object is a part of one, such as a patch
	path     []*yaml.Node // from the object to the template
	document *document
}

func (d *document) workloads() ([]*workload, error) {
	var all []*workload
	for _, o := range d.objects() {
		if err := o.unread(); err != nil {
			return nil, err
		}
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
			if err := twice(n); err != nil {
				return nil, fmt.Errorf("%s: %w", o, err)
			}
			if n = own(n, key); n == nil {
				break
			}
			through = append(through, n)
		}
		if n == nil && o.kind == "ReplicationController" { // it makes no pods
			continue
		}
		if n != nil && n.Kind != yaml.MappingNode {
			n = nil
		}
		all = append(all, &workload{o, n, through, d})
	}
	return all, nil
}

// customTemplate returns the first pod template in an object of a kind that isn't in
// templates, or nil.
func (o object) customTemplate() *yaml.Node {
	if _, known := templates[[2]string{o.group, o.kind}]; known {
		return nil
	}
	const deepest = 8 // the template of a CronJob's pods is 3 deep
	return podTemplate(o.node, deepest)
}

// podTemplate returns the first mapping with metadata and a spec with containers. Aliases are
// not followed.
func podTemplate(n *yaml.Node, depth int) *yaml.Node {
	if n.Kind != yaml.MappingNode || depth == 0 {
		return nil
	}
	if spec := child(n, "spec"); spec != nil && child(n, "metadata") != nil {
		if list := child(spec, "containers"); list != nil && list.Kind == yaml.SequenceNode {
			return n
		}
	}
	for i := 1; i < len(n.Content); i += 2 {
		if found := podTemplate(n.Content[i], depth-1); found != nil {
			return found
		}
	}
	return nil
}

// podMetadata returns a pod that has only the metadata of the workload's pod.
func (w *workload) podMetadata() (*corev1.Pod, error) {
	var t struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	err := decode(w.template, &t)
	return &corev1.Pod{ObjectMeta: t.Metadata}, err
}

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

// is returns an error unless the workload's pod is the wanted one. It guards against forms
// of YAML that the changes of the tree don't know.
func (w *workload) is(want *corev1.Pod) error {
	got, err := w.pod()
	if err != nil {
		return err
	}
	if !equality.Semantic.DeepEqual(got, want) {
		return errors.New("it can't be changed safely as it is written: write aliases and merge keys out")
	}
	return nil
}

// twice returns an error if a key of a mapping stands twice: kubectl takes the last one,
// and find the first.
func twice(n *yaml.Node) error {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if key := n.Content[i]; seen[key.Value] {
			return fmt.Errorf("line %d: the key %q stands twice: remove one", key.Line, key.Value)
		}
		seen[n.Content[i].Value] = true
	}
	return nil
}

// decode reads a node into one of the API's types, which have names for JSON. It is
// for reading only: changes are made in the tree. It reads YAML 1.1, as kubectl does.
func decode(n *yaml.Node, to any) error {
	for _, v := range oldValues(n, map[*yaml.Node]bool{}) {
		was := *v
		defer func() { *v = was }() // it keeps its spelling
		if v.ShortTag() == "!!timestamp" {
			v.Tag = "!!str"
		} else {
			v.Tag, v.Value = "!!bool", strconv.FormatBool(isOldTrue(v.Value))
		}
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return err
	}
	text, err := json.Marshal(withTextKeys(v))
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
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

// withTextKeys returns a value whose keys are texts, as JSON has them.
func withTextKeys(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			v[key] = withTextKeys(value)
		}
	case []any:
		for i, value := range v {
			v[i] = withTextKeys(value)
		}
	case map[any]any:
		texts := make(map[string]any, len(v))
		for key, value := range v {
			texts[fmt.Sprint(key)] = withTextKeys(value)
		}
		return texts
	}
	return v
}

// oldValues returns the values below a node that kubectl reads in another way than YAML
// 1.2: booleans of YAML 1.1, and times, which it leaves as texts. seen has the nodes that
// were looked at.
func oldValues(n *yaml.Node, seen map[*yaml.Node]bool) (found []*yaml.Node) {
	if seen[n] {
		return nil
	}
	seen[n] = true
	switch n.Kind {
	case yaml.ScalarNode:
		if tag := n.ShortTag(); n.Style == 0 && (tag == "!!timestamp" || tag == "!!str" && isOldBool(n.Value)) {
			return []*yaml.Node{n}
		}
	case yaml.AliasNode:
		return oldValues(n.Alias, seen)
	default:
		for i, c := range n.Content {
			if n.Kind != yaml.MappingNode || i%2 == 1 { // a key is a text
				found = append(found, oldValues(c, seen)...)
			}
		}
	}
	return found
}
