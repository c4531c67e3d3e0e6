package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/net/idna"

	"github.com/culvert-grpc/culvert/internal/rules"
	"github.com/culvert-grpc/culvert/zone"
)

// Below are the kinds of text that name a place: an address, a backend, an
// origin, a host, a path, a method. Each error ends with the right form of the
// value, because people make few kinds of mistakes.

func parseOptionalAddress(s string) (any, error) {
	if s == "" || s == "off" {
		return "", nil
	}
	return s, checkAddress(s)
}

// checkAddress accepts an address for net.Listen with a numeric port.
func checkAddress(s string) error {
	if s == "" {
		return errors.New(`is empty: write ":8080"`)
	}
	if rules.IsPort(s) {
		return fmt.Errorf("has no colon: write %q", ":"+s)
	}
	host, port, err := net.SplitHostPort(s)
	switch {
	case err != nil && isBareIPv6(s):
		return fmt.Errorf("is an IPv6 address without brackets or without a port: write %q", bracketed(s, "8080"))
	case err != nil && !strings.Contains(s, ":"):
		return fmt.Errorf("has no port: write %q", s+":8080")
	case err != nil || strings.ContainsAny(host, "/ "):
		return errors.New(`is not an address: write "host:port" or ":port"`)
	case !rules.IsPort(port):
		return errors.New("has no port from 0 to 65535 after the colon")
	}
	return nil
}

// isBareIPv6 reports whether s is an IPv6 address without brackets, or without a port.
func isBareIPv6(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		s = strings.TrimSuffix(inner, "]")
	}
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Is6()
}

// bracketed writes such an address with brackets and with its port, or else with port. What
// looks like a zone may end with the port: no interface has a name with a colon.
func bracketed(s, port string) string {
	s = strings.Trim(s, "[]")
	if at := strings.LastIndexByte(s, ':'); strings.Contains(s[:at], "%") {
		s, port = s[:at], s[at+1:]
	}
	return "[" + s + "]:" + port
}

// checkTarget accepts an address that grpc-go can resolve.
func checkTarget(s string) error {
	scheme, rest, found := strings.Cut(s, ":")
	switch {
	case strings.ContainsFunc(s, unicode.IsControl):
		return errors.New(`has a control character: write "host:port", "dns:///host:port" or "unix:///path"`)
	case found && (scheme == "http" || scheme == "grpc" || scheme == "h2c"):
		return fmt.Errorf("is a URL: write %q", hostAndPort(rest, "80"))
	case found && (scheme == "https" || scheme == "grpcs"):
		return fmt.Errorf("is a URL: write %q, and turn on backend.tls.enabled (--backend-tls)", hostAndPort(rest, "443"))
	case found && (scheme == "unix" || scheme == "unix-abstract"):
		if strings.Trim(rest, "/") == "" {
			return errors.New(`has no path: write "unix:///path/to/socket"`)
		}
		if path, slashes := strings.CutPrefix(rest, "//"); slashes && path[0] != '/' { // grpc-go takes it for a host
			right := map[string]string{"unix": "unix:///", "unix-abstract": "unix-abstract:"}
			return fmt.Errorf("has two slashes before its path: write %q", right[scheme]+path)
		}
		return nil
	case found && scheme == "dns":
		if name := rest[strings.LastIndexByte(rest, '/')+1:]; name == "" {
			return errors.New(`has no name: write "dns:///host:port"`)
		}
		if _, err := url.Parse(zone.Remove(s)); err != nil || strings.Contains(zone.Remove(s), "%") {
			return errors.New(`is not an address: write "dns:///host:port"`)
		}
		return nil
	case strings.Contains(s, "://"):
		return errors.New(`has an unknown scheme: write "host:port", "dns:///host:port" or "unix:///path"`)
	case rules.IsPort(s):
		return fmt.Errorf("is only a port: write %q", "localhost:"+s)
	}
	host, port, err := net.SplitHostPort(s)
	switch {
	case err != nil && isBareIPv6(s):
		return fmt.Errorf("is an IPv6 address without brackets or without a port: write %q", bracketed(s, "50051"))
	case err != nil && !strings.Contains(s, ":"):
		return fmt.Errorf("has no port: write %q", s+":50051")
	case err != nil || strings.ContainsAny(host, "/ ?#") || strings.Contains(zone.Remove(s), "%"):
		return errors.New(`is not an address: write "host:port", "dns:///host:port" or "unix:///path"`)
	case host == "":
		return fmt.Errorf("has no host: write %q", "localhost:"+port)
	case !rules.IsPort(port) || port == "0":
		return errors.New("has no port from 1 to 65535 after the colon")
	}
	return nil
}

