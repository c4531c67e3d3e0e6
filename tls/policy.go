package proxytls

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"
)

// A policy has the rules for the client certificates of clients that ask for
// certain names.
type policy struct {
	key        policyKey
	issuers    []*x509.Certificate
	pool       *x509.CertPool // nil if no certificate is requested
	crls       revocations    // the lists that its issuers signed
	config     *tls.Config
	ticketKeys [][32]byte // the first seals, all open
	rotated    time.Time  // when ticketKeys[0] was made
}

// A policyKey identifies policies: the same file and setting is one policy, for any
// number of certificates.
type policyKey struct {
	auth ClientAuth
	ca   string
}

// policy returns the set's policy for a CA and a setting. It makes a new one if
// there is none.
func (s *set) policy(auth ClientAuth, ca, configKey string, c contents) (*policy, error) {
	switch {
	case auth == "" && ca == "":
		auth = None
	case auth == "":
		auth = Require
	}
	if auth == None {
		ca = ""
	}
	key := policyKey{auth, ca}
	if p, ok := s.policies[key]; ok {
		return p, nil
	}
	p := &policy{key: key}
	if auth != None {
		if ca == "" {
			return p, keyErrorf(configKey+".client_auth", "%s asks clients for a certificate, but no CA is set to verify it: set client_ca (--tls-client-ca)", auth)
		}
		var err error
		if p.issuers, err = loadAuthorities(configKey+".client_ca", ca, c); err != nil {
			return p, err
		}
		p.pool = poolOf(p.issuers)
	}
	s.policies[key] = p
	return p, nil
}

func (p *policy) auth() tls.ClientAuthType {
	switch p.key.auth {
	case Require:
		return tls.RequireAndVerifyClientCert
	case Optional:
		return tls.VerifyClientCertIfGiven
	default:
		return tls.NoClientCert
	}
}

var errRevoked = errors.New("the client's certificate is revoked (tls.crls)")

// verify judges every connection, including one that resumes a session, which gets
// no other check.
func (p *policy) verify(cs tls.ConnectionState) error {
	switch {
	case p.key.auth == Require && len(cs.VerifiedChains) == 0:
		return errors.New("the client showed no certificate (tls.client_auth)")
	case len(cs.VerifiedChains) > 0 && !slices.ContainsFunc(cs.VerifiedChains, func(chain []*x509.Certificate) bool { return !p.crls.revoke(chain) }):
		return errRevoked
	}
	return nil
}

// ticketKeyLife is how long a key seals sessions. Afterwards it opens them for as
// long again.
const ticketKeyLife = 24 * time.Hour

// rotateTicketKeys gives a policy that asks for certificates its own keys for
// session resumption: a session under another policy, or under another list of
// authorities, can't be resumed under this one. Sessions without certificates share
// the keys that crypto/tls makes. A policy of a set has keys of its own; only the
// watcher calls this.
func (p *policy) rotateTicketKeys(now time.Time) {
	if p.key.auth == None || now.Sub(p.rotated) < ticketKeyLife && len(p.ticketKeys) > 0 {
		return
	}
	var key [32]byte
	_, _ = rand.Read(key[:]) // it never fails
	p.ticketKeys = append([][32]byte{key}, p.ticketKeys[:min(len(p.ticketKeys), 1)]...)
	p.rotated = now
	p.config.SetSessionTicketKeys(p.ticketKeys)
}
