package proxytls

import (
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// RedirectHandler sends whoever asks in plaintext to the same place over TLS,
// on the port given: with 308, which keeps the method. It takes no answer from
// the request but its host, which has to be one, and its path.
func RedirectHandler(port int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // nothing more is to be had here
		host := bareHost(r.Host)
		if host == "" || !strings.HasPrefix(r.RequestURI, "/") {
			http.Error(w, "culvert: this port only redirects to HTTPS: the request names no host", http.StatusBadRequest)
			return
		}
		if port != 443 {
			host = net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
		}
		// The host stands before the path, whatever that begins with: "//" in
		// it leads nowhere else.
		w.Header().Set("Location", "https://"+host+r.RequestURI)
		w.WriteHeader(http.StatusPermanentRedirect)
	})
}

// hostForm is a name, or an address with IPv6 in brackets.
var hostForm = regexp.MustCompile(`^([0-9A-Za-z_]([0-9A-Za-z_.-]{0,252}[0-9A-Za-z_.])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

// bareHost returns the host without its port, "" if it is none.
func bareHost(host string) string {
	if !hostForm.MatchString(host) {
		return ""
	}
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	if host[0] == '[' && net.ParseIP(strings.Trim(host, "[]")) == nil {
		return ""
	}
	return host
}

// RedirectServer returns an http.Server for what stands on the plaintext port,
// RedirectHandler or one around it, with bounds on what a caller can hold.
func RedirectServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       5 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
