package gate

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

// Forwarding has the values of x-forwarded-* and via for the backend.
type Forwarding struct{ For, Proto, Host, Via string }

// A hop is a proxy's description of the request that it received.
type hop struct {
	client      string // the sender: an address, or a word that hides it
	proto, host string // the scheme, and the host asked for; "": not given
}

// Proxies are the peers whose forwarding headers count.
type Proxies struct {
	Trusted []netip.Prefix

	// Forwarded means that they describe their clients by Forwarded, as in RFC 7239,
	// and not by X-Forwarded-For, -Proto and -Host.
	Forwarded bool
}

// A trail leads from a trusted proxy to its client: the nearest hop that isn't
// trusted itself.
type trail struct {
	*Forwarding
	trusted []netip.Prefix
	client  string // so far; "" when no hop was found
}

// Trust takes over a trusted proxy's description of its client, and returns the
// client's address, or "" if the proxy names none. It fails for malformed input.
func (f *Forwarding) Trust(h http.Header, p Proxies) (client string, err error) {
	if v := strings.Join(h["Via"], ", "); v != "" {
		f.Via = v + ", " + f.Via
	}
	t := trail{Forwarding: f, trusted: p.Trusted}
	if p.Forwarded {
		err := t.followForwarded(h["Forwarded"])
		return t.client, err
	}
	if chain := strings.Join(h["X-Forwarded-For"], ", "); chain != "" {
		if strings.Count(chain, ",") >= maxHops {
			return "", tooManyHops("X-Forwarded-For")
		}
		f.For = chain + ", " + f.For
		for more := true; more; {
			var last string
			chain, last, more = cutLast(chain)
			if !t.cameFrom(last) {
				break
			}
		}
	}
	// If a proxy appends to its client's header, the last value is its own.
	f.heed(hop{proto: lastOf(h["X-Forwarded-Proto"]), host: lastOf(h["X-Forwarded-Host"])})
	return t.client, nil
}

// followForwarded reads the header of RFC 7239. It doesn't read the hops that a
// client wrote in front of the proxies' own, except in a line that a proxy appended
// to: a quote that the client opened there hides all of the proxies' hops.
func (t *trail) followForwarded(lines []string) error {
	chain := []string{t.For} // the nearest first
	client := hop{}
	left := maxHops
	for i, walking := len(lines)-1, true; i >= 0; i-- {
		hops, err := parseForwarded(lines[i], left)
		if err != nil {
			if walking || errors.Is(err, errHops) {
				return err
			}
			continue // the client's own; nobody else may see it either
		}
		left -= len(hops)
		for _, h := range slices.Backward(hops) {
			if h.client != "" {
				chain = append(chain, h.client)
			}
			if walking {
				client = h
				walking = t.cameFrom(h.client)
			}
		}
	}
	slices.Reverse(chain)
	t.For = strings.Join(chain, ", ")
	t.heed(client)
	return nil
}

// cameFrom notes the client of a hop, and reports whether that is a trusted proxy,
// whose own client is the next to find. Proxies write the address bare, with a port, or
// IPv6 in brackets. A zone is dropped: it belongs to the proxy's host.
func (t *trail) cameFrom(client string) bool {
	host, _ := splitHostPort(client)
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	t.client = addr.String()
	return Contains(t.trusted, addr)
}

// heed takes over the scheme that the client used, and the host that it asked for.
func (f *Forwarding) heed(h hop) {
	if proto := strings.ToLower(h.proto); proto == "http" || proto == "https" {
		f.Proto = proto
	}
	if _, _, ok := ParseAuthority(h.host); ok {
		f.Host = h.host
	}
}

// cutLast cuts off the last element of a list.
func cutLast(list string) (rest, last string, more bool) {
	i := strings.LastIndexByte(list, ',')
	if i >= 0 {
		rest = list[:i]
	}
	return rest, strings.TrimSpace(list[i+1:]), i >= 0
}

// lastOf returns the last element of a list on several lines.
func lastOf(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	_, last, _ := cutLast(lines[len(lines)-1])
	return last
}

// maxHops bounds the proxies that a request may name: far more than any chain has,
// and few enough to keep a long header cheap.
const maxHops = 100

func tooManyHops(header string) error { return fmt.Errorf("more than %d hops in %s", maxHops, header) }

var errHops = tooManyHops("Forwarded")

// errForwarded reports a Forwarded line that doesn't follow RFC 7239.
var errForwarded = errors.New(`want Forwarded as in RFC 7239: for=192.0.2.1;proto=https, for="[2001:db8::1]"`)

// parseForwarded parses one line of Forwarded, of at most limit hops. Values may
// contain characters that need quotes without having them, as some proxies write
// them. RFC 7239 §4.
func parseForwarded(line string, limit int) ([]hop, error) {
	var hops []hop
	for rest, more := line, true; more; {
		var h hop
		var empty bool
		var err error
		if h, empty, rest, more, err = cutHop(rest); err != nil {
			return nil, err
		}
		if empty { // a list may have empty elements. RFC 9110 §5.6.1.
			continue
		}
		if len(hops) == limit {
			return nil, errHops
		}
		hops = append(hops, h)
	}
	return hops, nil
}

// cutHop parses the pairs before the next comma.
func cutHop(s string) (h hop, empty bool, rest string, more bool, err error) {
	var seen map[string]bool
	for {
		s = strings.TrimLeft(s, " \t")
		if s != "" && s[0] != ',' && s[0] != ';' {
			name, value, after, ok := cutPair(s)
			if !ok || seen[name] { // §4: each once
				return hop{}, false, "", false, errForwarded
			}
			if seen == nil {
				seen = make(map[string]bool, 4)
			}
			seen[name] = true
			switch name {
			case "for":
				h.client = value
			case "proto":
				h.proto = value
			case "host":
				h.host = value
			}
			s = strings.TrimLeft(after, " \t")
		}
		switch {
		case s == "":
			return h, len(seen) == 0, "", false, nil
		case s[0] == ',':
			return h, len(seen) == 0, s[1:], true, nil
		case s[0] == ';':
			s = s[1:]
		default:
			return hop{}, false, "", false, errForwarded
		}
	}
}

// cutPair parses "name=value".
func cutPair(s string) (name, value, rest string, ok bool) {
	name, rest, ok = strings.Cut(s, "=")
	name = strings.ToLower(name)
	if !ok || !IsToken(name) || rest == "" {
		return "", "", "", false
	}
	if rest[0] == '"' {
		value, rest, ok = cutQuoted(rest[1:])
		return name, value, rest, ok
	}
	end := strings.IndexAny(rest, ",; \t")
	if end < 0 {
		end = len(rest)
	}
	value = rest[:end]
	return name, value, rest[end:], value != "" && !strings.ContainsAny(value, "\"=")
}

// cutQuoted reads up to the closing quote. Later code separates hops at commas, so
// the value must not contain one. RFC 9110 §5.6.4.
func cutQuoted(s string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == ',', c < ' ', c >= utf8.RuneSelf:
			return "", "", false
		case c == '\\':
			i++
			if i == len(s) || s[i] < ' ' || s[i] >= utf8.RuneSelf || s[i] == ',' {
				return "", "", false
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}
