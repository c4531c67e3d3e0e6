package proxytls

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// challenges are the ways to prove to a CA that a name is ours, besides records in
// DNS. The answers for a name are in memory and in the storage, so that any replica
// that the CA asks has them.
type challenges struct {
	storage certmagic.Storage
	folder  string // in storage

	mu   sync.Mutex
	open map[string]*challenge // by kind and name
}

// A challenge is one that the CA may ask about now.
type challenge struct {
	acme.Challenge
	cert *tls.Certificate // for TLS-ALPN-01, made when it is first asked for
}

// challengePath is the path at which the CA asks for HTTP-01. RFC 8555 §8.3.
const challengePath = "/.well-known/acme-challenge/"

func (c *challenges) key(kind, name string) string {
	return path.Join(c.folder, "challenges", certmagic.StorageKeys.Safe(kind), certmagic.StorageKeys.Safe(name)+".json")
}

// A solver is an [acmez.Solver] of one kind of challenges. It opens no port: culvert
// answers both kinds on the ports that serve clients.
type solver struct {
	*challenges
	kind string
}

func (s solver) Present(ctx context.Context, c acme.Challenge) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	key := s.key(s.kind, c.Identifier.Value)
	s.mu.Lock()
	s.open[key] = &challenge{Challenge: c}
	s.mu.Unlock()
	return s.storage.Store(ctx, key, data)
}

func (s solver) CleanUp(ctx context.Context, c acme.Challenge) error {
	key := s.key(s.kind, c.Identifier.Value)
	s.mu.Lock()
	delete(s.open, key)
	s.mu.Unlock()
	// Delete it even if the order was given up: another order mustn't find it.
	return s.storage.Delete(context.WithoutCancel(ctx), key)
}

// find returns the challenge for a name, or nil.
func (c *challenges) find(ctx context.Context, kind, name string) *challenge {
	key := c.key(kind, name)
	c.mu.Lock()
	ours := c.open[key]
	c.mu.Unlock()
	if ours != nil {
		return ours
	}
	data, err := c.storage.Load(ctx, key)
	if err != nil {
		return nil // no replica has been asked for one
	}
	theirs := &challenge{}
	if json.Unmarshal(data, &theirs.Challenge) != nil {
		return nil // half a file: the CA asks again
	}
	return theirs
}

// certificate returns the answer to TLS-ALPN-01. RFC 8737 §3.
func (c *challenges) certificate(ctx context.Context, name string) (*tls.Certificate, error) {
	s := c.find(ctx, acme.ChallengeTypeTLSALPN01, name)
	if s == nil {
		return nil, errors.New("there is no challenge here")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.cert == nil {
		cert, err := acmez.TLSALPN01ChallengeCert(s.Challenge)
		if err != nil {
			return nil, err
		}
		s.cert = cert
	}
	return s.cert, nil
}

// serveHTTP answers HTTP-01, and reports whether r was asking for it.
func (c *challenges) serveHTTP(w http.ResponseWriter, r *http.Request) bool {
	token, asked := strings.CutPrefix(r.URL.Path, challengePath)
	if !asked || r.Method != http.MethodGet {
		return false
	}
	s := c.find(r.Context(), acme.ChallengeTypeHTTP01, normalName(r.Host))
	if s == nil || token != s.Token {
		return false
	}
	w.Header().Set("Content-Type", "application/octet-stream") // RFC 8555 §8.3
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, s.KeyAuthorization) // the CA asks again
	return true
}
