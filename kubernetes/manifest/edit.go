package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// find returns the index of a key's value in a mapping, or -1.
func find(n *yaml.Node, key string) int {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return i + 1
			}
		}
	}
	return -1
}

// child returns the value of a key, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	if i := find(n, key); i >= 0 {
		return n.Content[i]
	}
	return nil
}

// text returns the text at the end of a path of keys, or "".
func text(n *yaml.Node, path ...string) string {
	for _, key := range path {
		if n = child(n, key); n == nil {
			return ""
		}
	}
	if n.Kind != yaml.ScalarNode || isNull(n) {
		return ""
	}
	return n.Value
}

// says reports whether a value below a node is the text.
func says(n *yaml.Node, text string) bool {
	return n.Kind == yaml.ScalarNode && n.Value == text || slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return says(c, text) })
}

// own returns the value of a key, or nil. If it is an alias, the value becomes a
// copy, so that a change doesn't reach the other places with the same anchor. If a merge key
// brings the value in, it is for reading only: alone refuses the change.
func own(n *yaml.Node, key string) *yaml.Node {
	i := find(n, key)
	if i < 0 {
		return merged(n, key, map[*yaml.Node]bool{})
	}
	if v := n.Content[i]; v.Kind == yaml.AliasNode {
		n.Content[i] = duplicate(v.Alias)
	}
	return n.Content[i]
}

// merged returns the value of a key that a merge key (<<) brings in, or nil. seen has the
// mappings that were looked at: aliases can make them endless.
func merged(n *yaml.Node, key string, seen map[*yaml.Node]bool) *yaml.Node {
	from := child(n, "<<")
	if from == nil {
		return nil
	}
	sources := []*yaml.Node{from}
	if from.Kind == yaml.SequenceNode {
		sources = from.Content
	}
	for _, source := range sources {
		if source.Kind == yaml.AliasNode {
			source = source.Alias
		}
		if seen[source] {
			continue
		}
		seen[source] = true
		value := child(source, key)
		if value == nil {
			value = merged(source, key, seen)
		}
		if value != nil && value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if value != nil {
			return value
		}
	}
	return nil
}

// duplicate returns a deep copy without the anchors.
func duplicate(n *yaml.Node) *yaml.Node {
	c := *n
	c.Anchor = ""
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, child := range n.Content {
		c.Content[i] = duplicate(child)
	}
	return &c
}

// add makes one step of a patch in the workload's pod.
func (w *workload) add(op inject.Operation) error {
	value, err := newNode(op.Value)
	if err != nil {
		return err
	}
	changed := w.path
	steps := strings.Split(strings.TrimPrefix(op.Path, "/"), "/")
	at := w.template
	for _, key := range steps[:len(steps)-1] {
		next := own(at, unescape(key))
		if i, err := strconv.Atoi(key); err == nil && at.Kind == yaml.SequenceNode && i < len(at.Content) {
			next = at.Content[i]
		}
		if next == nil || isNull(next) {
			if next, err = newNode(map[string]any{}); err != nil {
				return err
			}
			set(at, key, next)
		}
		at = next
		changed = append(changed[:len(changed):len(changed)], at)
	}
	if err := w.alone(changed); err != nil {
		return err
	}
	last := unescape(steps[len(steps)-1])
	switch {
	case at.Kind == yaml.MappingNode:
		set(at, last, value)
	case at.Kind == yaml.SequenceNode && last == "-":
		at.Content = append(at.Content, value)
	case at.Kind == yaml.SequenceNode && last == "0":
		at.Content = slices.Insert(at.Content, 0, value)
	default:
		return fmt.Errorf("line %d: it is neither a mapping nor a list", at.Line)
	}
	return nil
}

// alone returns an error if a change of these nodes would also be one elsewhere, or
// if it could hide what a merge key brings in.
func (w *workload) alone(nodes []*yaml.Node) error {
	for _, n := range nodes {
		if find(n, "<<") >= 0 {
			return fmt.Errorf("line %d: it has a merge key (<<), which can't be changed safely: write its content out", n.Line)
		}
		if n.Anchor != "" && hasAlias(w.document.root, n) {
			return fmt.Errorf("line %d: it has the anchor &%s, so that a change would also reach *%s: write the content out there", n.Line, n.Anchor, n.Anchor)
		}
	}
	return nil
}

