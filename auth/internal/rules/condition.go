package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// A conditionKey says what a condition is about.
type conditionKey uint8

const (
	byKind conditionKey = iota
	byRoute
	byIssuer
	byMethod
	byOrigin
	byScope
	byClaim
	byIdentity
)

// String returns the key as a rule has it.
func (k conditionKey) String() string {
	return [...]string{"kinds", "routes", "issuers", "methods", "origins", "scopes", "claims", "identities"}[k]
}

// A condition is one of a rule's. Its entries are as the rule has them, but in one spelling.
type condition struct {
	key     conditionKey
	entries []string

	identities []identityPattern // of the entries, if it is by identity
	methods    MethodPatterns    // if it is by method
	kinds      kindSet           // if it is by kind. Without entries it is implied
	claims     []int             // of the entries, in Set.Claims, if it is by claim
}

// conditionsOf compiles the conditions of a rule of a set.
func conditionsOf(r *Rule, set *Set) ([]condition, *Mistake) {
	kinds := make([]string, len(r.Kinds))
	for i, k := range r.Kinds {
		kinds[i] = string(k)
	}
	list := []condition{
		{key: byKind, entries: kinds},
		{key: byRoute, entries: slices.Clone(r.Routes)},
		{key: byIssuer, entries: slices.Clone(r.Issuers)},
		{key: byMethod, entries: slices.Clone(r.Methods)},
		{key: byOrigin, entries: slices.Clone(r.Origins)},
		{key: byScope, entries: slices.Clone(r.Scopes)},
		{key: byIdentity, entries: slices.Clone(r.Identities)},
	}
	for i := range list {
		if mistake := list[i].compile(); mistake != nil {
			return nil, mistake
		}
	}
	byClaims, mistake := set.claimsOf(r)
	if mistake != nil {
		return nil, mistake
	}
	list = slices.Insert(list, int(byClaim), byClaims)
	// Without this, a rule such as "allow methods of the catalogue" would allow callers
	// that proved nothing: people write it with the identities in mind that can come.
	if r.Effect == Allow && len(kinds) == 0 {
		list[byKind].kinds = everyIdentity
	}
	return slices.DeleteFunc(list, func(c condition) bool { return len(c.entries) == 0 && c.kinds == 0 }), nil
}

// compile checks the entries.
func (c *condition) compile() *Mistake {
	if len(c.entries) > maxEntries {
		return &Mistake{Key: c.key.String(), Text: fmt.Sprintf("has %d entries, and %d are allowed: write patterns, or several rules", len(c.entries), maxEntries)}
	}
	for i, entry := range c.entries {
		if err := c.add(i, entry); err != nil {
			return &Mistake{Key: fmt.Sprintf("%v[%d]", c.key, i), Text: err.Error()}
		}
	}
	return nil
}

func (c *condition) add(i int, entry string) error {
	if err := checkEntry(entry); err != nil {
		return err
	}
	var err error
	switch c.key {
	case byKind:
		kind := kindSetOf(identity.Kind(entry))
		if kind == 0 {
			return fmt.Errorf("is %q: write one of %s", entry, kindNames())
		}
		c.kinds |= kind
	case byMethod:
		var p methodPattern
		p, err = parseMethod(entry)
		c.methods = append(c.methods, p)
	case byOrigin:
		c.entries[i], err = parseOrigin(entry)
	case byScope:
		if strings.Contains(entry, " ") {
			return fmt.Errorf("is %q: write each scope as an entry of its own", entry)
		}
	case byIdentity:
		var p identityPattern
		p, err = parseIdentity(entry)
		c.identities = append(c.identities, p)
	case byIssuer, byRoute, byClaim: // any text
	}
	return err
}

// checkEntry returns what is wrong with an entry, whichever list it is in, or nil.
func checkEntry(entry string) error {
	switch {
	case entry == "":
		return fmt.Errorf("is empty: write a value, or remove the entry")
	case len(entry) > maxEntryBytes:
		return fmt.Errorf("has %d bytes, and %d are allowed", len(entry), maxEntryBytes)
	case strings.ContainsFunc(entry, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("is %q: remove the control character, which no value can have", entry)
	case strings.Trim(entry, " ") != entry:
		return fmt.Errorf("is %q: remove the blanks around it", entry)
	}
	return nil
}

// find looks for the entry that the facts match, if the caller is id. Of scopes and claims, which
// are all needed, it finds the first that is missing. ok reports whether the condition is met; at
// is -1 without an entry.
func (c *condition) find(f *Facts, id *identity.Identity) (at int, ok bool) {
	switch c.key {
	case byKind:
		kind := identity.KindOf(id)
		return slices.Index(c.entries, string(kind)), c.kinds&kindSetOf(kind) != 0
	case byScope:
		for i, s := range c.entries {
			if !f.prove(func(id *identity.Identity) bool { return slices.Contains(id.Scopes, s) }) {
				return i, false
			}
		}
		return -1, true
	case byClaim:
		for i, claim := range c.claims {
			if !f.prove(func(id *identity.Identity) bool { return id.Claims.Met(claim) }) {
				return i, false
			}
		}
		return -1, true
	case byRoute:
		at = slices.Index(c.entries, f.Route)
	case byIssuer:
		at = slices.Index(c.entries, issuerOf(id))
	case byMethod:
		at = c.methods.find(f.Method)
	case byOrigin:
		at = findOrigin(c.entries, f.Origin)
	case byIdentity:
		at = -1
		for i := range c.identities {
			if c.identities[i].matches(id) {
				at = i
				break
			}
		}
	}
	return at, at >= 0
}

// A kindSet is a set of kinds. The kind of an identity that is no kind is in no set.
type kindSet uint8

// everyIdentity has all kinds but none.
const everyIdentity kindSet = 1<<5 - 2

func kindSetOf(k identity.Kind) kindSet {
	switch k {
	case identity.None:
		return 1
	case identity.JWT:
		return 1 << 1
	case identity.APIKey:
		return 1 << 2
	case identity.MTLS:
		return 1 << 3
	case identity.External:
		return 1 << 4
	default:
		return 0
	}
}

func kindNames() string {
	var names []string
	for _, k := range identity.Kinds {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}
