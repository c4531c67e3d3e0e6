package oidctest

import (
	"context"
	"crypto"
	"encoding/pem"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// The client and the user of the provider's own storage.
const (
	service, serviceSecret = "sid1", "verysecret"
	user                   = "id1"
	device, deviceSecret   = "tv", "secret of the tv"
)

// A key is one that the provider signs with, or publishes.
type key struct {
	id        string
	algorithm jose.SignatureAlgorithm
	signer    crypto.Signer
}

func (k key) ID() string                                  { return k.id }
func (k key) SignatureAlgorithm() jose.SignatureAlgorithm { return k.algorithm }
func (k key) Key() any                                    { return k.signer }

type published struct{ key }

func (k published) Algorithm() jose.SignatureAlgorithm { return k.algorithm }
func (k published) Use() string                        { return "sig" }
func (k published) Key() any                           { return k.signer.Public() }

// A store is the provider's example storage with keys that change, whose clients get JWTs.
type store struct {
	*storage.Storage

	mu     sync.Mutex
	keys   []key // that are published
	signer key   // usually the first one of them
	opaque bool  // clients get opaque tokens
}

func (s *store) SigningKey(context.Context) (op.SigningKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signer, nil
}

func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA}, nil
}

func (s *store) KeySet(context.Context) ([]op.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var set []op.Key
	for _, k := range s.keys {
		set = append(set, published{k})
	}
	return set, nil
}

// rotate makes the keys those that are published, and the first one that signs.
func (s *store) rotate(keys ...key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.signer = keys, keys[0]
}

// change changes the store.
func (s *store) change(change func(*store)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// GetPrivateClaimsFromScopes puts the scopes and a role into tokens.
func (s *store) GetPrivateClaimsFromScopes(_ context.Context, _, _ string, scopes []string) (map[string]any, error) {
	return map[string]any{"scope": strings.Join(scopes, " "), "realm_access": map[string]any{"roles": []string{"reader", "writer"}}}, nil
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

// A provider is an OpenID provider on loopback.
type provider struct {
	*store
	*httptest.Server
	caFile string
}

func startProvider(t *testing.T, keys ...key) *provider {
	t.Helper()
	p := &provider{Server: httptest.NewUnstartedServer(nil), caFile: filepath.Join(t.TempDir(), "ca.pem")}
	issuer := "https://" + p.Listener.Addr().String()
	clients := map[string]*storage.Client{device: storage.DeviceClient(device, deviceSecret)}
	p.store = &store{Storage: storage.NewStorageWithClients(storage.NewUserStore(issuer), clients), keys: keys, signer: keys[0]}
	config := &op.Config{CryptoKey: [32]byte{1}, CryptoKeyId: "a", DeviceAuthorization: op.DeviceAuthorizationConfig{Lifetime: time.Minute, PollInterval: time.Millisecond, UserFormPath: "/device", UserCode: op.UserCodeBase20}}
	handler, err := op.NewProvider(config, p.store, op.StaticIssuer(issuer), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	p.Config.Handler = handler
	p.StartTLS()
	t.Cleanup(p.Server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	if err := os.WriteFile(p.caFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// context returns one with which the OAuth library trusts the provider.
func (p *provider) context(t *testing.T) context.Context {
	t.Helper()
	return context.WithValue(t.Context(), oauth2.HTTPClient, p.Client())
}

// serviceToken gets an access token by client credentials.
func (p *provider) serviceToken(t *testing.T, scopes ...string) string {
	t.Helper()
	config := clientcredentials.Config{ClientID: service, ClientSecret: serviceSecret, TokenURL: p.URL + "/oauth/token", Scopes: scopes}
	got, err := config.Token(p.context(t))
	if err != nil {
		t.Fatal(err)
	}
	return got.AccessToken
}

// userToken gets an access token, and an ID token, for the user by the device flow.
func (p *provider) userToken(t *testing.T) (access, id string) {
	t.Helper()
	ctx := p.context(t)
	config := oauth2.Config{ClientID: device, ClientSecret: deviceSecret, Scopes: []string{"openid", "profile", "read"}, Endpoint: oauth2.Endpoint{
		DeviceAuthURL: p.URL + "/device_authorization", TokenURL: p.URL + "/oauth/token", AuthStyle: oauth2.AuthStyleInHeader,
	}}
	grant, err := config.DeviceAuth(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CompleteDeviceAuthorization(ctx, grant.UserCode, user); err != nil {
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

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
