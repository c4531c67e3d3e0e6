package telemetry

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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

func (c *cache[K, V]) find(k K) (v V, ok bool) {
	if all := c.all.Load(); all != nil {
		v, ok = (*all)[k]
	}
	return v, ok
}

// get returns the value of a key, a fresh one if there was none. Only a bounded number of
// keys may occur.
func (c *cache[K, V]) get(k K, fresh func() V) V {
	v, ok := c.find(k)
	if !ok {
		v, _ = c.add(k, math.MaxInt, fresh)
	}
	return v
}

// add is get for keys without a bound. If there is no room for another key, ok is false.
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

// A methodSeries has the time series of one method. They are made when they are needed.
type methodSeries struct {
	m         *Metrics
	name      string              // as OpenTelemetry writes it: without the first slash
	first     prometheus.Observer // of firsts
	durations [statuses]atomic.Pointer[durations]
}

// duration returns the histogram of the calls that end with a status.
func (s *methodSeries) duration(c codes.Code) *durations {
	at := &s.durations[statusIndex(c)]
	if d := at.Load(); d != nil {
		return d
	}
	fresh := &durations{Observer: s.m.durations.WithLabelValues("grpc", s.name, statusName(c), errorType(c))} // the same each time
	if at.CompareAndSwap(nil, fresh) {
		return fresh
	}
	return at.Load()
}

// durations is a histogram of one method and status.
type durations struct {
	prometheus.Observer
	exemplars [15]atomic.Int64 // when each bucket got its last exemplar: Unix time in nanoseconds
}

// exemplarEvery is how long a bucket keeps an exemplar. A scrape reads only the last one, and one
// costs a call twelve times as much as the rest of the histogram.
const exemplarEvery = time.Second

// wantsExemplar reports whether the bucket of a value needs an exemplar, and notes that it gets one.
// If the clock was set back, it does.
func (d *durations) wantsExemplar(now time.Time, seconds float64) bool {
	bucket, _ := slices.BinarySearch(durationBuckets, seconds)
	at, ns := &d.exemplars[bucket], now.UnixNano()
	last := at.Load()
	return uint64(ns-last) >= uint64(exemplarEvery) && at.CompareAndSwap(last, ns)
}

// method returns the series of a method, or those of other if nothing has shown yet that a
// backend knows it. A client can call any name.
func (m *Metrics) method(name string) *methodSeries {
	if s, ok := m.methods.find(name); ok {
		return s
	}
	return m.others
}

// learn notes that a backend knows the method, and returns its series.
func (m *Metrics) learn(name string) *methodSeries {
	name = strings.Clone(name) // it may be a part of a request's header
	s, ok := m.methods.add(name, maxMethods, func() *methodSeries { return m.newMethod(strings.TrimPrefix(name, "/")) })
	if !ok {
		return m.others
	}
	return s
}

func (m *Metrics) newMethod(name string) *methodSeries {
	return &methodSeries{m: m, name: name, first: m.firsts.WithLabelValues(name)}
}

// showsMethod reports whether a backend that ends a call with this status knows the
// method. A backend may check credentials and load before it looks for the method, and
// a proxy in front of it may answer, too.
func showsMethod(c codes.Code) bool {
	switch c {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Internal, codes.DataLoss:
		return true
	}
	return false
}

// statuses is the number of gRPC's statuses, and one for all other numbers.
const statuses = int(codes.Unauthenticated) + 2

// statusIndex returns a status' place among the statuses.
func statusIndex(c codes.Code) int { return min(int(uint32(c)), statuses-1) }

// A webKey is what the end of a request to the web server counts with.
type webKey struct {
	listener, status, origin string
	reason                   report.Reason
}

// A place is where calls come from.
type place struct{ listener, transport string }

// An endKey is what the end of a call counts with.
type endKey struct {
	place
	status, origin string
	reason         report.Reason
}

// An endSeries counts the calls of a place that end with the backend's status: nearly all.
type endSeries [statuses]atomic.Pointer[prometheus.Counter]
