package rules

import (
	"errors"
	"fmt"
	"slices"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// Facts are what rules judge a call by.
type Facts struct {
	Identity *identity.Identity // that counts; nil: the caller proved nothing
	Said     []Said             // of its credentials; see seenBy
	Public   bool               // the call needs no credential: Verdict.Public
	Method   string             // "/package.Service/Method"
	Origin   string             // as the gate has it; "": no page calls
	Route    string             // the route's name; "": it has none
}

// seenBy returns what rules of an effect see. A rule that denies sees the identity of each valid
// credential: nobody whom it denies gets in by another credential. A rule that allows sees only the
// identity that counts, which the backend is told of.
func (f Facts) seenBy(e Effect) Facts {
	if e == Allow {
		f.Said = nil
	}
	return f
}

// prove reports whether the identity that counts has something, or one of another valid credential.
func (f *Facts) prove(has func(*identity.Identity) bool) bool {
	return f.Identity != nil && has(f.Identity) || slices.ContainsFunc(f.Said, func(s Said) bool { return s.finding() == Valid && has(s.Identity) })
}

func issuerOf(id *identity.Identity) string {
	if id == nil {
		return ""
	}
	return id.Issuer
}

// nobody reports whether an identity is none. One of an unknown kind counts as none, so that a
// mistake in another package lets nobody in.
func nobody(id *identity.Identity) bool { return kindSetOf(identity.KindOf(id))&everyIdentity == 0 }

// These stand for a rule's name in a Decision that no rule made. No rule may have such a name.
const (
	NoRuleAllows = "no rule allows"              // there are allow rules, and none matches
	NoIdentity   = "no identity"                 // the caller proved nothing, and the call isn't public
	PublicMethod = "public method"               // no rule denies it
	NoAllowRules = "no rule denies, none allows" // each identity is allowed
)

// A Decision says whether a call is allowed.
type Decision struct {
	Allowed bool
	Rule    string // the name of the rule that decided, or one of the texts above
}

// unruled are the decisions that no rule makes.
var unruled = [...]Decision{{true, PublicMethod}, {false, NoIdentity}, {false, NoRuleAllows}, {true, NoAllowRules}}

// Decide decides on a call, and counts the decision. It allocates nothing.
func (s *Set) Decide(f *Facts) Decision {
	if r := first(s.denies, f); r != nil {
		r.decided.Add(1)
		return Decision{false, r.name}
	}
	seen := f.seenBy(Allow)
	if r := first(s.allow, &seen); r != nil {
		r.decided.Add(1)
		return Decision{true, r.name}
	}
	at := s.unmatched(f)
	s.unruled[at].Add(1)
	return unruled[at]
}

// unmatched returns which of unruled decides on a call that no rule matches. A public method
// needs no allow rule: its callers have nothing that a rule could name.
func (s *Set) unmatched(f *Facts) int {
	switch {
	case f.Public:
		return 0
	case nobody(f.Identity):
		return 1
	case len(s.allow) > 0:
		return 2
	default:
		return 3
	}
}

// A Count is how many calls a rule has decided on.
type Count struct {
	Decision
	Calls uint64
}

// Counts returns those of all rules in their order, and then of what decides without a rule, if
// it has decided on a call.
func (s *Set) Counts() []Count {
	all := make([]Count, 0, len(s.rules)+len(unruled))
	for _, r := range s.rules {
		all = append(all, Count{Decision{r.effect == Allow, r.name}, r.decided.Load()})
	}
	for at, d := range unruled {
		if calls := s.unruled[at].Load(); calls > 0 {
			all = append(all, Count{d, calls})
		}
	}
	return all
}

// first returns the first rule that matches, or nil.
func first(rules []*rule, f *Facts) *rule {
	for _, r := range rules {
		if _, ok := r.match(f); ok {
			return r
		}
	}
	return nil
}

// match returns the identity by which the rule matches, of those that it sees. If none matches, it
// returns the one that counts.
func (r *rule) match(f *Facts) (id *identity.Identity, ok bool) {
	if r.matches(f, f.Identity) {
		return f.Identity, true
	}
	for i := range f.Said {
		if s := &f.Said[i]; s.finding() == Valid && s.Identity != f.Identity && r.matches(f, s.Identity) {
			return s.Identity, true
		}
	}
	return f.Identity, false
}

// matches reports whether the call meets all conditions, if the identity is its caller's.
func (r *rule) matches(f *Facts, id *identity.Identity) bool {
	for i := range r.conditions {
		if _, ok := r.conditions[i].find(f, id); !ok {
			return false
		}
	}
	return true
}

// Refusal returns the refusal of a call, or nil if it is allowed. The client isn't told which
// rule it was: that would tell which identities are worth stealing.
func (d Decision) Refusal() *identity.Refusal {
	switch {
	case d.Allowed:
		return nil
	case d.Rule == NoIdentity:
		return &identity.Refusal{Reason: identity.BadCredential, Text: noCredential, Cause: errors.New("no allow rule has the kind none")}
	case d.Rule == NoRuleAllows:
		return &identity.Refusal{Reason: identity.NotPermitted, Text: notPermitted, Cause: errors.New("no rule allows it")}
	default:
		return &identity.Refusal{Reason: identity.NotPermitted, Text: notPermitted, Cause: fmt.Errorf("the rule %q denies it", d.Rule)}
	}
}

// Texts for clients.
const (
	noCredential = "the call has no credential: send one"
	notPermitted = "this call isn't permitted: ask the operator of this server"
)
