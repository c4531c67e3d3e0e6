package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"path"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	units "github.com/docker/go-units"
)

// Size is a number of bytes. It is written with a binary unit: "16MiB".
type Size int64

// maxSize is far over every limit that makes sense, and far under the numbers
// that a float64 (which go-units counts with) can't hold exactly.
const maxSize = 1 << 50

// String writes s in the largest unit that needs no fraction.
func (s Size) String() string {
	for _, unit := range []struct {
		bytes Size
		name  string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if s != 0 && s%unit.bytes == 0 {
			return strconv.FormatInt(int64(s/unit.bytes), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// A kind is one way in which a value is written. Errors of parse follow the
// value in a sentence: `"8080" lacks a colon: write ":8080"`.
type kind struct {
	name    string // as the reference calls it
	example string
	pattern string // for the schema; "" if it is not that simple
	parse   func(text string) (any, error)
}

// Kinds by the tag "is", else by the type of the field.
var (
	kindsByTag = map[string]kind{
		"address":          {"address", ":8080", "", text(checkAddress)},
		"optional address": {"address or off", "127.0.0.1:9901", "", parseOptionalAddress},
		"target":           {"backend address", "localhost:9000", "", text(orEmpty(checkTarget))},
		"origin":           {"origin", "https://app.example.com", "", text(checkOrigin)},
		"host":             {"host", "grpc.example.com", "", text(orEmpty(checkHost))},
		"name":             {"host name", "grpc.example.com", "", text(orEmpty(checkName))},
		"path prefix":      {"path prefix", "/grpc", "", text(orEmpty(checkPathPrefix))},
		"method pattern":   {"method pattern", "shop.v1.Orders/*", "", text(checkMethodPattern)},
		"file":             {"file", "ca.pem", "", text(func(string) error { return nil })},
		"count":            {"number, at least 1", "100", "", parseCount},
	}
	kindsByType = map[reflect.Type]kind{
		reflect.TypeFor[bool]():          {"true or false", "true", "", parseBool},
		reflect.TypeFor[int]():           {"number", "100", "", parseNumber},
		reflect.TypeFor[Size]():          {"size", "16MiB", sizePattern, parseSize},
		reflect.TypeFor[time.Duration](): {"duration", "30s", durationPattern, parseDuration},
		reflect.TypeFor[netip.Prefix]():  {"address or network", "10.0.0.0/8", "", parsePrefix},
	}
)

const (
	sizePattern     = `^[0-9]+(\.[0-9]+)? ?([kKmMgGtT]([iI]?[bB])?|[bB])?$`
	durationPattern = `^(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`
)

var sizeForm = regexp.MustCompile(sizePattern)

// text is the parser of a kind whose value is its text.
func text(check func(string) error) func(string) (any, error) {
	return func(s string) (any, error) { return s, check(s) }
}

// orEmpty lets "" through: the value of a key that is not set.
func orEmpty(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

// oneOf is the kind of a value that is one of words.
func oneOf(words []string) kind {
	return kind{name: strings.Join(words, ", "), parse: func(s string) (any, error) {
		for _, w := range words {
			if s == w {
				return s, nil
			}
		}
		return nil, fmt.Errorf("is none of %s%s", strings.Join(words, ", "), didYouMean(s, words, "%q"))
	}}
}

func parseBool(s string) (any, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return nil, errors.New("is neither true nor false")
	}
	return b, nil
}

// maxNumber keeps an int what it is on 32-bit machines, too.
const maxNumber = math.MaxInt32

func parseNumber(s string) (any, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return nil, errors.New("is no whole number: write 100")
	case strings.HasPrefix(s, "-"):
		return nil, errors.New("is below zero: write 0 or more")
	case err != nil || n > maxNumber:
		return nil, fmt.Errorf("is too much: write at most %d", maxNumber)
	}
	return int(n), nil
}

func parseCount(s string) (any, error) {
	n, err := parseNumber(s)
	if n == 0 {
		return nil, errors.New("leaves no room for a call: write 1 or more")
	}
	return n, err
}

func parseSize(s string) (any, error) {
	if strings.HasPrefix(s, "-") {
		return nil, errors.New("is below zero: write a size with its unit, as 16MiB")
	}
	if !sizeForm.MatchString(s) {
		return nil, errors.New("is no size: write a number with its unit, as 64KiB or 16MiB")
	}
	n, err := units.RAMInBytes(s)
	switch {
	case err != nil || n < 0 || n > maxSize:
		return nil, fmt.Errorf("is too much: write at most %v", Size(maxSize))
	case n == 0:
		return nil, errors.New("leaves no room for a byte: write a size with its unit, as 16MiB")
	}
	return Size(n), nil
}

func parseDuration(s string) (any, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err == nil && d < 0:
		return nil, errors.New("is below zero: write 0s or more")
	case err == nil:
		return d, nil
	}
	if _, numErr := strconv.ParseFloat(s, 64); numErr == nil {
		return nil, fmt.Errorf("lacks its unit: write %ss for seconds", s)
	}
	return nil, errors.New("is no duration: write 500ms, 30s, 5m or 1h30m")
}

func parsePrefix(s string) (any, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Zone() != "" {
			return nil, errors.New("has a zone: write the address without it")
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return nil, errors.New("is neither an IP address nor a network: write 10.1.2.3 or 10.0.0.0/8")
	}
	if p != p.Masked() {
		return nil, fmt.Errorf("has address bits beyond its length: write %v", p.Masked())
	}
	return p, nil
}

func parseOptionalAddress(s string) (any, error) {
	if s == "" || s == "off" {
		return "", nil
	}
	return s, checkAddress(s)
}

// checkAddress wants what net.Listen can take, with a port in digits.
func checkAddress(s string) error {
	if s == "" {
		return errors.New(`is empty: write ":8080"`)
	}
	if isPort(s) {
		return fmt.Errorf("lacks a colon: write %q", ":"+s)
	}
	host, port, err := net.SplitHostPort(s)
	switch {
	case err != nil && net.ParseIP(s) != nil && strings.Contains(s, ":"):
		return fmt.Errorf("is an IPv6 address without a port: write %q", "["+s+"]:8080")
	case err != nil && !strings.Contains(s, ":"):
		return fmt.Errorf("has no port: write %q", s+":8080")
	case err != nil || strings.ContainsAny(host, "/ "):
		return errors.New(`is no address: write "host:port" or ":port"`)
	case !isPort(port):
		return errors.New("has no port from 0 to 65535 after its colon")
	}
	return nil
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// checkTarget wants an address that grpc-go can resolve.
func checkTarget(s string) error {
	scheme, rest, found := strings.Cut(s, ":")
	switch {
	case found && (scheme == "http" || scheme == "grpc" || scheme == "h2c"):
		return fmt.Errorf("is a URL: write %q", hostAndPort(rest, "80"))
	case found && (scheme == "https" || scheme == "grpcs"):
		return fmt.Errorf("is a URL: write %q, and turn on backend.tls.enabled (--backend-tls)", hostAndPort(rest, "443"))
	case found && (scheme == "unix" || scheme == "unix-abstract"):
		if strings.Trim(rest, "/") == "" {
			return errors.New(`has no path: write "unix:///path/to/socket"`)
		}
		return nil
	case found && scheme == "dns":
		if name := rest[strings.LastIndexByte(rest, '/')+1:]; name == "" {
			return errors.New(`has no name: write "dns:///host:port"`)
		}
		return nil
	case strings.Contains(s, "://"):
		return errors.New(`has a scheme that culvert doesn't know: write "host:port", "dns:///host:port" or "unix:///path"`)
	case isPort(s):
		return fmt.Errorf("is a port alone: write %q", "localhost:"+s)
	}
	host, port, err := net.SplitHostPort(s)
	switch {
	case err != nil && net.ParseIP(s) != nil && strings.Contains(s, ":"):
		return fmt.Errorf("is an IPv6 address without a port: write %q", "["+s+"]:50051")
	case err != nil && !strings.Contains(s, ":"):
		return fmt.Errorf("has no port: write %q", s+":50051")
	case err != nil || strings.ContainsAny(host, "/ "):
		return errors.New(`is no address: write "host:port", "dns:///host:port" or "unix:///path"`)
	case host == "":
		return fmt.Errorf("has no host: write %q", "localhost:"+port)
	case !isPort(port) || port == "0":
		return errors.New("has no port from 1 to 65535 after its colon")
	}
	return nil
}

// hostAndPort takes what should have been written out of the rest of a URL.
func hostAndPort(rest, port string) string {
	host, _, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
	if _, _, err := net.SplitHostPort(host); err != nil {
		return host + ":" + port
	}
	return host
}

// checkOrigin wants "*" or what a browser sends as Origin, with a "*" for the
// first labels of the host, for all of it, or for the port.
func checkOrigin(s string) error {
	if s == "*" {
		return nil
	}
	scheme, host, found := strings.Cut(s, "://")
	switch {
	case s == "":
		return errors.New(`is empty: write "https://app.example.com"`)
	case strings.Contains(s, ","):
		return errors.New("holds a comma: one origin an entry, one entry a flag")
	case s == "null":
		return errors.New("is what every sandboxed page sends: serve the page from an origin of its own")
	case !found && strings.Contains(s, "/"):
		return errors.New(`has no scheme: write "https://app.example.com"`)
	case !found:
		return fmt.Errorf("has no scheme: write %q", "https://"+s)
	case scheme == "" || strings.ToLower(scheme) != scheme || strings.ContainsAny(scheme, "*/ "):
		return errors.New(`has no scheme in lower case: write "https://app.example.com"`)
	}
	if before, after, slash := strings.Cut(host, "/"); slash {
		if after == "" {
			return fmt.Errorf("ends in a slash, which no browser sends: write %q", scheme+"://"+before)
		}
		return fmt.Errorf("has a path, which no browser sends: write %q", scheme+"://"+before)
	}
	return checkOriginHost(scheme, host)
}

func checkOriginHost(scheme, host string) error {
	web := scheme == "http" || scheme == "https"
	host, port, hasPort := cutPort(host)
	switch {
	case host == "" || strings.ContainsAny(host, "@?# "):
		return errors.New(`has no host: write "https://app.example.com"`)
	case host == "*" && web:
		return errors.New(`lets every page in: write "*" if that is meant, else "https://*.example.com"`)
	case strings.Contains(strings.TrimPrefix(host, "*"), "*") || len(host) > 1 && host[0] == '*' && host[1] != '.':
		return errors.New(`has a "*" that is neither the first label of the host nor the port: write "https://*.example.com" or "http://localhost:*"`)
	case strings.ToLower(host) != host:
		return fmt.Errorf("has capitals, which no browser sends: write %q", scheme+"://"+strings.ToLower(host))
	case hasPort && port != "*" && !isPort(port):
		return errors.New("has no port from 0 to 65535 after its colon")
	case scheme == "http" && port == "80" || scheme == "https" && port == "443":
		return fmt.Errorf("names the scheme's own port, which no browser sends: write %q", scheme+"://"+host)
	}
	return nil
}

// cutPort splits host[:port]; the colons of an IPv6 address are in brackets.
func cutPort(s string) (host, port string, found bool) {
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// checkHost wants a name or an address, with or without a port.
func checkHost(s string) error {
	host, port, hasPort := cutPort(s)
	if hasPort && !isPort(port) {
		return errors.New(`is no host: write "grpc.example.com" or "grpc.example.com:8080"`)
	}
	return checkName(strings.Trim(host, "[]"))
}

// checkName wants a name or an address alone.
func checkName(s string) error {
	if net.ParseIP(s) == nil && !nameForm.MatchString(s) {
		return errors.New(`is no host name: write "grpc.example.com"`)
	}
	return nil
}

// Underscores are no letters of a host's name, but names of containers and
// services have them.
var nameForm = regexp.MustCompile(`^[0-9A-Za-z_]([0-9A-Za-z_.-]*[0-9A-Za-z_.])?$`)

func checkPathPrefix(s string) error {
	switch {
	case s == "/":
		return errors.New(`is every path: write "" for no prefix`)
	case !strings.HasPrefix(s, "/"):
		return fmt.Errorf("lacks its first slash: write %q", "/"+strings.TrimRight(s, "/"))
	case strings.HasSuffix(s, "/"):
		return fmt.Errorf("ends in a slash: write %q", strings.TrimRight(s, "/"))
	case path.Clean(s) != s || !prefixForm.MatchString(s):
		return errors.New(`is no plain path: write "/grpc", of letters, digits and . _ ~ -`)
	}
	return nil
}

var prefixForm = regexp.MustCompile(`^[0-9A-Za-z._~/-]+$`)

func checkMethodPattern(s string) error {
	service, method, found := strings.Cut(strings.TrimPrefix(s, "/"), "/")
	switch {
	case s == "":
		return errors.New(`is empty: write "shop.v1.Orders/*"`)
	case s == "*":
		return errors.New(`has no slash: write "*/*" for every method`)
	case strings.Contains(s, ","):
		return errors.New("holds a comma: one pattern an entry, one entry a flag")
	case !found || method == "":
		return fmt.Errorf("names no method: write %q for all of the service", service+"/*")
	case service == "" || strings.Contains(method, "/"):
		return errors.New(`is not "package.Service/Method"`)
	}
	if _, err := path.Match(s, ""); err != nil {
		return errors.New(`has a bracket without its end: write "shop.v1.Orders/*"`)
	}
	return nil
}
