// Package provider has a real OpenID provider on loopback with TLS, for tests:
// github.com/zitadel/oidc/v3/pkg/op.
package provider

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"golang.org/x/oauth2"
)

// The clients and the user of the provider's own storage.
const (
	Service, serviceSecret = "sid1", "verysecret"
	User                   = "id1"
	Device, deviceSecret   = "tv", "secret of the tv"
)

// A store is the provider's example storage with keys that change, whose clients get JWTs.
type store struct {
	*storage.Storage

	mu        sync.Mutex
	published []Key
	signer    Key           // usually the first of them
	opaque    bool          // clients get opaque tokens
	audiences []string      // of tokens by client credentials; nil: the client
	lifetime  time.Duration // of those; 0: the provider's
}

func (s *store) SigningKey(context.Context) (op.SigningKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return signing{s.signer}, nil
}

func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA}, nil
}

func (s *store) KeySet(context.Context) ([]op.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var set []op.Key
	for _, k := range s.published {
		set = append(set, public{k})
	}
	return set, nil
}

// change changes the store.
func (s *store) change(change func(*store)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// GetPrivateClaimsFromScopes puts the scopes and roles into tokens.
func (s *store) GetPrivateClaimsFromScopes(_ context.Context, _, _ string, scopes []string) (map[string]any, error) {
	return map[string]any{"scope": strings.Join(scopes, " "), "realm_access": map[string]any{"roles": []string{"reader", "writer"}}}, nil
}

func (s *store) ClientCredentialsTokenRequest(ctx context.Context, client string, scopes []string) (op.TokenRequest, error) {
	r, err := s.Storage.ClientCredentialsTokenRequest(ctx, client, scopes)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, is := r.(*oidc.JWTTokenRequest); is && s.audiences != nil {
		r.Audience = s.audiences
	}
	return r, err
}

func (s *store) CreateAccessToken(ctx context.Context, r op.TokenRequest) (id string, expires time.Time, err error) {
	id, expires, err = s.Storage.CreateAccessToken(ctx, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lifetime != 0 {
		expires = time.Now().Add(s.lifetime)
	}
	return id, expires, err
}

func (s *store) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	c, err := s.Storage.ClientCredentials(ctx, id, secret)
	return s.client(c), err
}

func (s *store) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	return s.client(c), err
}

func (s *store) client(c op.Client) op.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opaque || c == nil {
		return c
	}
	return jwtClient{c}
}

type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

// A Provider is an OpenID provider. Its URL is also its name as an issuer.
type Provider struct {
	*httptest.Server
	CAFile string // PEM of its certificate

	store *store
}

// Start starts a provider that publishes the keys, and signs with the first one. It ends with
// the test.
func Start(t *testing.T, keys ...Key) *Provider {
	t.Helper()
	p := &Provider{Server: httptest.NewUnstartedServer(nil), CAFile: filepath.Join(t.TempDir(), "ca.pem")}
	issuer := "https://" + p.Listener.Addr().String()
	clients := map[string]*storage.Client{Device: storage.DeviceClient(Device, deviceSecret)}
	p.store = &store{Storage: storage.NewStorageWithClients(storage.NewUserStore(issuer), clients), published: keys, signer: keys[0]}
	config := &op.Config{CryptoKey: [32]byte{1}, CryptoKeyId: "a", DeviceAuthorization: op.DeviceAuthorizationConfig{Lifetime: time.Minute, PollInterval: time.Millisecond, UserFormPath: "/device", UserCode: op.UserCodeBase20}}
	handler, err := op.NewProvider(config, p.store, op.StaticIssuer(issuer), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	p.Config.Handler = handler
	p.StartTLS()
	t.Cleanup(p.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	if err := os.WriteFile(p.CAFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// Rotate makes the keys those that are published, and the first one that signs.
func (p *Provider) Rotate(keys ...Key) {
	p.store.change(func(s *store) { s.published, s.signer = keys, keys[0] })
}

// SignWith signs with a key that need not be published.
func (p *Provider) SignWith(k Key) { p.store.change(func(s *store) { s.signer = k }) }

// GiveOpaque makes the tokens that it gives out opaque, or JWTs again.
func (p *Provider) GiveOpaque(opaque bool) { p.store.change(func(s *store) { s.opaque = opaque }) }

// GiveFor gives tokens by client credentials these audiences and this lifetime, 0 for the
// provider's own.
func (p *Provider) GiveFor(lifetime time.Duration, audiences ...string) {
	p.store.change(func(s *store) { s.lifetime, s.audiences = lifetime, audiences })
}

// context returns one with which the OAuth library trusts the provider.
func (p *Provider) context(t *testing.T) context.Context {
	t.Helper()
	return context.WithValue(t.Context(), oauth2.HTTPClient, p.Client())
}

// ServiceToken gets an access token by client credentials.
func (p *Provider) ServiceToken(t *testing.T, scopes ...string) string {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {strings.Join(scopes, " ")}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(Service, serviceSecret)
	res, err := p.Client().Do(r) // x/oauth2 takes no token that has expired
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // it was only read
	var got struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil || got.Token == "" {
		t.Fatalf("no token: %s, %v", res.Status, err)
	}
	return got.Token
}

// UserToken gets an access token, and an ID token, for the user by the device flow.
func (p *Provider) UserToken(t *testing.T) (access, id string) {
	t.Helper()
	ctx := p.context(t)
	config := oauth2.Config{ClientID: Device, ClientSecret: deviceSecret, Scopes: []string{"openid", "profile", "read"}, Endpoint: oauth2.Endpoint{
		DeviceAuthURL: p.URL + "/device_authorization", TokenURL: p.URL + "/oauth/token", AuthStyle: oauth2.AuthStyleInHeader,
	}}
	grant, err := config.DeviceAuth(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.store.CompleteDeviceAuthorization(ctx, grant.UserCode, User); err != nil {
		t.Fatal(err)
	}
	grant.Interval = 1
	got, err := config.DeviceAccessToken(ctx, grant)
	if err != nil {
		t.Fatal(err)
	}
	id, _ = got.Extra("id_token").(string)
	return got.AccessToken, id
}
