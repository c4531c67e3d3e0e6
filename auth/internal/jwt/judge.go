package jwt

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/culvert-grpc/culvert/auth/internal/cache"
	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/jwk"
	"github.com/culvert-grpc/culvert/auth/internal/object"
)

const (
	refusedFor     = 5 * time.Second // a refusal is remembered
	refusedEntries = 1024
	refusedBytes   = 1 << 20
	endlessFor     = time.Hour // a token without exp is remembered
)

// A Judge verifies tokens. Its methods may be called concurrently.
type Judge struct {
	issuers map[string]*Issuer
	claims  []claim.Requirement // see Options.Claims
	slots   chan struct{}       // one for each signature that is being verified
	good    *verdicts
	refused *verdicts // apart, so that garbage takes no room from good tokens
	flights flights
}

// NewJudge returns a Judge with these options, or what is wrong with them.
func NewJudge(o Options) (*Judge, error) {
	o.Entries, o.Bytes = cmp.Or(o.Entries, defaultEntries), cmp.Or(o.Bytes, defaultBytes)
	o.Verifications = cmp.Or(o.Verifications, 2*runtime.GOMAXPROCS(0))
	if o.Entries < 1 || o.Bytes < 1 || o.Verifications < 1 {
		return nil, errors.New("the bounds of a cache and of verifications are numbers over 0")
	}
	j := &Judge{
		issuers: map[string]*Issuer{},
		claims:  o.Claims,
		slots:   make(chan struct{}, o.Verifications),
		good:    newVerdicts(o.Entries, o.Bytes),
		refused: newVerdicts(refusedEntries, refusedBytes),
		flights: flights{all: map[cache.Key]*flight{}},
	}
	switch {
	case len(o.Issuers) == 0:
		return nil, errors.New("no issuer is configured")
	case len(o.Claims) > claim.MaxAnswers:
		return nil, fmt.Errorf("there are answers for %d claims, not for %d", claim.MaxAnswers, len(o.Claims))
	}
	if err := checkClaims(o.Claims); err != nil {
		return nil, err
	}
	for _, issuer := range o.Issuers {
		if err := issuer.complete(); err != nil {
			return nil, fmt.Errorf("issuer %s: %w", object.Quote(issuer.Name), err)
		}
		if j.issuers[issuer.Name] != nil {
			return nil, fmt.Errorf("issuer %s occurs twice", object.Quote(issuer.Name))
		}
		j.issuers[issuer.Name] = &issuer
	}
	return j, nil
}

// Verify returns what a token says if it is good, and otherwise an *Error. The certificate is
// the one with which the client proved itself on its connection, zero for none. Verify waits for
// keys and for other verifications at most as long as ctx.
func (j *Judge) Verify(ctx context.Context, token string, certificate Thumbprint) (*Token, error) {
	if len(token) > MaxTokenBytes { // isn't worth its hash
		_, err := parse(token)
		return nil, err
	}
	key := hash(token)
	v := j.known(key)
	if v == nil {
		v = j.flights.once(ctx, key, func(ctx context.Context) *verdict { return j.verify(ctx, key, token) })
	}
	if v.err != nil {
		return nil, v.err
	}
	if err := v.token.PresentedWith(certificate); err != nil {
		return nil, err
	}
	return v.token, nil
}

// Seen returns what Verify has found of a token, if that is kept: then nothing is computed but
// a hash. It doesn't look at who presents the token: Token.PresentedWith does.
func (j *Judge) Seen(token string) (t *Token, seen bool, err error) {
	if len(token) > MaxTokenBytes {
		return nil, false, nil
	}
	v := j.known(hash(token))
	switch {
	case v == nil:
		return nil, false, nil
	case v.err != nil:
		return nil, true, v.err
	default:
		return v.token, true, nil
	}
}

// Looks reports whether a text has the form of a token, so that Verify would read it.
func Looks(text string) bool { return len(text) <= MaxTokenBytes && strings.Count(text, ".") == 2 }

// IssuerOf returns the issuer that a token names, or "" if it isn't a JWT. Nothing of it is
// verified.
func IssuerOf(token string) string {
	c, refused := parse(token)
	if refused != nil {
		return ""
	}
	return c.issuer
}

// hash returns a token's key. A copy of the whole token would need more stack than a handler has,
// and growing that takes longer than all the rest.
func hash(token string) (key cache.Key) {
	h := sha256.New()
	var part [512]byte
	for len(token) > 0 {
		n := copy(part[:], token)
		h.Write(part[:n])
		token = token[n:]
	}
	h.Sum(key[:0])
	return key
}

