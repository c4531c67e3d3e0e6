package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
	"github.com/culvert-grpc/culvert/zone"
)

func checkWebServer(s string) error {
	if strings.HasPrefix(s, unixPrefix) {
		_, err := parseListenAddress(s)
		return err
	}
	scheme, rest, found := strings.Cut(s, "://")
	switch {
	case rules.IsPort(s):
		return fmt.Errorf("is only a port: write %q", "http://localhost:"+s)
	case strings.Contains(s, "@"):
		return errors.New("has a user name or a password, which culvert can't send (a web server in front of that one can)")
	case !found && strings.HasPrefix(s, ":"):
		return fmt.Errorf("has no host: write %q", "http://localhost"+s)
	case !found && !strings.Contains(s, "/"):
		return fmt.Errorf("has no scheme: write %q", "http://"+s)
	case !rules.IsWeb(scheme):
		return errors.New(`is not the address of a web server: write "http://localhost:3000", "https://app.internal" or "unix:/run/app.sock"`)
	}
	host, after, _ := strings.Cut(rest, "/")
	if after != "" || strings.ContainsAny(rest, "?#") {
		return fmt.Errorf("has a path or a query, but the web server gets those of each request: write %q", scheme+"://"+strings.TrimRight(strings.FieldsFunc(host+" ", func(r rune) bool { return r == '?' || r == '#' })[0], " "))
	}
	host = zone.Remove(host)
	u, ok := rules.WebServer(scheme + "://" + host)
	if !ok || strings.ContainsAny(host, " \t%") {
		return errors.New(`has no valid host: write "http://localhost:3000"`)
	}
	if port := u.Port(); strings.HasSuffix(host, ":") || port == "0" || port != "" && !rules.IsPort(port) {
		return errors.New("has no port from 1 to 65535 after the colon")
	}
	return nil
}

// checkFallback finds a web server that is culvert itself: each request would come back.
// It finds only addresses that say so; culvert refuses other requests that come back.
func checkFallback(l *Loaded) {
	if l.Fallback == "" {
		return
	}
	host, port := "", ""
	if u, err := url.Parse(l.Fallback); err == nil && u.Host != "" {
		host, port = u.Hostname(), cmp.Or(u.Port(), rules.UsualPort(u.Scheme))
	}
	for _, own := range l.ownAddresses() {
		sameSocket := strings.HasPrefix(own.address, unixPrefix) && socketOf(own.address) == socketOf(l.Fallback)
		if host != "" && reaches(host, port, own.address) || sameSocket {
			l.refuse("fallback", "is the address of %s, so culvert would send requests to itself: write the web server's own address (--fallback)", own.key)
			return
		}
	}
	for _, name := range l.Hosts {
		if h, _, _ := rules.CutPort(name); strings.EqualFold(h, host) || strings.EqualFold(name, net.JoinHostPort(host, port)) {
			l.warn("fallback", "is a name of this server in hosts, so requests may come back to culvert: write the web server's own address")
			break
		}
	}
}

// An ownAddress is an address on which culvert listens, and its key.
type ownAddress struct{ key, address string }

func (l *Loaded) ownAddresses() []ownAddress {
	own := []ownAddress{{"health.listen", l.Health.Listen}, {"admin.listen", l.Admin.Listen}, {"tls.http_listen", l.TLS.HTTPListen}}
	for i, ln := range l.Listen {
		own = append(own, ownAddress{Entry("listen", i), ln.Address})
	}
	return own
}

// socketOf returns the path of a unix socket's address, or "".
func socketOf(address string) string {
	socket, ok := strings.CutPrefix(address, unixPrefix)
	if !ok {
		return ""
	}
	return path.Clean(strings.Replace(socket, "//", "", 1))
}
