package rules

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// An Effect is what a rule does with the calls that it matches.
type Effect string

// The effects.
const (
	Allow Effect = "allow"
	Deny  Effect = "deny"
)

// A Rule allows or denies the calls that meet all of its conditions. An empty list is no
// condition. An entry of a list is enough, except of Scopes and Claims.
//
// Names are unique for one issuer and one kind only: alice of a JWT and alice of an API key
// are two identities. A rule with Identities should have Issuers or Kinds if there is more than
// one way to authenticate.
type Rule struct {
	Name   string // for the log and for explanations
	Effect Effect

	Identities []string            // subjects, or patterns of them
	Issuers    []string            // whole issuers
	Kinds      []identity.Kind     // kinds of credentials
	Scopes     []string            // all of them are needed
	Claims     []claim.Requirement // of tokens; all of them are needed
	Origins    []string            // whole origins of pages, as browsers write them; also "null"
	Methods    []string            // "package.Service/Method" with * for any part
	Routes     []string            // names of routes, which the caller checks
}

// Bounds of a set of rules.
const (
	MaxRules      = 1000
	maxEntries    = 256 // of a list
	maxEntryBytes = 512
)

// A Mistake is the error of a rule, or of what a call needs.
type Mistake struct {
	Rule int    // the rule's index; -1: it isn't a rule's
	Name string // the rule's name, if it has one
	Key  string // "methods[1]"; "" if the rule as a whole is wrong
	Text string // continues a sentence that begins with the key
}

// Error returns the whole sentence.
func (m *Mistake) Error() string {
	text := m.Text
	if m.Key != "" {
		text = m.Key + " " + text
	}
	switch {
	case m.Rule < 0:
		return text
	case m.Name == "":
		return fmt.Sprintf("rule %d: %s", m.Rule+1, text)
	default:
		return fmt.Sprintf("rule %q: %s", m.Name, text)
	}
}

// A Set is a list of compiled rules. Only its counts change.
type Set struct {
	rules         []*rule // in the order of the list
	denies, allow []*rule
	claims        []claim.Requirement
	unruled       [len(unruled)]atomic.Uint64 // calls that no rule has decided on
}

// Claims returns the different requirements of the rules for claims, for Identity.Claims. The
// caller doesn't change the list.
func (s *Set) Claims() []claim.Requirement { return s.claims }

// A rule is a compiled Rule.
type rule struct {
	name       string
	effect     Effect
	conditions []condition // those that cost the least come first
	decided    atomic.Uint64
}

// Compile checks rules, and doesn't keep their lists. The error is a *Mistake.
func Compile(rules []Rule) (*Set, error) {
	if len(rules) > MaxRules {
		return nil, &Mistake{Rule: -1, Key: "rules", Text: fmt.Sprintf("has %d rules, and %d are allowed: put more entries into the lists of each", len(rules), MaxRules)}
	}
	set, names := new(Set), make(map[string]int, len(rules))
	for i := range rules {
		r := &rules[i]
		mistake := checkHead(r)
		if other, taken := names[r.Name]; taken && mistake == nil {
			mistake = &Mistake{Key: "name", Text: fmt.Sprintf("is that of rule %d, too: give each rule a name of its own", other+1)}
		}
		names[r.Name] = i
		compiled := &rule{name: r.Name, effect: r.Effect}
		if mistake == nil {
			compiled.conditions, mistake = conditionsOf(r, set)
		}
		if mistake != nil {
			mistake.Rule, mistake.Name = i, r.Name
			return nil, mistake
		}
		set.rules = append(set.rules, compiled)
		if r.Effect == Deny {
			set.denies = append(set.denies, compiled)
		} else {
			set.allow = append(set.allow, compiled)
		}
	}
	return set, nil
}

// checkHead checks all of a rule but its conditions.
func checkHead(r *Rule) *Mistake {
	switch {
	case r.Name == "":
		return &Mistake{Key: "name", Text: "is empty: give the rule a name, which the log has"}
	case !IsName(r.Name):
		return &Mistake{Key: "name", Text: NotAName}
	case r.Effect != Allow && r.Effect != Deny:
		return &Mistake{Key: "effect", Text: fmt.Sprintf("is %q: write %s or %s", r.Effect, Allow, Deny)}
	case len(r.Identities)+len(r.Issuers)+len(r.Kinds)+len(r.Scopes)+len(r.Claims)+len(r.Origins)+len(r.Methods)+len(r.Routes) == 0:
		all := `identities: ["*"]`
		if r.Effect == Deny {
			all = `methods: ["*/*"]`
		}
		return &Mistake{Text: "has no condition: write " + all + " if it is for every call"}
	}
	// Such a rule reads as if it did something.
	nobody := len(r.Kinds) > 0 && !slices.ContainsFunc(r.Kinds, func(k identity.Kind) bool { return k != identity.None })
	if key := whatNobodyHas(r); nobody && key != "" {
		return &Mistake{Key: key, Text: "can match no call: a caller of the kind none has no identity; remove it, or write another kind"}
	}
	return nil
}

// NotAName continues a sentence that begins with what IsName refuses.
const NotAName = "is not a name: use only letters, digits, . _ and -, up to 64"

// IsName reports whether a rule or an issuer can have the name. It is in the log.
func IsName(name string) bool {
	return name != "" && len(name) <= 64 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// whatNobodyHas returns a condition that only an identity can meet, or "".
func whatNobodyHas(r *Rule) string {
	switch {
	case len(r.Identities) > 0:
		return "identities"
	case len(r.Issuers) > 0:
		return "issuers"
	case len(r.Scopes) > 0:
		return "scopes"
	case len(r.Claims) > 0:
		return "claims"
	default:
		return ""
	}
}