func (j *Judge) known(key cache.Key) *verdict {
	now := time.Now()
	v, ok := j.good.Get(key, now)
	if !ok {
		v, _ = j.refused.Get(key, now)
	}
	return v
}

// verify reaches a verdict, and keeps it if it will be the same for a while.
func (j *Judge) verify(ctx context.Context, key cache.Key, token string) *verdict {
	if v := j.known(key); v != nil { // reached since the caller looked
		return v
	}
	v := j.examine(ctx, token)
	switch now := time.Now(); {
	case v.ends.IsZero():
	case v.err != nil:
		j.refused.Put(key, v, v.bytes(), v.ends, now)
	default:
		j.good.Put(key, v, v.bytes(), v.ends, now)
	}
	return v
}

// examine reads the token and reaches a verdict.
func (j *Judge) examine(ctx context.Context, token string) *verdict {
	c, refused := parse(token)
	if refused != nil {
		refused.Costly = refused.Kind != Opaque
		return &verdict{err: refused}
	}
	issuer := j.issuers[c.issuer]
	if issuer == nil {
		refused = refusal(Foreign, "the token's issuer isn't one whose tokens are accepted here (iss)", fmt.Errorf("its issuer is %s", object.Quote(c.issuer)))
		refused.Costly = true
		return &verdict{err: refused}
	}
	v := j.ofIssuer(ctx, issuer, c, token)
	if v.err != nil {
		v.err.Issuer, v.err.Costly = issuer.Name, v.err.Kind != Unavailable
	}
	return v
}

// ofIssuer finds the token's keys, verifies its signature and then checks its claims. Only
// refusals that took a signature's verification are worth keeping.
func (j *Judge) ofIssuer(ctx context.Context, issuer *Issuer, c *candidate, token string) *verdict {
	if refused := issuer.header(c); refused != nil {
		return &verdict{err: refused}
	}
	keys, err := issuer.Keys.Find(ctx, c.keyID, c.algorithm)
	switch {
	case errors.Is(err, jwk.ErrUnavailable):
		return &verdict{err: unavailable(err)}
	case err != nil:
		return &verdict{err: invalid("the token isn't signed with a key of its issuer: get a new one", err)}
	}
	key, refused := j.signer(ctx, token, c.algorithm, keys)
	switch {
	case refused != nil && refused.Kind == Unavailable:
		return &verdict{err: refused}
	case refused != nil:
		return &verdict{err: refused, ends: time.Now().Add(refusedFor)}
	}
	now := time.Now()
	t, refused := issuer.token(c, now)
	if refused != nil {
		return &verdict{err: refused, key: key, ends: now.Add(refusedFor)}
	}
	t.Claims = claim.Answer(j.claims, func(r *claim.Requirement) bool { return r.MetBy(c.claims) })
	ends := t.Expires
	if ends.IsZero() {
		ends = now.Add(endlessFor)
	}
	return &verdict{token: t, key: key, ends: ends}
}

// header checks the header by the issuer's options.
func (i *Issuer) header(c *candidate) *Error {
	if !slices.Contains(i.Algorithms, c.algorithm) { // RFC 8725 §3.1
		return invalid("the token's algorithm isn't accepted (alg)", fmt.Errorf("it is %s", object.Quote(c.algorithm)))
	}
	if !slices.Contains(i.Types, c.typ) { // RFC 8725 §3.11
		return invalid("the token's type isn't accepted (typ): get an access token", fmt.Errorf("it is %s", object.Quote(c.typ)))
	}
	return nil
}

// signer returns the key that made the token's signature.
func (j *Judge) signer(ctx context.Context, token, algorithm string, keys []*jwk.Key) (*jwk.Key, *Error) {
	select {
	case j.slots <- struct{}{}:
		defer func() { <-j.slots }()
	case <-ctx.Done():
		return nil, unavailable(context.Cause(ctx))
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(algorithm)})
	if err != nil { // its text may quote the token
		return nil, invalid("the token isn't a signed JWT", nil)
	}
	for _, key := range keys {
		if !key.Fits(algorithm) { // Keys may be anybody's
			continue
		}
		if _, err := signed.Verify(key.Public()); err == nil {
			return key, nil
		}
	}
	return nil, invalid("the token's signature is wrong", fmt.Errorf("%d of its issuer's keys fit, and none made it", len(keys)))
}

// Kept tells how many tokens' verdicts are kept, and roughly with how many bytes.
func (j *Judge) Kept() (good, refused, bytes int) {
	good, goodBytes := j.good.Size()
	refused, refusedBytes := j.refused.Size()
	return good, refused, goodBytes + refusedBytes
}
