package jwt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/jwk"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// Defaults and bounds of options.
const (
	defaultSkew    = time.Minute
	defaultEntries = 8192
	defaultBytes   = 8 << 20
	maxPaths       = 64 // of an issuer, for each purpose
)

// Keys finds the keys that may have signed a token; a *jwk.Source does. An error that is
// jwk.ErrUnavailable says that nobody can tell now, any other one that there is no such key.
type Keys interface {
	Find(ctx context.Context, id, algorithm string) ([]*jwk.Key, error)
}

// Options are those of a Judge.
type Options struct {
	Issuers []Issuer
	// Claims are requirements that a good token needn't meet: its Identity.Claims says which
	// ones it does, by their indexes. claim.MaxAnswers at most.
	Claims []claim.Requirement
	// Entries and Bytes bound the cache of good tokens: 8192 and 8 MiB if 0.
	Entries, Bytes int
	// Verifications is how many signatures are verified at the same time: twice the number of
	// processors if 0. Others wait as long as their contexts.
	Verifications int
}

// An Issuer is one whose tokens count.
type Issuer struct {
	Name string // the claim iss must be the same, byte by byte
	Keys Keys

	// Algorithms are those that tokens may be signed with (RFC 8725 §3.1); all of
	// jwk.Algorithms if nil. Symmetric ones are an error.
	Algorithms []string
	// Types are the values of typ that count (RFC 8725 §3.11), "" for a token without;
	// defaultTypes if nil. "at+jwt" (RFC 9068 §2.1) alone keeps ID tokens out.
	Types []string
	// Audiences are the names that this service has: aud must have one of them (RFC 8725 §3.9).
	Audiences []string
	// Skew is how far clocks may differ: a minute if 0, nothing if negative, at most 10 min.
	Skew time.Duration
	// Endless accepts tokens without exp.
	Endless bool

	Required []claim.Requirement
	Scopes   []string // all of them are needed
	Metadata []Mapping
}

// A Mapping makes metadata of a claim.
type Mapping struct {
	Claim claim.Path
	Name  string // in lower case; the caller decides which ones it allows
}

// defaultTypes leave out, for example, DPoP proofs and security events, which are JWTs, too.
var defaultTypes = []string{"JWT", "at+jwt", ""}

// complete checks the options and puts defaults in.
func (i *Issuer) complete() error {
	if i.Algorithms == nil {
		i.Algorithms = jwk.Algorithms()
	}
	if i.Types == nil {
		i.Types = defaultTypes
	}
	i.Skew = max(cmp.Or(i.Skew, defaultSkew), 0)
	switch {
	case i.Name == "" || strings.ContainsFunc(i.Name, control):
		return errors.New("its name, the iss of its tokens, is empty or has control characters")
	case i.Keys == nil:
		return errors.New("it has no source of keys")
	case len(i.Algorithms) == 0:
		return errors.New("no algorithm is accepted")
	case i.Skew > rules.MaxSkew:
		return fmt.Errorf("the skew of clocks is over %v", rules.MaxSkew)
	case len(i.Audiences) == 0:
		return errors.New("name the audiences of this service: without one, a token for another service counts here")
	case len(i.Metadata) > maxPaths || len(i.Required) > maxPaths:
		return fmt.Errorf("over %d claims are named", maxPaths)
	}
	for _, algorithm := range i.Algorithms {
		if !slices.Contains(jwk.Algorithms(), algorithm) {
			return fmt.Errorf("the algorithm %q isn't one of %s: symmetric ones and none prove nothing here", algorithm, strings.Join(jwk.Algorithms(), " "))
		}
	}
	types := make([]string, 0, len(i.Types))
	for _, typ := range i.Types {
		types = append(types, mediaType(typ))
	}
	i.Types = types
	return i.checkPaths()
}

func (i *Issuer) checkPaths() error {
	if err := checkClaims(i.Required); err != nil {
		return err
	}
	var names []string
	for _, m := range i.Metadata {
		switch err := m.Claim.Check(); {
		case err != nil:
			return err
		case !codec.ValidName(m.Name) || strings.HasSuffix(m.Name, "-bin") || strings.HasPrefix(m.Name, "grpc-"):
			return fmt.Errorf("the metadata %q isn't a name for text: it needs lower-case letters, digits, - _ and . alone, and neither grpc- in front nor -bin at its end", m.Name)
		case slices.Contains(names, m.Name):
			return fmt.Errorf("two claims become the metadata %q", m.Name)
		}
		names = append(names, m.Name)
	}
	return nil
}

func checkClaims(list []claim.Requirement) error {
	for i := range list {
		if err := list[i].Claim.Check(); err != nil {
			return err
		}
	}
	return nil
}
