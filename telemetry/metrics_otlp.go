package telemetry

import (
	"cmp"
	"encoding/hex"
	"iter"
	"math"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A standardName is what OpenTelemetry calls a metric that Prometheus has under another name.
type standardName struct{ name, unit string }

// standardNames are by the names of families. Receivers that write for Prometheus make the family's
// name of it again. All other metrics keep their name: it has their unit.
var standardNames = map[string]standardName{callDuration.Name: {"rpc.server.call.duration", "s"}}

// standardAttributes are the names of labels that OpenTelemetry has with dots.
var standardAttributes = map[string]string{
	"rpc_system_name": "rpc.system.name", "rpc_method": "rpc.method", "rpc_status_code": "rpc.status_code", "error_type": "error.type",
}

// pointsBytes is the most of a metric's values that stand together, so that a batch has an end.
const pointsBytes = batchBytes / 2

// batchesOf writes gathered metrics as batches of a size that receivers take. began is since when
// counters count that don't tell it.
func batchesOf(all []*dto.MetricFamily, now, began time.Time) iter.Seq[batch] {
	return func(yield func(batch) bool) {
		var b batch
		for _, f := range all {
			for metric, count := range metricsOf(f, now, began) {
				if len(b.items) > 0 && len(b.items)+len(metric) > batchBytes {
					if !yield(b) {
						return
					}
					b = batch{}
				}
				b.items = message(b.items).bytes(scopeItems, metric)
				b.count += count
			}
		}
		if b.count > 0 {
			yield(b)
		}
	}
}

// metricsOf writes a family as a metric, or as several if it has many values, and yields each with
// the number of its values.
func metricsOf(f *dto.MetricFamily, now, began time.Time) iter.Seq2[message, int64] {
	return func(yield func(message, int64) bool) {
		var points message
		count := int64(0)
		for i, m := range f.GetMetric() {
			points = points.point(f.GetType(), m, now, began)
			count++
			if len(points) < pointsBytes && i < len(f.GetMetric())-1 {
				continue
			}
			if !yield(metricOf(f, points), count) {
				return
			}
			points, count = points[:0], 0
		}
	}
}

func metricOf(f *dto.MetricFamily, points message) message {
	of := standardNames[f.GetName()]
	m := message(nil).text(metricName, cmp.Or(of.name, f.GetName())).text(metricHelp, cut(f.GetHelp())).text(metricUnit, of.unit)
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		return m.bytes(metricSum, points.number(anyTemporality, cumulative).number(sumMonotonic, 1))
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		return m.bytes(metricHistogram, points.number(anyTemporality, cumulative))
	case dto.MetricType_SUMMARY:
		return m.bytes(metricQuantiles, points)
	case dto.MetricType_GAUGE, dto.MetricType_UNTYPED:
	}
	return m.bytes(metricGauge, points)
}

// point writes one value of a metric. Its parts have bounds: labels are few and cut, and culvert's
// histograms have some fifteen buckets.
func (m message) point(kind dto.MetricType, of *dto.Metric, now, began time.Time) message {
	m, point := m.begin(anyPoints)
	switch kind {
	case dto.MetricType_COUNTER:
		c := of.GetCounter()
		m = m.labels(numberAttributes, of).at(pointStart, startOf(c, began)).at(pointTime, now).double(numberValue, c.GetValue())
		m = m.exemplar(numberExemplars, c.GetExemplar())
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		m = m.labels(histogramAttributes, of).at(pointStart, startOf(of.GetHistogram(), began)).at(pointTime, now).buckets(of.GetHistogram())
	case dto.MetricType_SUMMARY:
		s := of.GetSummary()
		m = m.labels(quantilesAttributes, of).at(pointStart, startOf(s, began)).at(pointTime, now)
		m = m.fixed(quantilesCount, s.GetSampleCount()).double(quantilesSum, s.GetSampleSum())
		for _, q := range s.GetQuantile() {
			var quantile int
			m, quantile = m.begin(quantilesAll)
			m = m.double(quantileOf, q.GetQuantile()).double(quantileValue, q.GetValue()).end(quantile)
		}
	case dto.MetricType_GAUGE, dto.MetricType_UNTYPED:
		m = m.labels(numberAttributes, of).at(pointTime, now).double(numberValue, of.GetGauge().GetValue()+of.GetUntyped().GetValue())
	}
	return m.end(point)
}

func (m message) labels(field byte, of *dto.Metric) message {
	for _, l := range of.GetLabel() {
		m = m.attribute(field, cmp.Or(standardAttributes[l.GetName()], l.GetName()), cut(l.GetValue()))
	}
	return m
}

// startOf returns since when a value counts. Prometheus knows it of what it counts itself.
func startOf(of interface{ GetCreatedTimestamp() *timestamppb.Timestamp }, began time.Time) time.Time {
	if at := of.GetCreatedTimestamp(); at != nil {
		return at.AsTime()
	}
	return began
}

// buckets writes a histogram by its classic buckets. Prometheus' have the counts of those before
// them, too.
func (m message) buckets(h *dto.Histogram) message {
	m = m.fixed(histogramCount, h.GetSampleCount()).double(histogramSum, h.GetSampleSum())
	bounds, counts := message(nil), message(nil)
	before := uint64(0)
	for _, b := range h.GetBucket() {
		m = m.exemplar(histogramExemplars, b.GetExemplar())
		if math.IsInf(b.GetUpperBound(), 1) {
			continue
		}
		bounds = protowire.AppendFixed64(bounds, math.Float64bits(b.GetUpperBound()))
		counts = protowire.AppendFixed64(counts, b.GetCumulativeCount()-before)
		before = b.GetCumulativeCount()
	}
	counts = protowire.AppendFixed64(counts, h.GetSampleCount()-before)
	return m.bytes(histogramCounts, counts).bytes(histogramBounds, bounds)
}

// exemplar writes the trace of a call with what it counts for. Nil: there is none.
func (m message) exemplar(field protowire.Number, e *dto.Exemplar) message {
	if e == nil {
		return m
	}
	m, exemplar := m.begin(field)
	m = m.at(exemplarTime, e.GetTimestamp().AsTime()).double(exemplarValue, e.GetValue())
	for _, l := range e.GetLabel() {
		switch l.GetName() {
		case "trace_id":
			m = m.id(exemplarTrace, l.GetValue())
		case "span_id":
			m = m.id(exemplarSpan, l.GetValue())
		}
	}
	return m.end(exemplar)
}

// id writes an id that is in hexadecimal. A wrong one isn't written.
func (m message) id(field protowire.Number, text string) message {
	var id [16]byte
	if n := len(text) / 2; n <= len(id) {
		if _, err := hex.Decode(id[:], []byte(text)); err == nil {
			return m.bytes(field, id[:n])
		}
	}
	return m
}