// hostAndPort returns the host and port in the rest of a URL.
func hostAndPort(rest, port string) string {
	host, _, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
	if _, _, err := net.SplitHostPort(host); err != nil {
		return host + ":" + port
	}
	return host
}

// checkOrigin accepts "*", "null", "~" and a regular expression, or an Origin
// as browsers send it. A "*" may replace the first labels of the host, or the
// port.
func checkOrigin(s string) error {
	if s == "*" || s == "null" {
		return nil
	}
	if expression, ok := strings.CutPrefix(s, "~"); ok {
		return checkOriginExpression(expression)
	}
	scheme, host, found := strings.Cut(s, "://")
	switch {
	case s == "":
		return errors.New(`is empty: write "https://app.example.com"`)
	case strings.Contains(s, ","):
		return errors.New("has a comma: write one origin for each entry, and one flag for each origin")
	case !found && strings.Contains(s, "/"):
		return errors.New(`has no scheme: write "https://app.example.com"`)
	case !found && isThisHost(s):
		return fmt.Errorf("has no scheme: write %q", "http://"+s)
	case !found:
		return fmt.Errorf("has no scheme: write %q", "https://"+s)
	case scheme == "" || strings.ToLower(scheme) != scheme || strings.ContainsAny(scheme, "*/ "):
		return errors.New(`has no scheme in lower case: write "https://app.example.com"`)
	}
	if before, after, slash := strings.Cut(host, "/"); slash {
		if after == "" {
			return fmt.Errorf("ends with a slash, which browsers don't send: write %q", scheme+"://"+before)
		}
		return fmt.Errorf("has a path, which browsers don't send: write %q", scheme+"://"+before)
	}
	return checkOriginHost(scheme, host)
}

// isThisHost reports whether host[:port] is on loopback, where pages use http.
func isThisHost(s string) bool {
	host, _, _ := rules.CutPort(s)
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

func checkOriginHost(scheme, host string) error {
	web, whole := rules.IsWeb(scheme), host
	host, port, hasPort := rules.CutPort(host)
	switch {
	case host == "" || strings.ContainsAny(host, "@?# "):
		return errors.New(`has no host: write "https://app.example.com"`)
	case host == "*" && web:
		return errors.New(`allows every page: write "*" for that, or a domain as in "https://*.example.com"`)
	case rules.MisplacedStar(host):
		return errors.New(`has a "*" that is not the first label of the host or the port: write "https://*.example.com" or "http://localhost:*"`)
	case strings.ToLower(host) != host:
		return fmt.Errorf("has capital letters, which browsers don't send: write %q", scheme+"://"+strings.ToLower(host))
	case web && asciiHost(host) != host:
		return fmt.Errorf("has letters that browsers encode: write %q", strings.Replace(scheme+"://"+whole, host, asciiHost(host), 1))
	case hasPort && port != "*" && !rules.IsPort(port):
		return errors.New("has no port from 0 to 65535 after the colon")
	case hasPort && port == rules.UsualPort(scheme):
		return fmt.Errorf("has the default port of its scheme, which browsers don't send: write %q", scheme+"://"+host)
	}
	return nil
}

// asciiHost returns a host as browsers encode it: bücher.example becomes
// xn--bcher-kva.example.
func asciiHost(host string) string {
	name := strings.TrimPrefix(host, "*.")
	if strings.IndexFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) < 0 {
		return host
	}
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil {
		ascii = "xn--bcher-kva.example" // an invalid name; this is what valid ones look like
	}
	return strings.TrimSuffix(host, name) + ascii
}

