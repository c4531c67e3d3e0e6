package ratelimit

import (
	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
)

// question returns the question about a call, or nil if it has no descriptor. It keeps none
// of f's maps.
func (l *Limiter) question(f *Facts) *ratelimitv3.RateLimitRequest {
	var q *ratelimitv3.RateLimitRequest
	for i := range l.o.Descriptors {
		d := l.descriptor(l.o.Descriptors[i], f)
		if d == nil {
			continue
		}
		if q == nil {
			q = &ratelimitv3.RateLimitRequest{
				Domain: l.o.Domain, HitsAddend: 1,
				Descriptors: make([]*limitv3.RateLimitDescriptor, 0, len(l.o.Descriptors)-i),
			}
		}
		q.Descriptors = append(q.Descriptors, d)
	}
	return q
}

// descriptor returns a descriptor of a call, or nil if the call lacks one of its values. An
// empty value counts as absent: the service refuses it.
func (l *Limiter) descriptor(d Descriptor, f *Facts) *limitv3.RateLimitDescriptor {
	var values [MaxEntries]string
	for i := range d {
		if values[i] = f.value(&d[i]); values[i] == "" {
			return nil
		}
	}
	entries := make([]limitv3.RateLimitDescriptor_Entry, len(d))
	to := &limitv3.RateLimitDescriptor{Entries: make([]*limitv3.RateLimitDescriptor_Entry, len(d))}
	for i := range d {
		e := &entries[i]
		e.Key, e.Value = d[i].Key, values[i]
		if d[i].Source != Literal {
			e.Value = l.joints.bounded(values[i])
		}
		to.Entries[i] = e
	}
	return to
}
