package telemetry

import (
	"maps"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/connectivity"

	"github.com/culvert-grpc/culvert/bridge"
)

// state reads the gauges, and the counts that the bridge keeps itself, at each scrape. It
// is a prometheus.Collector.
type state struct{ *Metrics }

// descs describe the rows that state has the values of to Prometheus.
var descs = func() map[string]*prometheus.Desc {
	all := make(map[string]*prometheus.Desc)
	for _, f := range []Family{
		openCalls, openByAge, messages, messageBytes, blocked, routeBlocked, openConns, messageMemory, messageMemoryLimit, clientMemory,
		clientMemoryLimit, evictedCalls, droppedValues, panics, backendConnected, backendAddrs, backendWaiting, backendLostPings, backendRetries, backendCalls,
		otlpExported, otlpDropped, draining, droppedLogs,
	} {
		all[f.Name] = prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)
	}
	return all
}()

func (state) Describe(to chan<- *prometheus.Desc) {
	for _, d := range descs {
		to <- d
	}
}

func (s state) Collect(to chan<- prometheus.Metric) {
	tell := func(f Family, value float64, labels ...string) {
		kind := prometheus.GaugeValue
		if f.Kind == Counter {
			kind = prometheus.CounterValue
		}
		to <- prometheus.MustNewConstMetric(descs[f.Name], kind, value, labels...)
	}
	if dropped := s.dropped.Load(); dropped != nil {
		tell(droppedLogs, float64((*dropped)()))
	}
	if all := s.exporters.Load(); all != nil {
		for _, of := range *all {
			e := of.Exports()
			tell(otlpExported, float64(e.Exported), e.Signal)
			tell(otlpDropped, float64(e.Overflowed), e.Signal, "queue")
			tell(otlpDropped, float64(e.Failed), e.Signal, "receiver")
		}
	}
	snapshot := s.state.Load()
	if snapshot == nil {
		return
	}
	now := (*snapshot)()
	running := make(map[[2]string]int)
	for _, c := range now.Calls {
		running[[2]string{c.Listener, c.Transport}] = c.Calls
	}
	for _, t := range now.Traffic { // also of transports without calls at the moment
		tell(openCalls, float64(running[[2]string{t.Listener, t.Transport}]), t.Listener, t.Transport)
		for direction, flow := range map[string]bridge.Flow{"in": t.In, "out": t.Out} {
			tell(messages, float64(flow.Messages), t.Listener, t.Transport, direction)
			tell(messageBytes, float64(flow.Bytes), t.Listener, t.Transport, direction)
			tell(blocked, flow.Blocked.Seconds(), t.Listener, t.Transport, direction)
		}
	}
	youngest := time.Duration(0)
	for _, a := range now.Ages {
		tell(openByAge, float64(a.Calls), ageClass(youngest, a.Below))
		youngest = a.Below
	}
	for _, b := range now.Blocked {
		route, backend := b.Route, b.Backend
		if b.Others {
			route, backend = other, other
		}
		tell(routeBlocked, b.In.Seconds(), route, backend, "in")
		tell(routeBlocked, b.Out.Seconds(), route, backend, "out")
	}
	for k, n := range s.openNow(now) {
		tell(openConns, float64(n), k[0], k[1])
	}
	tell(messageMemory, float64(now.HeldBytes))
	tell(messageMemoryLimit, float64(now.HeldLimit))
	tell(clientMemory, float64(now.ClientBytes))
	tell(clientMemoryLimit, float64(now.ClientLimit))
	tell(evictedCalls, float64(now.Evicted))
	tell(droppedValues, float64(now.DroppedValues))
	tell(panics, float64(now.Panics))
	tell(draining, number(now.Draining))
	calls := make(map[string]int) // by name: a replaced backend stays until its last call ends
	for _, u := range now.Upstreams {
		calls[u.Name] += u.Calls
		if u.Draining {
			continue
		}
		tell(backendConnected, number(u.Conns == connectivity.Ready), u.Name)
		tell(backendWaiting, float64(u.Waiting), u.Name)
		tell(backendLostPings, float64(u.LostPings), u.Name)
		for outcome, n := range map[string]int64{"sent": u.Retries.ByPolicy, "elsewhere": u.Retries.Elsewhere, "withheld": u.Retries.Withheld} {
			tell(backendRetries, float64(n), u.Name, outcome)
		}
		addresses := map[string]int{"accepts": 0, "unhealthy": 0, "down": 0}
		for _, a := range u.Addresses {
			switch {
			case a.Accepts:
				addresses["accepts"]++
			case a.Unhealthy:
				addresses["unhealthy"]++
			default:
				addresses["down"]++
			}
		}
		for state, n := range addresses {
			tell(backendAddrs, float64(n), u.Name, state)
		}
	}
	for name, n := range calls {
		tell(backendCalls, float64(n), name)
	}
}

// openNow returns the numbers of open connections by listener and transport, with zeros
// for listeners that have none, and for transports that once had some: a gauge must not
// vanish.
func (s state) openNow(now bridge.Snapshot) map[[2]string]int {
	s.counting.Lock()
	defer s.counting.Unlock()
	if listeners := s.listeners.all.Load(); listeners != nil {
		for listener := range *listeners {
			s.had[[2]string{listener, ""}] = 0
		}
	}
	for k := range s.had {
		s.had[k] = 0
	}
	for _, c := range now.Connections {
		s.had[[2]string{c.Listener, c.Transport}] = c.Open
	}
	return maps.Clone(s.had)
}

// ageClass returns the name of a class of ages, such as "1m-1h".
func ageClass(from, below time.Duration) string {
	switch {
	case from == 0:
		return "<" + short(below)
	case below == 0:
		return ">" + short(from)
	}
	return short(from) + "-" + short(below)
}

// short returns a duration in its largest unit.
func short(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d%unit.of == 0 {
			return strconv.FormatInt(int64(d/unit.of), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
