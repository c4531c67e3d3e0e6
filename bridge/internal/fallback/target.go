package fallback

import (
	"cmp"
	"errors"
	"net"
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
	"github.com/culvert-grpc/culvert/zone"
)

type target struct {
	scheme           string // of the requests: http or https
	host             string // of requests without a Host, and in the certificate
	network, address string // to dial
}

// errTarget names no part of the target, which may hold a password.
var errTarget = errors.New(`the web server's address is not valid: want "http://host:port", "https://host:port" or "unix:/path"`)

// parseTarget parses "http://host:port", "https://host:port", both also without the
// port, and "unix:/path".
func parseTarget(s string) (target, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if strings.Trim(path, "/") == "" {
			return target{}, errTarget
		}
		return target{"http", "localhost", "unix", path}, nil
	}
	u, ok := rules.WebServer(zone.Escape(s))
	if !ok {
		return target{}, errTarget
	}
	return target{u.Scheme, zone.Remove(u.Host), "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), rules.UsualPort(u.Scheme)))}, nil
}
