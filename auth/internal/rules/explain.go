package rules

import (
	"fmt"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// An Explanation is what each rule says of a call.
type Explanation struct {
	Decision Decision
	Rules    []RuleResult // in the order of the rules
}

// A RuleResult is what one rule says of a call.
type RuleResult struct {
	Name       string
	Effect     Effect
	Matches    bool
	Decides    bool
	Conditions []ConditionResult // all of them
}

// A ConditionResult is what one condition says of a call.
type ConditionResult struct {
	Key     string // "methods"
	Matches bool
	Value   string // what the call has; "": nothing. Of scopes and claims always ""
	Entry   string // the entry that matches. Of scopes and claims the first that is missing. "" if there is none
}

// String returns the result as a sentence.
func (c ConditionResult) String() string {
	switch {
	case (c.Key == byScope.String() || c.Key == byClaim.String()) && c.Matches:
		return c.Key + ": the caller has all"
	case c.Key == byScope.String():
		return fmt.Sprintf("%s: the caller lacks %q", c.Key, c.Entry)
	case c.Key == byClaim.String():
		return fmt.Sprintf("%s: the caller lacks %s", c.Key, c.Entry)
	case c.Matches:
		return fmt.Sprintf("%s: %q matches %q", c.Key, c.Entry, c.Value)
	case c.Key == byKind.String() && c.Entry == "" && c.Value == "none":
		return c.Key + `: the caller has no identity, and the rule doesn't list "none"`
	case c.Value == "":
		return c.Key + ": the call has none"
	default:
		return fmt.Sprintf("%s: none matches %q", c.Key, c.Value)
	}
}

// Explain decides as Decide does, and looks at every condition of every rule.
func (s *Set) Explain(f *Facts) Explanation {
	var deny, allow *RuleResult
	e := Explanation{Rules: make([]RuleResult, len(s.rules))}
	for i, r := range s.rules {
		result := &e.Rules[i]
		*result = r.explain(f)
		switch {
		case !result.Matches:
		case r.effect == Deny && deny == nil:
			deny = result
		case r.effect == Allow && allow == nil:
			allow = result
		}
	}
	switch {
	case deny != nil:
		e.Decision, deny.Decides = Decision{false, deny.Name}, true
	case allow != nil:
		e.Decision, allow.Decides = Decision{true, allow.Name}, true
	default:
		e.Decision = unruled[s.unmatched(f)]
	}
	return e
}

func (r *rule) explain(f *Facts) RuleResult {
	seen := f.seenBy(r.effect)
	f = &seen
	id, matches := r.match(f)
	result := RuleResult{Name: r.name, Effect: r.effect, Matches: matches}
	for i := range r.conditions {
		c := &r.conditions[i]
		at, ok := c.find(f, id)
		if len(c.entries) == 0 && ok {
			continue // it is implied, and not what the reader has written
		}
		said := ConditionResult{Key: c.key.String(), Matches: ok, Value: c.key.valueOf(f, id)}
		if at >= 0 {
			said.Entry = c.entries[at]
		}
		result.Conditions = append(result.Conditions, said)
	}
	return result
}

// valueOf returns what the call has for a condition, if its caller is id.
func (k conditionKey) valueOf(f *Facts, id *identity.Identity) string {
	switch k {
	case byKind:
		return string(identity.KindOf(id))
	case byRoute:
		return f.Route
	case byIssuer:
		return issuerOf(id)
	case byMethod:
		return f.Method
	case byOrigin:
		return f.Origin
	case byIdentity:
		if id != nil {
			return id.Subject
		}
	case byScope, byClaim: // several
	}
	return ""
}
