package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// A Need says which credentials calls need. If AllOf and AnyOf are both empty, any of the Ways
// will do. If both are set, a call needs all of the one and any of the other. Without Ways,
// calls need none.
//
// The first of AllOf names the subject, and its identity has what all of them prove. Of AnyOf
// one counts: the first whose credential is the call's own, or else the first whose credential
// came with the connection. So a user's token isn't lost behind the certificate of the proxy
// that sends it, in whatever order they are listed.
type Need struct {
	Ways          []string // the names of all ways to authenticate
	AllOf, AnyOf  []string // names of Ways
	PublicMethods []string // patterns of methods that need none; see Rule.Methods
}

const maxWays = 16

// A Requirement is a compiled Need.
type Requirement struct {
	ways   []string // AllOf, then AnyOf
	all    int      // how many of them are AllOf
	public MethodPatterns

	nothing *identity.Refusal   // no way found a credential
	lacking []*identity.Refusal // the credential of a way is missing beside others; the last is for AnyOf
}

// NewRequirement checks a Need, and doesn't keep its lists. The error is a *Mistake.
func NewRequirement(n Need) (*Requirement, error) {
	if len(n.AllOf)+len(n.AnyOf) == 0 {
		n.AnyOf = n.Ways
	}
	if mistake := checkWays(&n); mistake != nil {
		return nil, mistake
	}
	public, err := ParseMethods("public_methods", n.PublicMethods)
	if err != nil {
		return nil, err
	}
	r := &Requirement{ways: slices.Concat(n.AllOf, n.AnyOf), all: len(n.AllOf), public: public}
	r.nothing = &identity.Refusal{Text: noCredential, Cause: fmt.Errorf("none of %s found a credential", quoted(r.ways))}
	for _, way := range n.AllOf {
		r.lacking = append(r.lacking, &identity.Refusal{Text: oneMissing, Cause: fmt.Errorf("%q found no credential, and all_of needs it", way)})
	}
	r.lacking = append(r.lacking, &identity.Refusal{Text: oneMissing, Cause: fmt.Errorf("none of %s found a credential, and any_of needs one", quoted(n.AnyOf))})
	return r, nil
}

const oneMissing = "the call has not all the credentials that this server needs together: send the other one, too"

// checkWays checks the names of ways.
func checkWays(n *Need) *Mistake {
	wrong := func(key, format string, args ...any) *Mistake {
		return &Mistake{Rule: -1, Key: key, Text: fmt.Sprintf(format, args...)}
	}
	if len(n.Ways) > maxWays {
		return wrong("ways", "has %d names, and %d are allowed", len(n.Ways), maxWays)
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{"all_of", n.AllOf}, {"any_of", n.AnyOf}} {
		for i, name := range list.names {
			key := fmt.Sprintf("%s[%d]", list.key, i)
			switch {
			case !slices.Contains(n.Ways, name) && len(n.Ways) == 0:
				return wrong(key, "is %q, and no way to authenticate is configured: configure one of this name", name)
			case !slices.Contains(n.Ways, name):
				return wrong(key, "is %q, and no way to authenticate has the name: write one of %s", name, quoted(n.Ways))
			case slices.Contains(list.names[:i], name):
				return wrong(key, "is %q a second time: remove it", name)
			case list.key == "any_of" && slices.Contains(n.AllOf, name):
				return wrong(key, "is %q, which all_of has, so any_of would add nothing: remove one of them", name)
			}
		}
	}
	return nil
}

func quoted(names []string) string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(list, ", ")
}

// Ways returns the names of the ways that are asked, in the order in which Judge wants what
// they said. The caller doesn't change the list.
func (r *Requirement) Ways() []string { return r.ways }

// Public reports whether a method needs no credential.
func (r *Requirement) Public(method string) bool {
	return len(r.ways) == 0 || r.public.find(method) >= 0
}

// A Finding is what a way found of a credential of its own.
type Finding uint8

// The findings. A credential that no way recognises isn't Absent: the caller makes the way
// Invalid whose place it is in, or the connection's identity would stand in for it.
const (
	Absent      Finding = iota // the call has none
	Valid                      // Said.Identity has it
	Invalid                    // Said.Refusal says why
	Unavailable                // nobody could judge it
)

// Said is what one way said of a call.
type Said struct {
	Finding  Finding
	OfCall   bool               // the call itself has the credential; false: it came with the connection
	Identity *identity.Identity // if Valid
	Refusal  *identity.Refusal  // if Invalid or Unavailable; nil: a text that says little
}

// finding is Invalid for an identity that isn't there, which is a mistake of the way.
func (s *Said) finding() Finding {
	if s.Finding > Unavailable || s.Finding == Valid && identity.KindOf(s.Identity) == identity.None {
		return Invalid
	}
	return s.Finding
}

var (
	notValid = &identity.Refusal{Reason: identity.BadCredential, Text: "the credential isn't valid: send another one"}
	unjudged = &identity.Refusal{Reason: identity.Unjudged, Text: "the credential can't be checked at present: try again later"}
)

// A Verdict says whether a call has the credentials that it needs. The rules are still to be
// asked.
type Verdict struct {
	Refusal  *identity.Refusal  // nil: it has them
	Identity *identity.Identity // nil: the caller proved nothing, or not enough
	Public   bool               // it needs none
	Way      string             // whose finding decided: it names the subject, or refuses. "": none
}

// Judge makes a verdict of what the ways said, in the order of Ways.
//
// A credential that is Invalid refuses the call, though another one is valid, and though the
// method is public. A client that sends a token means to call as its owner. If the call went on
// as somebody else (by the certificate of the connection, which may be a proxy's), or as
// nobody, the client wouldn't notice that its token has expired, and a backend that gets the
// token would take it for checked.
//
// For the same reason Unavailable refuses the call though another credential is valid: the one
// that nobody could judge may be Invalid. Invalid beats Unavailable, since waiting doesn't
// help, and Unavailable beats Absent, since it is unknown what else is missing.
func (r *Requirement) Judge(method string, said []Said) Verdict {
	if len(said) != len(r.ways) {
		panic("BUG: a way to authenticate said nothing")
	}
	unavailable, valid, lacks := -1, 0, -1
	for i := range said {
		switch said[i].finding() {
		case Invalid:
			return Verdict{Refusal: cmp.Or(said[i].Refusal, notValid), Way: r.ways[i]}
		case Unavailable:
			if unavailable < 0 {
				unavailable = i
			}
		case Valid:
			valid++
		case Absent:
			if lacks < 0 && i < r.all {
				lacks = i
			}
		}
	}
	chosen := choose(said, r.all)
	if chosen < 0 && lacks < 0 && r.all < len(r.ways) {
		lacks = r.all
	}
	public := r.Public(method)
	switch {
	case unavailable >= 0:
		return Verdict{Refusal: cmp.Or(said[unavailable].Refusal, unjudged), Way: r.ways[unavailable]}
	case len(r.ways) == 0, lacks >= 0 && public:
		return Verdict{Public: true}
	case lacks >= 0 && valid == 0:
		return Verdict{Refusal: r.nothing}
	case lacks >= 0:
		return Verdict{Refusal: r.lacking[lacks]}
	}
	id, way := merge(said, r.all, chosen)
	return Verdict{Identity: id, Public: public, Way: r.ways[way]}
}
