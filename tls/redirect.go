package proxytls

import (
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// redirectAge is how long a browser may go to HTTPS without asking. Without it, a
// 308 is kept for good (RFC 9110 §15.4.9), even if it led to a port that was given
// up since. And shared caches would keep, for all clients, an answer that depends
// on one client's Host.
const redirectAge = "private, max-age=3600"

// RedirectHandler redirects plaintext requests to the same place over TLS, on the
// given port: with 308, which keeps the method. From the request it uses only the
// path and the host. The host must be one that is served (in lower case, without
// port and brackets), or the address that the request came to.
func RedirectHandler(port int, serves func(host string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, target := bareHost(r.Host), targetOf(r)
		switch name := normalName(strings.Trim(host, "[]")); {
		case host == "" || target == "":
			http.Error(w, "culvert: this port only redirects to HTTPS: the request names no host", http.StatusBadRequest)
			return
		case !isOwnAddress(name, r) && !serves(name):
			http.Error(w, "culvert: this port only redirects to HTTPS, and culvert has no certificate for this host (tls, hosts)", http.StatusMisdirectedRequest)
			return
		}
		if port != 443 {
			host = net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
		}
		w.Header().Set("Cache-Control", redirectAge)
		// The host stands before the path, so a path that begins with "//" leads
		// nowhere else.
		w.Header().Set("Location", "https://"+host+target)
		w.WriteHeader(http.StatusPermanentRedirect)
	})
}

// targetOf returns path and query as the client wrote them, or "" if there are
// none. It must also accept the form with the whole URL, which clients of proxies
// write (RFC 9112 §3.2.2); net/http then has its host.
func targetOf(r *http.Request) string {
	switch {
	case strings.HasPrefix(r.RequestURI, "/"):
		return r.RequestURI
	case r.URL.Scheme != "http" || r.URL.Host == "" || r.URL.User != nil:
		return ""
	}
	return r.URL.RequestURI()
}

// isOwnAddress reports whether host is the address that the request's connection
// was made to: health checks of a load balancer name no other host.
func isOwnAddress(host string, r *http.Request) bool {
	own, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	ip := net.ParseIP(host)
	return ok && ip != nil && ip.Equal(own.IP)
}

// hostForm is a name, or an address with IPv6 in brackets. Its repetitions with counts are
// large in memory, so it is compiled only by those that need it.
var hostForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([0-9A-Za-z_]([0-9A-Za-z_.-]{0,252}[0-9A-Za-z_.])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)
})

// bareHost returns the host without its port, or "" if it is invalid.
func bareHost(host string) string {
	if !hostForm().MatchString(host) || strings.Contains(host, "..") {
		return ""
	}
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		if _, err := strconv.ParseUint(host[i+1:], 10, 16); err != nil {
			return ""
		}
		host = host[:i]
	}
	if host[0] == '[' && net.ParseIP(strings.Trim(host, "[]")) == nil {
		return ""
	}
	return host
}

// closing closes the connection after each request: clients have no second one
// to send here, and net/http takes the body of an HTTP/1.0 request with
// Transfer-Encoding for the next request. RFC 9112 §6.1.
func closing(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		h.ServeHTTP(w, r)
	})
}

// RedirectServer returns an http.Server for the plaintext port, with
// RedirectHandler or a handler around it, and with bounds on what a caller can
// hold.
func RedirectServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           closing(h),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       5 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
