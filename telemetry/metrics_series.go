package telemetry

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A cache keeps what calls look up, such as time series, so that a call finds them
// without a lock and without an allocation. Keys are only added: their number must be
// bounded. The zero value is empty.
type cache[K comparable, V any] struct {
	all    atomic.Pointer[map[K]V] // replaced as a whole
	adding sync.Mutex
}

// find returns the value of a key, if it is there.
func (c *cache[K, V]) find(k K) (v V, ok bool) {
	if all := c.all.Load(); all != nil {
		v, ok = (*all)[k]
	}
	return v, ok
}

// add returns the value of a key, a fresh one if there was none. If there is no room for
// another key, ok is false.
func (c *cache[K, V]) add(k K, most int, fresh func() V) (v V, ok bool) {
	c.adding.Lock()
	defer c.adding.Unlock()
	if v, ok := c.find(k); ok {
		return v, true
	}
	more := make(map[K]V)
	if all := c.all.Load(); all != nil {
		if len(*all) >= most {
			return v, false
		}
		more = maps.Clone(*all)
	}
	v = fresh()
	more[k] = v
	c.all.Store(&more)
	return v, true
}

// maxMethods is how many methods have time series of their own. Calls of the others
// count together.
const maxMethods = 500

// methods are the names of methods that a backend knows, as OpenTelemetry writes them:
// without the first slash. A client can call any name.
type methods struct {
	known cache[string, string]
}

// of returns the name for a call's method, or other if nothing shows that a backend
// knows it.
func (m *methods) of(c *report.CallInfo) string {
	name, ok := m.known.find(c.Method)
	switch {
	case ok:
		return name
	case c.Origin == report.OriginUpstream && showsMethod(c.Code):
		return m.learn(c.Method)
	}
	return other
}

// learn notes that a backend knows the method, and returns the name for it.
func (m *methods) learn(method string) string {
	if name, ok := m.known.find(method); ok {
		return name
	}
	// A copy, because the method may be a part of a request's header.
	method = strings.Clone(method)
	name, ok := m.known.add(method, maxMethods, func() string { return strings.TrimPrefix(method, "/") })
	if !ok {
		return other
	}
	return name
}

// showsMethod reports whether a backend that ends a call with this status knows the
// method. A backend may check credentials and load before it looks for the method, and
// a proxy in front of it may answer, too.
func showsMethod(c codes.Code) bool {
	switch c {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Internal, codes.DataLoss:
		return true
	case codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied, codes.ResourceExhausted, codes.Unavailable, codes.Canceled, codes.DeadlineExceeded, codes.Unknown:
	}
	return false
}

// A durationKey is what the duration of a call counts with.
type durationKey struct {
	method string
	code   string
}

// A webKey is what the end of a request to the web server counts with.
type webKey struct {
	listener, status, origin string
	reason                   report.Reason
}

// An endKey is what the end of a call counts with.
type endKey struct {
	listener, transport, code, origin string
	reason                            report.Reason
}
