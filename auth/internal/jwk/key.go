package jwk

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync/atomic"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/culvert-grpc/culvert/auth/internal/object"
)

// The sizes of RSA keys. Below, RFC 7518 §3.3 forbids the key; above, one verification takes
// milliseconds.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// maxIDBytes bounds a kid: those in use are hashes and UUIDs.
const maxIDBytes = 256

// The signature algorithms that a key can have (RFC 7518 §3.1, RFC 8037 §3.1), by its type.
var (
	rsaAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	edAlgorithms  = []string{"EdDSA"}
	ecAlgorithms  = map[elliptic.Curve][]string{
		elliptic.P256(): {"ES256"},
		elliptic.P384(): {"ES384"},
		elliptic.P521(): {"ES512"},
	}
)

// Algorithms returns all signature algorithms that keys can have. None is symmetric: a set of
// public keys can't hold a secret, and an HMAC with a public key proves nothing (RFC 8725 §2.1).
func Algorithms() []string {
	return slices.Concat(rsaAlgorithms, ecAlgorithms[elliptic.P256()], ecAlgorithms[elliptic.P384()], ecAlgorithms[elliptic.P521()], edAlgorithms)
}

// A Key is a public key for signatures. Only Removed changes. Its methods may be called
// concurrently.
type Key struct {
	id         string // the kid, "" if the key has none
	public     crypto.PublicKey
	algorithms []string
	print      [sha256.Size]byte // of everything above
	removed    atomic.Bool
}

// Public returns an *rsa.PublicKey, an *ecdsa.PublicKey or an ed25519.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Fits reports whether the key may have made a signature with this algorithm: its type and its
// curve fit (RFC 8725 §3.1), and so does its own alg, if it has one (RFC 7517 §4.4).
func (k *Key) Fits(algorithm string) bool { return slices.Contains(k.algorithms, algorithm) }

// Removed reports whether the issuer has withdrawn the key. It never becomes false again.
func (k *Key) Removed() bool { return k.removed.Load() }

// The members of private keys (RFC 7518 §6.2.2, §6.3.2) and symmetric ones (§6.4.1).
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}

// parseKey reads a member of a set. An error says why the key is of no use here, which is often
// no fault: sets also have keys for encryption. RFC 7517 §5 asks to ignore such keys.
func parseKey(o object.Object) (*Key, error) {
	for _, name := range privateMembers {
		if _, has := o[name]; has {
			return nil, fmt.Errorf("it has the member %q of a private or symmetric key, so every reader of the set can forge tokens", name)
		}
	}
	if err := forSignatures(o); err != nil {
		return nil, err
	}
	k := &Key{}
	var err error
	if k.id, _, err = o.Text("kid"); err != nil {
		return nil, err
	}
	if len(k.id) > maxIDBytes {
		return nil, fmt.Errorf("its kid is over %d bytes", maxIDBytes)
	}
	switch kty, _, err := o.Text("kty"); {
	case err != nil:
		return nil, err
	case kty == "RSA":
		k.public, err = rsaKey(o)
		k.algorithms = rsaAlgorithms
		if err != nil {
			return nil, err
		}
	case kty == "EC" || kty == "OKP":
		if k.public, k.algorithms, err = curveKey(o, kty); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("its kty is %s, not RSA, EC or OKP", object.Quote(kty))
	}
	if err := k.pin(o); err != nil {
		return nil, err
	}
	k.print, err = fingerprint(k)
	return k, err
}

// forSignatures checks the uses that the issuer allows (RFC 7517 §4.2 and §4.3).
func forSignatures(o object.Object) error {
	if use, has, err := o.Text("use"); err != nil {
		return err
	} else if has && use != "sig" {
		return fmt.Errorf("its use is %s, not sig", object.Quote(use))
	}
	value, has := o["key_ops"]
	if !has {
		return nil
	}
	ops, is := value.([]any)
	if !is || len(ops) > 16 { // eight are registered
		return errors.New("its key_ops isn't a list of operations")
	}
	verifies := false
	for i, op := range ops {
		if _, is := op.(string); !is || slices.Contains(ops[:i], op) {
			return errors.New("its key_ops isn't a list of different strings")
		}
		verifies = verifies || op == "verify"
	}
	if !verifies {
		return errors.New(`its key_ops lacks "verify"`)
	}
	return nil
}

