package doctor

import "time"

// A limit is a time after which a product ends connections, by its documentation.
// docs/guides/corporate-proxies.md has the sources.
type limit struct {
	after time.Duration
	idle  bool // it counts from the last data; else from the beginning
	who   string
}

var limits = []limit{
	{15 * time.Second, false, "Envoy (route timeout)"},
	{30 * time.Second, false, "Google Cloud's application load balancers (backend service timeout)"},
	{60 * time.Second, true, "AWS's application and classic load balancers (idle timeout), nginx (proxy_read_timeout), many inspecting proxies"},
	// Of no product's documentation: a usual limit of a request.
	{60 * time.Second, false, "a proxy or a gateway with a limit for requests: 60 s is the default of many"},
	{100 * time.Second, true, "Cloudflare (proxy read timeout)"},
	{120 * time.Second, true, "Cloudflare (proxy read timeout)"},
	{240 * time.Second, true, "Azure's load balancers and NAT gateways (TCP idle timeout, 4 min)"},
	{300 * time.Second, true, "Envoy (stream idle timeout, 5 min)"},
	{350 * time.Second, true, "AWS's network load balancers (idle timeout)"},
	{900 * time.Second, true, "Squid (read timeout, 15 min)"},
	{3600 * time.Second, true, "Envoy (connection idle timeout, 1 h)"},
}

// whoEnds returns the products that end connections after such a time, or "".
func whoEnds(after time.Duration, idle bool) string {
	for _, l := range limits {
		if l.idle == idle && (after-l.after).Abs() <= max(1500*time.Millisecond, l.after/50) {
			return l.who
		}
	}
	return ""
}