// checkHost accepts a name or an address, with or without a port.
func checkHost(s string) error {
	host, port, hasPort := rules.CutPort(s)
	if hasPort && !rules.IsPort(port) {
		return errors.New(`is not a host: write "grpc.example.com" or "grpc.example.com:8080"`)
	}
	return checkName(strings.Trim(host, "[]"))
}

// checkName accepts a name or an address, without a port.
func checkName(s string) error {
	if net.ParseIP(s) == nil && !nameForm.MatchString(s) {
		return errors.New(`is not a host name: write "grpc.example.com"`)
	}
	return nil
}

// checkOwnName accepts a name or an address that can belong to one owner. A CA
// that may sign for "com", or for the empty name, may sign for every server.
func checkOwnName(s string) error {
	if s == "" {
		return errors.New(`is empty: write "app.test", or remove it`)
	}
	if err := checkName(s); err != nil {
		return err
	}
	if net.ParseIP(s) == nil && !strings.HasPrefix(s, ".") && isPublicSuffix(strings.ToLower(strings.TrimRight(s, "."))) {
		return fmt.Errorf("is a domain in which anyone can have a name: write %q", "app."+s)
	}
	return nil
}

// Host names have no underscores, but names of containers and services may
// have them.
var nameForm = regexp.MustCompile(`^[0-9A-Za-z_]([0-9A-Za-z_.-]*[0-9A-Za-z_.])?$`)

// checkPathPrefix is stricter than package bridge, which takes every mark that a method's
// name can have.
func checkPathPrefix(s string) error {
	_, err := rules.PathElements(s)
	switch {
	case s == "/":
		return errors.New(`matches every path: write "" for no prefix`)
	case !strings.HasPrefix(s, "/"):
		return fmt.Errorf("doesn't begin with a slash: write %q", "/"+strings.TrimRight(s, "/"))
	case strings.HasSuffix(s, "/"):
		return fmt.Errorf("ends with a slash: write %q", strings.TrimRight(s, "/"))
	case err != nil || strings.ContainsAny(s, "$:@!*+"):
		return errors.New(`is not a plain path: write a path such as "/grpc" with letters, digits and . _ ~ -`)
	}
	return nil
}

func checkMethodPattern(s string) error {
	service, method, ok := rules.CutPattern(s)
	switch {
	case s == "":
		return errors.New(`is empty: write "shop.v1.Orders/*"`)
	case s == "*":
		return errors.New(`has no slash: write "*/*" for every method`)
	case strings.Contains(s, ","):
		return errors.New("has a comma: write one pattern for each entry, and one flag for each pattern")
	case method == "":
		return fmt.Errorf("names no method: write %q for all methods of the service", service+"/*")
	case service == "" || strings.Contains(method, "/"):
		return errors.New(`is not "package.Service/Method"`)
	case !ok:
		return errors.New(`has a bracket that isn't closed: write a pattern such as "shop.v1.Orders/*"`)
	}
	return nil
}

func checkMethod(s string) error {
	service, method, ok := rules.CutPattern(s)
	switch {
	case strings.ContainsAny(s, `*?[\`):
		return errors.New(`is a pattern: write one method, such as "shop.v1.Orders/Watch"`)
	case strings.Contains(s, ","):
		return errors.New(`has a comma: write one method, such as "shop.v1.Orders/Watch"`)
	case service != "" && method == "":
		return fmt.Errorf("names no method: write it after the service, such as %q", service+"/Watch")
	case !ok || service == "":
		return errors.New(`is not "package.Service/Method"`)
	}
	return nil
}

// checkMetadataName accepts a name of HTTP/2 metadata. gRPC PROTOCOL-HTTP2,
// "Requests".
func checkMetadataName(name string) error {
	if name == "" {
		return errors.New("is empty: write x-authenticated-user")
	}
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return errors.New("is not a metadata name: use only lower-case letters, digits, . _ and -")
	}
	return nil
}
