package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// limitRanges finds LimitRanges that refuse a pod because of culvert: the API server's error
// has the limit, and no container's name.
func (c *checker) limitRanges(s *subject) {
	if s.sidecar == nil || !s.asks() {
		return
	}
	ranges := slices.DeleteFunc(slices.Clone(c.snapshot.limits), func(l *corev1.LimitRange) bool { return l.Namespace != s.ns.Name })
	with := limited(s.pod, ranges)
	sidecar := inject.Sidecar(&with.Spec)
	without, _ := inject.Remove(with)
	for _, l := range ranges {
		for i := range l.Spec.Limits {
			item := &l.Spec.Limits[i]
			for _, name := range slices.Sorted(maps.Keys(filled(item.Max, item.Min, item.MaxLimitRequestRatio))) {
				var broken []string
				switch item.Type {
				case corev1.LimitTypeContainer:
					broken = usageOf(sidecar, name).breaks(item, name, "culvert's ")
				case corev1.LimitTypePod:
					if len(usageOfAll(without, name).breaks(item, name, "")) == 0 { // else the pod is refused in any case
						broken = usageOfAll(with, name).breaks(item, name, "with culvert the pod's ")
					}
				}
				for _, text := range broken {
					c.add(Error, s.object, fmt.Sprintf("the LimitRange %s refuses the pod with culvert: %s", l.Name, text),
						"change the LimitRange, or resources in the injector's configuration")
				}
			}
		}
	}
}

// limited returns a pod as the API server limits it: with the defaults of LimitRanges, to
// which the injector then fits culvert's requests.
func limited(pod *corev1.Pod, ranges []*corev1.LimitRange) *corev1.Pod {
	pod = pod.DeepCopy()
	sidecar := inject.Sidecar(&pod.Spec)
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			r := &containers[i].Resources
			r.Requests = filled(r.Requests, r.Limits)
			for _, l := range ranges {
				for _, item := range l.Spec.Limits {
					if item.Type == corev1.LimitTypeContainer {
						defaults := filled(item.Default, item.Max) // a file may lack what the API server fills in
						r.Limits = filled(r.Limits, defaults)
						r.Requests = filled(r.Requests, item.DefaultRequest, defaults, item.Min)
					}
				}
			}
			for name, limit := range r.Limits {
				if request := r.Requests[name]; &containers[i] == sidecar && request.Cmp(limit) > 0 {
					r.Requests[name] = limit
				}
			}
		}
	}
	return pod
}

// filled returns the first list with what only the later ones have.
func filled(lists ...corev1.ResourceList) corev1.ResourceList {
	all := corev1.ResourceList{}
	for _, l := range slices.Backward(lists) {
		maps.Copy(all, l)
	}
	return all
}

// A usage is what a container, or all of a pod's, request and may use of a resource. Nil: it
// isn't set.
type usage struct{ request, limit *resource.Quantity }

func usageOf(c *corev1.Container, name corev1.ResourceName) (u usage) {
	if q, has := c.Resources.Requests[name]; has {
		u.request = &q
	}
	if q, has := c.Resources.Limits[name]; has {
		u.limit = &q
	}
	return u
}

func usageOfAll(pod *corev1.Pod, name corev1.ResourceName) usage {
	all := func(of func(usage) *resource.Quantity) *resource.Quantity {
		var set bool
		sum := inject.Together(pod, func(c *corev1.Container) (q resource.Quantity) {
			if one := of(usageOf(c, name)); one != nil {
				q, set = *one, true
			}
			return q
		})
		if own := pod.Spec.Resources; own != nil {
			if q := of(usageOf(&corev1.Container{Resources: *own}, name)); q != nil {
				return q
			}
		}
		if !set {
			return nil
		}
		return &sum
	}
	return usage{
		request: all(func(u usage) *resource.Quantity { return u.request }),
		limit:   all(func(u usage) *resource.Quantity { return u.limit }),
	}
}

// breaks returns what of an item of a LimitRange a usage breaks, as the API server sees it.
// whose says whose usage it is.
func (u usage) breaks(item *corev1.LimitRangeItem, name corev1.ResourceName, whose string) (broken []string) {
	breaks := func(bound string, limit resource.Quantity, what string, is *resource.Quantity) {
		value := "not set"
		if is != nil {
			value = is.String()
		}
		broken = append(broken, fmt.Sprintf("the %s of a %s's %s is %s, and %s%s is %s", bound, strings.ToLower(string(item.Type)), name, limit.String(), whose, what, value))
	}
	over := func(q *resource.Quantity, most resource.Quantity) bool { return q != nil && q.Cmp(most) > 0 }
	under := func(q *resource.Quantity, least resource.Quantity) bool { return q != nil && q.Cmp(least) < 0 }
	if most, has := item.Max[name]; has {
		switch {
		case u.limit == nil, over(u.limit, most):
			breaks("maximum", most, "limit", u.limit)
		case over(u.request, most):
			breaks("maximum", most, "request", u.request)
		}
	}
	if least, has := item.Min[name]; has {
		switch {
		case u.request == nil, under(u.request, least):
			breaks("minimum", least, "request", u.request)
		case under(u.limit, least):
			breaks("minimum", least, "limit", u.limit)
		}
	}
	if most, has := item.MaxLimitRequestRatio[name]; has {
		const bound = "maximum ratio of limit to request"
		switch {
		case u.request == nil || u.request.IsZero():
			breaks(bound, most, "request", u.request)
		case u.limit == nil || u.limit.IsZero():
			breaks(bound, most, "limit", u.limit)
		case float64(u.limit.MilliValue())/float64(u.request.MilliValue())*1000 > float64(most.MilliValue()):
			breaks(bound, most, "limit", u.limit)
			broken[len(broken)-1] += ", its request " + u.request.String()
		}
	}
	return broken
}