// pin limits the algorithms to the key's own alg.
func (k *Key) pin(o object.Object) error {
	alg, has, err := o.Text("alg")
	switch {
	case err != nil || !has:
		return err
	case alg == "Ed25519": // the name that RFC 9864 §2.2 gives EdDSA with this curve
		alg = "EdDSA"
	}
	if !k.Fits(alg) {
		return fmt.Errorf("its alg is %s, which isn't a signature algorithm of such a key", object.Quote(alg))
	}
	k.algorithms = []string{alg}
	return nil
}

// rsaKey reads the key itself, since go-jose refuses over 4096 bits by a variable of the whole
// process. RFC 7518 §6.3.1.
func rsaKey(o object.Object) (*rsa.PublicKey, error) {
	n, err := number(o, "n", maxRSABits)
	if err != nil {
		return nil, err
	}
	e, err := number(o, "e", 31) // crypto/rsa takes no larger ones
	if err != nil {
		return nil, err
	}
	switch bits := n.BitLen(); {
	case bits < minRSABits:
		return nil, fmt.Errorf("it is an RSA key of %d bits: %d are the least", bits, minRSABits)
	case n.Bit(0) == 0:
		return nil, errors.New("its modulus is even")
	case e.Bit(0) == 0 || e.Int64() < 3: // with 1, each text is its own signature
		return nil, fmt.Errorf("its exponent is %d, not an odd number over 1", e.Int64())
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// number reads a Base64urlUInt (RFC 7518 §2). A leading zero octet is forbidden there, but
// some issuers write one in front of a modulus, and it changes nothing.
func number(o object.Object, name string, mostBits int) (*big.Int, error) {
	text, _, err := o.Text(name)
	if err != nil {
		return nil, err
	}
	if len(text) > base64.RawURLEncoding.EncodedLen(mostBits/8+2) {
		return nil, fmt.Errorf("its %s is over %d bits", name, mostBits)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || text == "" {
		return nil, fmt.Errorf("its %s is missing or isn't base64url", name)
	}
	n := new(big.Int).SetBytes(b)
	if n.BitLen() > mostBits {
		return nil, fmt.Errorf("its %s is over %d bits", name, mostBits)
	}
	return n, nil
}

// curveKey reads an elliptic curve's key. go-jose gets its public parts alone, without
// certificates (x5c), which would be parsed for nothing.
func curveKey(o object.Object, kty string) (crypto.PublicKey, []string, error) {
	parts := map[string]string{}
	for _, name := range []string{"kty", "crv", "x", "y"} {
		part, has, err := o.Text(name)
		if err != nil {
			return nil, nil, err
		}
		if has {
			parts[name] = part
		}
	}
	data, err := json.Marshal(parts)
	if err != nil {
		return nil, nil, err
	}
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON(data); err != nil || !k.Valid() {
		return nil, nil, fmt.Errorf("it isn't a key of kty %s on P-256, P-384, P-521 or Ed25519: its crv is %s", kty, object.Quote(parts["crv"]))
	}
	switch public := k.Key.(type) {
	case *ecdsa.PublicKey:
		return public, ecAlgorithms[public.Curve], nil
	case ed25519.PublicKey:
		return public, edAlgorithms, nil
	}
	return nil, nil, errors.New("it isn't a public key")
}

// fingerprint identifies a key by its thumbprint (RFC 7638) and what the issuer says of it.
func fingerprint(k *Key) ([sha256.Size]byte, error) {
	public := jose.JSONWebKey{Key: k.public}
	thumb, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return [sha256.Size]byte{}, errors.New("it has no thumbprint")
	}
	said, err := json.Marshal([]any{k.id, k.algorithms})
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(append(thumb, said...)), nil
}
