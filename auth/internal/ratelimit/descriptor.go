package ratelimit

import (
	"fmt"
	"strings"

	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// A Source is where the value of an entry comes from.
type Source int

// The sources. Names of metadata need care: a client that may leave metadata out, or choose
// its value, evades a limit by it. Limit by metadata that culvert or an authorization service
// sets.
const (
	Literal      Source = iota // Entry.Text itself
	FromIdentity               // kind, issuer and subject in one value; absent without an identity
	FromSubject                // alone: subjects of several issuers may be the same
	FromIssuer                 // absent for identities that have none
	FromKind                   // of the identity, such as "jwt" or "mtls"; absent without one
	FromMethod                 // "/shop.v1.Orders/Get"
	FromService                // "shop.v1.Orders"
	FromRoute                  // the route's name
	FromPeer                   // the client's IPv4 address, or the first 64 bits of its IPv6 address, such as "2001:db8:1:2::/64"
	FromMetadata               // named by Entry.Text; several values are joined by commas
)

// An Entry is one pair of a descriptor.
type Entry struct {
	Key    string // in the service's configuration
	Source Source // of the value
	Text   string // the value of a Literal, the lower-case name for FromMetadata, else empty
}

// A Descriptor names a count at the service by all of its entries together.
type Descriptor []Entry

// check returns what is wrong with a descriptor.
func (d Descriptor) check() error {
	if len(d) == 0 || len(d) > MaxEntries {
		return fmt.Errorf("%d entries: give 1 to %d", len(d), MaxEntries)
	}
	for _, e := range d {
		if err := e.check(); err != nil {
			return err
		}
	}
	return nil
}

func (e Entry) check() error {
	if err := validText("key", e.Key); err != nil {
		return err
	}
	switch {
	case e.Source == Literal:
		return validText("value of "+e.Key, e.Text)
	case e.Source == FromMetadata:
		return checkName(e.Key, e.Text)
	case e.Source < Literal || e.Source > FromMetadata:
		return fmt.Errorf("%s: the source %d is unknown", e.Key, e.Source)
	case e.Text != "":
		return fmt.Errorf("%s: %.64q is set, which only a literal value and metadata have", e.Key, e.Text)
	}
	return nil
}

// checkName checks the name of metadata that an entry has its value from. A credential would be
// in the service's logs, and in its database.
func checkName(key, name string) error {
	if !codec.ValidName(name) {
		return fmt.Errorf("%s: %.64q can't name metadata: use -, _, ., digits and lower-case letters", key, name)
	}
	if strings.HasSuffix(name, "-bin") {
		return fmt.Errorf("%s: metadata %.64q has bytes, and a value is text: use a name without -bin", key, name)
	}
	if rules.HoldsSecret(name) {
		return fmt.Errorf("%s: metadata %.64q may be a credential, which the rate limit service mustn't get: limit by identity instead", key, name)
	}
	return nil
}

// validText checks a text of the configuration that goes to the service.
func validText(what, text string) error {
	if text == "" || len(text) > MaxValueBytes || !codec.ValidValue(text) || strings.TrimSpace(text) != text {
		return fmt.Errorf("%s: %.64q isn't 1 to %d bytes of printable ASCII without blanks around them", what, text, MaxValueBytes)
	}
	return nil
}