// hasAlias reports whether an alias below from stands for n.
func hasAlias(from, n *yaml.Node) bool {
	return from.Alias == n || slices.ContainsFunc(from.Content, func(c *yaml.Node) bool { return hasAlias(c, n) })
}

// unescape reads one step of a JSON pointer (RFC 6901, section 4).
func unescape(step string) string { return strings.NewReplacer("~1", "/", "~0", "~").Replace(step) }

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func set(n *yaml.Node, key string, value *yaml.Node) {
	if i := find(n, key); i >= 0 {
		value.LineComment, value.HeadComment, value.FootComment = n.Content[i].LineComment, n.Content[i].HeadComment, n.Content[i].FootComment
		n.Content[i] = value
		return
	}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, value)
}

func drop(n *yaml.Node, key string) {
	if i := find(n, key); i >= 0 {
		n.Content = slices.Delete(n.Content, i-1, i+1)
	}
}

// newNode returns a value of the API as a tree in block style.
func newNode(value any) (*yaml.Node, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, err
	}
	plain(root.Content[0])
	return root.Content[0], nil
}

// plain removes the style of JSON. The encoder quotes what needs quotes in YAML 1.2;
// kubectl reads YAML 1.1.
func plain(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || !isOldBool(n.Value) {
		n.Style = 0
	}
	for _, c := range n.Content {
		plain(c)
	}
}

// remove makes the workload's pod, which is had, equal to clean. Removal only takes
// entries out of lists, and sets the grace period back.
func (w *workload) remove(had, clean *corev1.Pod) error {
	spec := own(w.template, "spec")
	changed := append(w.path[:len(w.path):len(w.path)], spec)
	for _, key := range []string{"initContainers", "containers", "volumes"} {
		if list := own(spec, key); list != nil {
			changed = append(changed, list)
		}
	}
	if err := w.alone(changed); err != nil {
		return err
	}
	if err := errors.Join(
		keep(spec, "initContainers", had.Spec.InitContainers, clean.Spec.InitContainers),
		keep(spec, "containers", had.Spec.Containers, clean.Spec.Containers),
		keep(spec, "volumes", had.Spec.Volumes, clean.Spec.Volumes),
	); err != nil {
		return err
	}
	metadata := own(w.template, "metadata")
	for name := range had.Annotations {
		if _, kept := clean.Annotations[name]; kept || metadata == nil {
			continue
		}
		if annotations := own(metadata, "annotations"); annotations != nil {
			drop(annotations, name)
			if len(annotations.Content) == 0 {
				drop(metadata, "annotations")
			}
		}
		if len(metadata.Content) == 0 {
			drop(w.template, "metadata")
		}
	}
	const grace = "terminationGracePeriodSeconds"
	switch was, is := had.Spec.TerminationGracePeriodSeconds, clean.Spec.TerminationGracePeriodSeconds; {
	case is == nil && was != nil:
		drop(spec, grace)
	case is != nil && *is != *was:
		value, err := newNode(*is)
		if err != nil {
			return err
		}
		set(spec, grace, value)
	}
	return nil
}

// keep removes the entries of a list that clean no longer has, and the list if nothing
// remains. clean has the others in the same order.
func keep[T any](spec *yaml.Node, key string, had, clean []T) error {
	list := own(spec, key)
	if list == nil || len(had) == len(clean) {
		return nil
	}
	if list.Kind != yaml.SequenceNode || len(list.Content) != len(had) {
		return fmt.Errorf("line %d: %s isn't a list of %d entries", list.Line, key, len(had))
	}
	var kept []*yaml.Node
	for i := range had {
		if n := len(kept); n < len(clean) && equality.Semantic.DeepEqual(had[i], clean[n]) {
			kept = append(kept, list.Content[i])
		}
	}
	if list.Content = kept; len(kept) == 0 {
		drop(spec, key)
	}
	return nil
}
