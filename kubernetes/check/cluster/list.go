package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// pageSize is how many objects are in memory at once, besides those that are kept.
const pageSize = 500

// A resource is a kind of object, with where the API server has it.
type resource struct {
	kind    string
	group   string // empty: the core group
	name    string // "pods"
	cluster bool   // it is in no namespace
	list    func() list
}

type list interface {
	runtime.Object
	metav1.ListInterface
}

func (r resource) path() string {
	if r.group == "" {
		return "/api/v1"
	}
	return "/apis/" + r.group + "/v1"
}

// each lists objects, page by page.
func (r *Reader) each(ctx context.Context, what resource, namespace, selector string, use func(metav1.Object)) error {
	read, token := 0, ""
	for {
		page := what.list()
		request := r.client.Get().AbsPath(what.path()).Resource(what.name).NamespaceIfScoped(namespace, namespace != "").
			Param("limit", strconv.Itoa(pageSize))
		if token != "" {
			request = request.Param("continue", token)
		}
		if selector != "" {
			request = request.Param("labelSelector", selector)
		}
		err := request.Do(ctx).Into(page)
		// The server forgets old versions of the list within minutes, and then offers to
		// go on with the newest. What changed meanwhile may be missing.
		if next := onward(err); next != "" && next != token {
			token = next
			continue
		}
		if err != nil {
			return what.explain("list", namespace, err)
		}
		// It copies what it passes, so that one kept object doesn't keep the page.
		err = meta.EachListItemWithAlloc(page, func(o runtime.Object) error {
			object, err := meta.Accessor(o)
			if err == nil {
				use(object)
				read++
			}
			return err
		})
		if err != nil {
			return err
		}
		r.progress(what.kind, read)
		if token = page.GetContinue(); token == "" {
			return nil
		}
	}
}

// onward returns the token that an expired list offers.
func onward(err error) string {
	var status apierrors.APIStatus
	if apierrors.IsResourceExpired(err) && errors.As(err, &status) {
		return status.Status().Continue
	}
	return ""
}

func (r *Reader) get(ctx context.Context, what resource, namespace, name string, into runtime.Object) error {
	err := r.client.Get().AbsPath(what.path()).Resource(what.name).NamespaceIfScoped(namespace, namespace != "").Name(name).Do(ctx).Into(into)
	return what.explain("get", namespace, err)
}

// explain says which right is missing.
func (r resource) explain(verb, namespace string, err error) error {
	if !apierrors.IsForbidden(err) {
		return err
	}
	role := "a ClusterRole"
	if namespace != "" {
		role = "a Role in the namespace " + namespace
	}
	return &refused{fmt.Sprintf("the API server refuses it: grant the verb %s on the resource %s of the API group %q, by %s", verb, r.name, r.group, role), err}
}

// A refused is an error for a missing right. The server's own text repeats who asked.
type refused struct {
	text string
	err  error
}

func (r *refused) Error() string { return r.text }
func (r *refused) Unwrap() error { return r.err }
