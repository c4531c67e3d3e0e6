package webhook

import (
	"crypto/tls"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

type metrics struct {
	registry *prometheus.Registry
	reviews  *prometheus.CounterVec
	seconds  prometheus.Histogram
}

// newMetrics returns the metrics of this build. The function returns the serving
// certificate; it may be nil.
func newMetrics(version string, certificate func() (*tls.Certificate, error)) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "culvert_injector_reviews_total", Help: "requests of the API server, by the answer",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "culvert_injector_review_seconds", Help: "the time from a request's header to its answer",
			Buckets: []float64{.0005, .001, .002, .003, .004, .005, .0075, .01, .025, .05, .1, .25, 1, 5},
		}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "culvert_injector_build_info", Help: "1, with the version of culvert-kube", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	m.registry.MustRegister(m.reviews, m.seconds, info, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, v := range []verdict{
		verdict(inject.Injected), verdict(inject.AlreadyInjected), verdict(inject.Skipped), refused, irrelevant, malformed, busy,
	} {
		m.reviews.WithLabelValues(string(v)) // a rate needs the zero before the first
	}
	if certificate != nil {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "culvert_injector_certificate_not_after_timestamp_seconds",
			Help: "when the serving certificate expires, in Unix time; 0: there is none yet",
		}, func() float64 {
			c, err := certificate()
			if err != nil {
				return 0
			}
			return float64(c.Leaf.NotAfter.Unix())
		}))
	}
	return m
}

func (m *metrics) review(v verdict, took time.Duration) {
	m.reviews.WithLabelValues(string(v)).Inc()
	m.seconds.Observe(took.Seconds())
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}
