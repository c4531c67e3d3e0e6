package config

import (
	"net/url"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// checkOriginsOfStrangers warns of entries in allow_origins, the routes' too, that
// match hosts which anyone can register: "https://*.com", or an expression that
// doesn't fix both ends of the host.
func checkOriginsOfStrangers(l *Loaded) {
	for _, list := range l.originLists() {
		for _, entry := range list.entries {
			if stranger := strangerIn(entry); stranger != "" {
				l.warn(list.key, "also allows "+stranger+", which anyone can register: write your own domain in full, and in an expression \\. before the domain and at most a port after it")
			}
		}
	}
}

// strangerIn returns an origin that the entry matches and that may belong to
// another owner, or "".
func strangerIn(entry string) string {
	scheme, host, _ := strings.Cut(strings.TrimLeft(entry, "~^"), "://")
	if !rules.IsWeb(scheme) {
		return ""
	}
	expression, ok := strings.CutPrefix(entry, "~")
	if !ok {
		host, _, _ = rules.CutPort(host)
		if domain, ok := strings.CutPrefix(host, "*."); ok && isPublicSuffix(domain) {
			return scheme + "://" + stranger + "." + domain
		}
		return ""
	}
	tree, _ := syntax.Parse(expression, syntax.Perl)
	_, whole, err := rules.OriginExpression(expression)
	if err != nil {
		return "" // checkOriginExpression reports it
	}
	for _, sample := range samples(tree) {
		u, err := url.Parse(sample)
		if err != nil {
			continue
		}
		host := strings.Trim(u.Hostname(), ".-")
		port := strings.TrimPrefix(u.Host, u.Hostname())
		own := registrable(host)
		for _, other := range []string{
			stranger + host, stranger + "-" + host, host + "." + stranger + ".com", host + stranger + ".com", host + "-" + stranger + ".com", host + ".dev", host + "m",
		} {
			if theirs := registrable(other); theirs == "" || theirs == own {
				continue
			}
			if origin := scheme + "://" + other + port; whole.MatchString(origin) {
				return origin
			}
		}
	}
	return ""
}

// stranger is a name that nobody has registered.
const stranger = "culvertforeign"

// maxSamples limits the number of combinations of alternatives.
const maxSamples = 64

// samples returns short texts that an expression matches: one for each
// alternative, with the fewest repetitions.
func samples(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{strings.ToLower(string(re.Rune))}
	case syntax.OpCharClass:
		return []string{string(hostRune(re.Rune))}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{"a"}
	case syntax.OpCapture, syntax.OpPlus:
		return samples(re.Sub[0])
	case syntax.OpRepeat:
		return joined(slices.Repeat([]*syntax.Regexp{re.Sub[0]}, re.Min))
	case syntax.OpConcat:
		return joined(re.Sub)
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			all = append(all, samples(sub)...)
		}
		return all[:min(len(all), maxSamples)]
	default: // optional parts, and assertions without characters
		return []string{""}
	}
}

// joined returns samples of a sequence of expressions.
func joined(sequence []*syntax.Regexp) []string {
	all := []string{""}
	for _, re := range sequence {
		var longer []string
		next := samples(re)
		for _, before := range all {
			for _, after := range next {
				longer = append(longer, before+after)
			}
		}
		all = longer[:min(len(longer), maxSamples)]
	}
	return all
}

// hostRune returns a character of the class that a host name may have.
func hostRune(ranges []rune) rune {
	for _, r := range "a0z9-" {
		for i := 0; i+1 < len(ranges); i += 2 {
			if ranges[i] <= r && r <= ranges[i+1] {
				return r
			}
		}
	}
	if len(ranges) == 0 {
		return 'a'
	}
	return ranges[0]
}
