package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	units "github.com/docker/go-units"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// Size is a number of bytes. It is written with a binary unit: "16MiB".
type Size int64

// maxSize is far above every reasonable limit, and far below the numbers that
// a float64 (which go-units uses) can't represent exactly.
const maxSize = 1 << 50

// Auto is the Size of "auto": culvert chooses the value.
const Auto Size = -1

// String writes s in the largest unit that needs no fraction.
func (s Size) String() string {
	switch s {
	case Auto:
		return "auto"
	case 0:
		return "0"
	}
	for _, unit := range []struct {
		bytes Size
		name  string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if s%unit.bytes == 0 {
			return strconv.FormatInt(int64(s/unit.bytes), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// A kind is a form of values. Errors of parse continue a sentence after the
// value: `"8080" has no colon: write ":8080"`. Only the text after the first ": "
// may contain the value, because withoutValue removes that text.
type kind struct {
	name    string // in the reference
	example string
	pattern string // for the schema; "" if it is not that simple
	parse   func(text string) (any, error)
}

// Kinds by the tag "is", or by the type of the field.
var (
	kindsByTag = map[string]kind{
		"listen address":    {"address or unix socket", ":8080", "", parseListenAddress},
		"listener name":     {"name", "public", "", text(orEmpty(checkListenerName))},
		"backend name":      {"name", "orders", "", text(checkListenerName)},
		"admin address":     {"address, unix socket or off", "127.0.0.1:9902", "", parseAdminAddress},
		"optional address":  {"address or off", "127.0.0.1:9901", "", parseOptionalAddress},
		"target":            {"backend address", "localhost:9000", "", text(orEmpty(checkTarget))},
		"origin":            {"origin", "https://app.example.com", "", text(checkOrigin)},
		"host":              {"host", "grpc.example.com", "", text(orEmpty(checkHost))},
		"name":              {"host name", "grpc.example.com", "", text(orEmpty(checkName))},
		"own name":          {"host name", "grpc.example.com", "", text(checkOwnName)},
		"web server":        {"web server", "http://localhost:3000", "", text(orEmpty(checkWebServer))},
		"path prefix":       {"path prefix", "/grpc", "", text(orEmpty(checkPathPrefix))},
		"method name":       {"method", "shop.v1.Orders/Watch", "", text(orEmpty(checkMethod))},
		"message path":      {"path", "/ws/chat", "", text(orEmpty(checkMessagePath))},
		"method pattern":    {"method pattern", "shop.v1.Orders/*", "", text(checkMethodPattern)},
		"metadata name":     {"metadata name", "x-authenticated-user", "", text(checkMetadataName)},
		"log field":         {"field", "metadata.x-tenant", "", text(rules.CheckLogField)},
		"sticky name":       {"metadata name", "x-user-id", "", text(orEmpty(checkMetadataName))},
		"route host":        {"host, * or *.domain", "*.example.com", "", text(checkRouteHost)},
		"rewrite prefix":    {"path prefix, or /", "/", "", text(orEmpty(checkPathPrefix, "/"))},
		"client auth":       {"none, optional or require", "require", "", parseClientAuth},
		"file":              {"file", "ca.pem", "", text(anyText)},
		"directory":         {"directory", "/var/lib/culvert", "", text(anyText)},
		"size or 0":         {"size, or 0", "1GiB", sizeOrZeroPattern, parseSizeOrZero},
		"size, 0 or auto":   {"size, 0 or auto", "64MiB", `^(auto|` + sizeOrZeroPattern[len("^("):], parseSizeOrAuto},
		"domain":            {"domain", "grpc.example.com", "", text(checkDomain)},
		"email":             {"email address", "ops@example.com", "", text(orEmpty(checkEmail))},
		"https url":         {"HTTPS URL", "https://ca.example.com/acme/acme/directory", "", text(orEmpty(checkHTTPSURL))},
		"resolver":          {"address of a name server", "192.0.2.53:53", "", text(checkResolver)},
		"word":              {"text", "cloudflare", "", text(anyText)},
		"secret":            {"text", "secret", "", text(anyText)},
		"port or 0":         {"port, or 0", "443", "", refusing(parseNumber, func(n int) bool { return n > math.MaxUint16 }, "is not a port: write a number such as 443")},
		"seconds or 0":      {"duration of 1s or more, or 0s", "30s", durationPattern, refusing(parseDuration, func(d time.Duration) bool { return 0 < d && d < time.Second }, "is too short: write 1s or more, or 0s for never")},
		"count":             {"number, at least 1", "100", "", refusing(parseNumber, func(n int) bool { return n == 0 }, "allows no call: write 1 or more")},
		"attempts":          {"number, 2 to 5, or 0", "3", "", refusing(parseNumber, rules.WrongAttempts, rules.AttemptsRange)},
		"receiver":          {"URL of a receiver", "http://localhost:4318", "", text(orEmpty(checkReceiver))},
		"receiver or none":  {"URL of a receiver, or none", "http://localhost:4318/v1/logs", "", text(orEmpty(checkReceiver, notExported))},
		"export interval":   {"duration of 1s or more", "60s", durationPattern, refusing(parseDuration, func(d time.Duration) bool { return d < time.Second }, "is too short: write 1s or more")},
		"baggage name":      {"name in a baggage", "tenant.id", "", text(checkBaggageName)},
		"way":               {"way to authenticate", "staff", "", text(checkWay)},
		"cookie name":       {"name of a cookie", "session", "", text(checkCookieName)},
		"claim":             {"claim", "realm_access.roles", "", text(checkClaim)},
		"scope":             {"scope", "orders.read", "", text(checkScope)},
		"service url":       {"HTTPS URL", "https://id.example.com/keys", "", text(orEmpty(checkServiceURL))},
		"external url":      {"URL", "http://localhost:4180/verify", "", text(orEmpty(checkExternalURL))},
		"rate limit word":   {"text", "edge", "", text(orEmpty(checkRateLimitWord))},
		"descriptor source": {"source", "subject", "", text(orEmpty(checkDescriptorSource))},
		"positive duration": {"duration, more than 0s", "10s", durationPattern, refusing(parseDuration, func(d time.Duration) bool { return d == 0 }, "leaves no time: write more than 0s")},
	}
	kindsByType = map[reflect.Type]kind{
		reflect.TypeFor[bool]():          {"true or false", "true", "", parseBool},
		reflect.TypeFor[int]():           {"number", "100", "", parseNumber},
		reflect.TypeFor[Size]():          {"size", "16MiB", sizePattern, parseSize},
		reflect.TypeFor[time.Duration](): {"duration", "30s", durationPattern, parseDuration},
		reflect.TypeFor[Ratio]():         {"ratio, 0 to 1", "0.01", ratioPattern, parseRatio},
		reflect.TypeFor[Mode]():          {"mode in octal", "0600", modePattern, parseMode},
		reflect.TypeFor[netip.Prefix]():  {"address or network", "10.0.0.0/8", "", parsePrefix},
	}
)

const (
	sizePattern       = `^[0-9]+(\.[0-9]+)? ?([kKmMgGtT]([iI]?[bB])?|[bB])$`
	sizeOrZeroPattern = `^(0|[0-9]+(\.[0-9]+)? ?([kKmMgGtT]([iI]?[bB])?|[bB]))$`
	durationPattern   = `^(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`
)

var sizeForm = regexp.MustCompile(sizePattern)

// wordsByTag has the values of keys with the tag "words", which package bridge has, too.
var wordsByTag = map[string][]string{
	"transports": rules.Transports, "call transports": callTransports, "framings": slices.Sorted(slices.Values(rules.Framings)), "balances": rules.Balances,
}

// callTransports are the client protocols of calls. A route for bare messages has a key of
// its own.
var callTransports = slices.DeleteFunc(slices.Clone(rules.Transports), func(name string) bool { return name == "message" })

// text returns a parser for a kind whose value is its text.
func text(check func(string) error) func(string) (any, error) {
	return func(s string) (any, error) { return s, check(s) }
}

// orEmpty also accepts "", the value of an unset key, and words that check refuses.
func orEmpty(check func(string) error, words ...string) func(string) error {
	return func(s string) error {
		if s == "" || slices.Contains(words, s) {
			return nil
		}
		return check(s)
	}
}

// oneOf returns the kind of a value that is one of words.
func oneOf(words []string) kind {
	return kind{name: strings.Join(words, ", "), parse: func(s string) (any, error) {
		if slices.Contains(words, s) {
			return s, nil
		}
		return nil, fmt.Errorf("is not one of %s%s", strings.Join(words, ", "), didYouMean(s, words, "%q"))
	}}
}

// modePattern matches what parseMode accepts.
const modePattern = "^0?[67][0-7]{2}$"

func parseBool(s string) (any, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return nil, errors.New("is not true or false")
	}
	return b, nil
}

// maxNumber fits into an int on 32-bit machines.
const maxNumber = math.MaxInt32

func parseNumber(s string) (any, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return nil, errors.New("is not a whole number: write a number such as 100")
	case strings.HasPrefix(s, "-"):
		return nil, errors.New("is below zero: write 0 or more")
	case err != nil || n > maxNumber:
		return nil, fmt.Errorf("is too large: write at most %d", maxNumber)
	}
	return int(n), nil
}

// refusing returns parse, except that it refuses the values that are wrong with this text.
func refusing[T any](parse func(string) (any, error), wrong func(T) bool, text string) func(string) (any, error) {
	return func(s string) (any, error) {
		v, err := parse(s)
		if t, ok := v.(T); ok && wrong(t) {
			return nil, errors.New(text)
		}
		return v, err
	}
}

func parseSize(s string) (any, error) {
	if strings.HasPrefix(s, "-") {
		return nil, errors.New("is below zero: write a size with a unit, such as 16MiB")
	}
	if n, err := strconv.ParseFloat(s, 64); err == nil && n > 0 && !strings.ContainsAny(s, "eExX_pPnN") {
		return nil, fmt.Errorf("has no unit: write %sB for bytes, or %sMiB", s, s)
	}
	if s != "0" && !sizeForm.MatchString(s) {
		return nil, errors.New("is not a size: write a number with a unit, such as 64KiB or 16MiB")
	}
	n, err := units.RAMInBytes(s)
	switch {
	case err != nil || n < 0 || n > maxSize:
		return nil, fmt.Errorf("is too large: write at most %v", Size(maxSize))
	case n == 0:
		return nil, errors.New("allows not even a byte: write a size with a unit, such as 16MiB")
	}
	return Size(n), nil
}

func parseSizeOrZero(s string) (any, error) {
	if s == "0" || s == "0B" {
		return Size(0), nil
	}
	return parseSize(s)
}

func parseSizeOrAuto(s string) (any, error) {
	if s == Auto.String() {
		return Auto, nil
	}
	return parseSizeOrZero(s)
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
		return nil, fmt.Errorf("has no unit: write %ss for seconds", s)
	}
	return nil, errors.New("is not a duration: write a number with a unit, such as 500ms, 30s, 5m or 1h30m")
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
		return nil, errors.New("is not an IP address or a network: write 10.1.2.3 or 10.0.0.0/8")
	}
	if p != p.Masked() {
		return nil, fmt.Errorf("has address bits after its prefix length: write %v", p.Masked())
	}
	if p.Addr().Is4In6() { // culvert compares IPv4 clients as IPv4, so it would match none
		return nil, fmt.Errorf("is an IPv4 network in IPv6 form: write %v", netip.PrefixFrom(p.Addr().Unmap(), max(p.Bits()-96, 0)))
	}
	return p, nil
}
