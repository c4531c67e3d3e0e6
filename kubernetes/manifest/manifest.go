// Package manifest puts culvert into the pods of Kubernetes manifests, and takes it
// out again. A manifest is a stream of documents in YAML or JSON. What changes
// nothing passes byte for byte.
//
//   - manifest.go goes through the documents
//   - split.go splits the stream, and writes changed documents
//   - workload.go finds the pods in a document
//   - edit.go changes a document's tree
//   - objects.go gives the objects to readers
package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// MaxSize is the maximum size of a manifest in bytes. A larger one is a mistake: the
// API server takes no object above 3 MiB.
const MaxSize = 64 << 20

// Options say which pods get culvert.
type Options struct {
	Config *inject.Config

	// Namespace is the namespace of objects that name none.
	Namespace string

	// All injects each pod that doesn't opt out, as if its namespace had the label.
	All bool
}

// An Outcome says what happened to one workload.
type Outcome struct {
	Object   string // "Deployment shop/orders"
	Action   inject.Action
	Reason   string // why it gets no container, or loses none; empty otherwise
	Warnings []string
	Changed  bool // it isn't printed as it was
}

// Removed is the action of [Remove] on a workload that had culvert.
const Removed inject.Action = "removed"

// Inject returns the manifest with culvert in each workload whose pods ask for it, by
// a label of the pod, or of its namespace if that is in the same manifest. An error
// has a line for each workload that asks and can't have culvert, and for each
// document that can't be read.
//
// A custom resource that makes pods, such as a Rollout, stays as it is. If its pods ask for
// culvert, its outcome has a warning.
func Inject(text []byte, o Options) ([]byte, []Outcome, error) {
	out, outcomes, err := each(text, func(labels labels, w *workload) (Outcome, error) {
		ns := labels.namespace(cmp.Or(w.nameSpace, o.Namespace), o.All)
		pod, err := w.pod()
		if err != nil {
			return notAsking(w, ns, o.Config, err)
		}
		ops, result, err := inject.Operations(pod, ns, o.Config)
		if err != nil {
			return Outcome{}, err
		}
		for _, op := range ops {
			if err := w.add(op); err != nil {
				return Outcome{}, err
			}
		}
		if len(ops) > 0 {
			want, err := inject.Pod(pod, ns, o.Config)
			if err != nil {
				return Outcome{}, err
			}
			if err := w.is(want.Pod); err != nil {
				return Outcome{}, err
			}
		}
		return Outcome{Action: result.Action, Reason: result.Reason, Warnings: result.Warnings, Changed: len(ops) > 0}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	unknown, err := customResources(text, o)
	return out, append(outcomes, unknown...), err
}

// customResources returns an outcome for each object of a kind that isn't Kubernetes' own and
// whose pods ask for culvert.
func customResources(text []byte, o Options) ([]Outcome, error) {
	docs, err := parse(text)
	if err != nil {
		return nil, err
	}
	labels := labelsIn(docs)
	var outcomes []Outcome
	for _, d := range docs {
		for _, object := range d.objects() {
			pod := object.customTemplate()
			if pod == nil || object.wrong != nil {
				continue
			}
			w := &workload{object, pod, nil, d}
			read, err := w.podMetadata()
			if err != nil {
				continue
			}
			ns := labels.namespace(cmp.Or(w.nameSpace, o.Namespace), o.All)
			if read.Labels[inject.Label] != inject.Enabled && (read.Labels[inject.Label] != "" || ns.Labels[inject.Label] != inject.Enabled) {
				continue
			}
			outcomes = append(outcomes, Outcome{
				Object: w.String(), Action: inject.Skipped, Reason: "it is no kind of Kubernetes' own",
				Warnings: []string{"its pods ask for culvert, and inject doesn't change this kind: let the cluster's injector change its pods, or write culvert into the template by hand"},
			})
		}
	}
	return outcomes, nil
}

// notAsking is for a pod that can't be read. It returns the error if the pod asks for culvert.
// Others may have placeholders, for a program that comes later.
func notAsking(w *workload, ns inject.Namespace, c *inject.Config, unread error) (Outcome, error) {
	pod, err := w.podMetadata()
	if err != nil {
		return Outcome{}, unread
	}
	_, result, err := inject.Operations(pod, ns, c)
	if err != nil || result.Action != inject.Skipped {
		return Outcome{}, unread
	}
	return Outcome{Action: inject.Skipped, Reason: result.Reason}, nil
}

// Remove returns the manifest without what [Inject] added.
func Remove(text []byte) ([]byte, []Outcome, error) {
	return each(text, func(_ labels, w *workload) (Outcome, error) {
		pod, err := w.pod()
		if err != nil && !says(w.template, inject.ContainerName) {
			return Outcome{Action: inject.Skipped, Reason: "it has no culvert"}, nil
		}
		if err != nil {
			return Outcome{}, err
		}
		clean, had := inject.Remove(pod)
		if !had {
			return Outcome{Action: inject.Skipped, Reason: "it has no culvert"}, nil
		}
		return Outcome{Action: Removed, Changed: true}, errors.Join(w.remove(pod, clean), w.is(clean))
	})
}

// each calls change with each workload, and writes the documents that it changed.
func each(text []byte, change func(labels, *workload) (Outcome, error)) ([]byte, []Outcome, error) {
	docs, err := parse(text)
	if err != nil {
		return nil, nil, err
	}
	labels := labelsIn(docs)
	var errs []error
	var outcomes []Outcome
	for _, d := range docs {
		workloads, err := d.workloads()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, w := range workloads {
			if w.template == nil {
				outcomes = append(outcomes, Outcome{Object: w.String(), Action: inject.Skipped, Reason: "it has no " + strings.Join(templates[[2]string{w.group, w.kind}], ".")})
				continue
			}
			outcome, err := change(labels, w)
			if err != nil {
				errs = append(errs, prefixed(w.String(), err))
				continue
			}
			d.changed = d.changed || outcome.Changed
			outcome.Object = w.String()
			outcomes = append(outcomes, outcome)
		}
	}
	if len(errs) > 0 {
		return nil, nil, errors.Join(errs...)
	}
	var out bytes.Buffer
	for _, d := range docs {
		if err := d.write(&out); err != nil {
			return nil, nil, err
		}
	}
	return out.Bytes(), outcomes, nil
}

// prefixed puts the name of the object before each line of an error.
func prefixed(object string, err error) error {
	var lines []error
	for line := range bytes.Lines([]byte(err.Error())) {
		lines = append(lines, fmt.Errorf("%s: %s", object, bytes.TrimRight(line, "\n")))
	}
	return errors.Join(lines...)
}

// labels has the label for the injector of the namespaces in a manifest, by name.
type labels map[string]map[string]string

func labelsIn(docs []*document) labels {
	all := labels{}
	for _, d := range docs {
		for _, o := range d.objects() {
			if o.group != "" || o.kind != "Namespace" {
				continue
			}
			var ns struct {
				Metadata struct {
					Labels map[string]string `json:"labels"`
				} `json:"metadata"`
			}
			if err := decode(o.node, &ns); err != nil { // the API server says why
				ns.Metadata.Labels = map[string]string{inject.Label: text(o.node, "metadata", "labels", inject.Label)}
			}
			all[o.name] = ns.Metadata.Labels
		}
	}
	return all
}

// namespace returns a namespace with its labels. With all, it asks for culvert unless
// it says something else.
func (l labels) namespace(name string, all bool) inject.Namespace {
	ns := inject.Namespace{Name: name, Labels: l[name]}
	if all && ns.Labels[inject.Label] == "" {
		ns.Labels = map[string]string{inject.Label: inject.Enabled}
	}
	return ns
}
