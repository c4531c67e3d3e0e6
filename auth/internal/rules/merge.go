package rules

import (
	"maps"
	"slices"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// choose returns which of several credentials counts, of which any would do: those from a place
// of the list on. -1: none is valid. See Need.
func choose(said []Said, from int) int {
	chosen := -1
	for i, s := range said {
		switch {
		case i < from || s.finding() != Valid:
		case s.OfCall:
			return i
		case chosen < 0:
			chosen = i
		}
	}
	return chosen
}

// merge returns the identity of what the first ways said, all of them valid, and of the chosen
// one (-1: none). It also returns which of them names the subject: the first.
func merge(said []Said, all, chosen int) (id *identity.Identity, way int) {
	if all == 0 {
		return said[chosen].Identity, chosen
	}
	id = said[0].Identity
	if all == 1 && chosen < 0 {
		return id, 0
	}
	merged := identity.Identity{Subject: id.Subject, Issuer: id.Issuer, Kind: id.Kind, Scopes: slices.Clone(id.Scopes), Claims: id.Claims, Expires: id.Expires, Metadata: maps.Clone(id.Metadata)}
	for _, s := range said[1:all] {
		join(&merged, s.Identity)
	}
	if chosen >= 0 {
		join(&merged, said[chosen].Identity)
	}
	return &merged, 0
}

// join adds what another credential proves. The identity ends with the first of them.
// Metadata of a name that is there stays as it is, so that no later way changes what an earlier
// one vouches for.
func join(id, other *identity.Identity) {
	for _, s := range other.Scopes {
		if !slices.Contains(id.Scopes, s) {
			id.Scopes = append(id.Scopes, s)
		}
	}
	id.Claims = id.Claims.Or(other.Claims)
	if id.Expires.IsZero() || !other.Expires.IsZero() && other.Expires.Before(id.Expires) {
		id.Expires = other.Expires
	}
	for name, values := range other.Metadata {
		if _, there := id.Metadata[name]; there {
			continue
		}
		if id.Metadata == nil {
			id.Metadata = make(map[string][]string)
		}
		id.Metadata[name] = values
	}
}
