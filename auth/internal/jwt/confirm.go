package jwt

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/culvert-grpc/culvert/auth/internal/object"
)

// A Thumbprint is the SHA-256 of a certificate's DER, or zero for no certificate.
type Thumbprint [sha256.Size]byte

// ThumbprintOf returns the thumbprint of the certificate with which a client proved itself.
func ThumbprintOf(certificate *x509.Certificate) Thumbprint { return sha256.Sum256(certificate.Raw) }

// confirmation reads cnf (RFC 7800 §3.1): the presenter of such a token must prove that it has
// a key, so the token isn't a bearer token. It returns zero without cnf.
func confirmation(claims object.Object) (Thumbprint, *Error) {
	value, has := claims["cnf"]
	if !has {
		return Thumbprint{}, nil
	}
	const text = "the token is bound to a proof that isn't checked here (cnf): one bound to a client certificate (x5t#S256), or a bearer token is needed"
	cnf, is := value.(object.Object)
	if !is {
		return Thumbprint{}, invalid(text, errors.New("cnf isn't an object"))
	}
	for name := range cnf {
		if name != "x5t#S256" { // such as jkt, which needs DPoP (RFC 9449 §6.1)
			return Thumbprint{}, invalid(text, fmt.Errorf("it has the member %s", object.Quote(name)))
		}
	}
	encoded, _, err := cnf.Text("x5t#S256") // RFC 8705 §3.1
	if err != nil {
		return Thumbprint{}, invalid(text, err)
	}
	print, err := part(encoded)
	if err != nil || len(print) != sha256.Size || Thumbprint(print) == (Thumbprint{}) {
		return Thumbprint{}, invalid(text, errors.New("x5t#S256 isn't a SHA-256"))
	}
	return Thumbprint(print), nil
}

// PresentedWith checks the certificate, zero for none, of a token's presenter. An error is an
// *Error. RFC 8705 §3: a mismatch is an invalid token.
func (t *Token) PresentedWith(certificate Thumbprint) error {
	var refused *Error
	switch {
	case t.bound == Thumbprint{}:
		return nil
	case certificate == Thumbprint{}:
		refused = invalid("the token is bound to a client certificate (cnf), and the connection has none: connect with that certificate", nil)
	case subtle.ConstantTimeCompare(t.bound[:], certificate[:]) != 1:
		refused = invalid("the token is bound to another client certificate than that of the connection (cnf)", nil)
	default:
		return nil
	}
	refused.Issuer = t.Issuer
	return refused
}
