package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/go-jose/go-jose/v4"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
)

// The peers that are culvertOne with a way to authenticate. Each call has the credential that
// its client sends.
const (
	authTokens  = "culvert, GOMAXPROCS=1, tokens"   //nolint:gosec // a program's name
	authAPIKeys = "culvert, GOMAXPROCS=1, API keys" //nolint:gosec // the same
	authCached  = "culvert, GOMAXPROCS=1, external authorization with a cache"
	authAsked   = "culvert, GOMAXPROCS=1, external authorization"
)

// authCosts is what culvert promises of identity. The column of the others has culvert without.
var authCosts = []weight{
	{"time to judge a call by a token that was seen before (RS256), with its metadata for the backend", "µs", 5, 2, false, []string{culvertOne}, benchmark("./auth", "^BenchmarkSeen$/^token$", "µs/call")},
	{"time to judge a call by an API key", "µs", 5, 2, false, []string{culvertOne}, benchmark("./auth", "^BenchmarkSeen$/^api-key$", "µs/call")},
	{"more CPU time of a call with such a token, whose four names of metadata cross to the backend, native gRPC, 64 clients, 100 B", "µs", unbounded, 0, false, []string{authTokens}, authTime},
	{"more CPU time of a call with an API key, one of 1,000, whose two names cross", "µs", unbounded, 0, false, []string{authAPIKeys}, authTime},
	{"CPU time of a call that external authorization has judged before, by Envoy's Check, without it 100 %", "%", unbounded, 0, false, []string{authCached}, authShare},
	{"CPU time of a call about which Check is asked, without it 100 %", "%", unbounded, 0, false, []string{authAsked}, authShare},
	{"time of a new token with RS256, the verification of its signature alone is 100 %", "%", 200, 130, false, []string{culvertOne}, benchmark("./auth/internal/jwt", "^BenchmarkNew$", "%of-RS256")},
	{"time of a new token with ES256, the verification of its signature alone is 100 %", "%", 200, 130, false, []string{culvertOne}, benchmark("./auth/internal/jwt", "^BenchmarkNew$", "%of-ES256")},
}

// authTime is how much more CPU time a call takes with a way to authenticate, in microseconds:
// the median of the turns.
func authTime(ctx context.Context, a *arena, name string) (float64, error) {
	return authTurns(ctx, a, name, func(without, with time.Duration) float64 {
		return float64(with-without) / float64(time.Microsecond)
	})
}

// authShare is the CPU time of a call with a way to authenticate, in percent of that without.
func authShare(ctx context.Context, a *arena, name string) (float64, error) {
	return authTurns(ctx, a, name, func(without, with time.Duration) float64 { return 100 * float64(with) / float64(without) })
}

// authTurns has culvertOne and a peer with a way to authenticate take turns. Both get the
// credential.
func authTurns(ctx context.Context, a *arena, name string, of func(without, with time.Duration) float64) (float64, error) {
	if err := a.issue(ctx); err != nil {
		return 0, err
	}
	credential := a.credentials.token
	if name == authAPIKeys {
		credential = a.credentials.apiKey
	}
	with := func(p *peer) client { return bearer{newGRPCClient(unaryCalls.streams)(p), "Bearer " + credential} }
	var figures []float64
	for range moreStarts {
		turns, _, err := unaryCalls.takeTurns(ctx, a, side{culvertOne, with}, side{name, with})
		if err != nil {
			return 0, err
		}
		for _, took := range turns {
			figures = append(figures, of(took[0].perMessage, took[1].perMessage))
		}
	}
	return median(figures), nil
}

// A bearer is a client that sends the same authorization with each call.
type bearer struct {
	client
	authorization string
}

func (c bearer) open(ctx context.Context, n int, method string, header map[string]string) (stream, error) {
	with := maps.Clone(header)
	if with == nil {
		with = make(map[string]string, 1)
	}
	with["authorization"] = c.authorization
	return c.client.open(ctx, n, method, with)
}

// culvertAuth starts culvertOne with a way to authenticate.
func (a *arena) culvertAuth(ctx context.Context, name string) (*peer, error) {
	c := &a.credentials
	config := map[string]string{
		authTokens:  fmt.Sprintf("auth: {issuers: [{name: bench, issuer: %s, keys_file: %s, audiences: [bench]}]}\n", benchIssuer, c.keySet),
		authAPIKeys: fmt.Sprintf("auth: {api_keys: {file: %s}}\n", c.apiKeys),
		authCached:  fmt.Sprintf("auth: {external: {address: %q, names: [authorization], cache: {ttl: 1m}}}\n", c.judge),
		authAsked:   fmt.Sprintf("auth: {external: {address: %q, names: [authorization]}}\n", c.judge),
	}[name]
	return a.culvertWith(ctx, &peer{name: name}, oneThread, config)
}

const benchIssuer = "https://id.bench.test"

// issued is what the clients of culvertAuth send, with what culvert judges them by.
type issued struct {
	token, apiKey   string
	keySet, apiKeys string // files
	judge           string // the address of a Check service
	stop            func()
}

// issue makes the credentials, once.
func (a *arena) issue(ctx context.Context) error {
	c := &a.credentials
	if c.stop != nil {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "bench"}}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return err
	}
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": benchIssuer, "sub": "alice@example.com", "aud": "bench", "iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix(),
		"jti": "f3c8a1de-0000-4000-8000-000000000000", "client_id": "web-console", "scope": "openid profile email read write",
	})
	if err != nil {
		return err
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return err
	}
	if c.token, err = signed.CompactSerialize(); err != nil {
		return err
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "bench", Algorithm: "RS256", Use: "sig"}}})
	if err != nil {
		return err
	}
	var keys bytes.Buffer
	for n := range 1000 {
		c.apiKey = "bench-" + rand.Text() + rand.Text()
		fmt.Fprintf(&keys, "sha256:%x client-%d\n", sha256.Sum256([]byte(c.apiKey)), n)
	}
	c.keySet, c.apiKeys = filepath.Join(a.dir, "keys.json"), filepath.Join(a.dir, "api-keys.txt")
	if err := errors.Join(os.WriteFile(c.keySet, set, 0o600), os.WriteFile(c.apiKeys, keys.Bytes(), 0o600)); err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, permissive{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(ln) // ends with Stop
	}()
	c.judge = ln.Addr().String()
	c.stop = func() {
		s.Stop()
		<-served
	}
	return nil
}

// permissive is a Check service that permits everything.
type permissive struct {
	authv3.UnimplementedAuthorizationServer
}

// Check implements authv3.AuthorizationServer.
func (permissive) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{Status: &status.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}}, nil
}
