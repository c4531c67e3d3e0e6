package proxytls

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// An issuer gets certificates from one CA. It replaces certmagic's own Issuer,
// which opens ports of its own, asks at the terminal for missing settings, and
// keeps its connections for ever.
type issuer struct {
	directory string
	email     string
	eab       *acme.EAB // nil: the CA opens accounts for anybody
	http      atomic.Pointer[http.Client]
	log       *slog.Logger
	storage   certmagic.Storage
	solvers   map[string]acmez.Solver
}

// maxConnectionsToCA bounds the connections to a CA for many names at once. Each
// order uses one connection at a time.
const maxConnectionsToCA = maxOrders + maxDemandOrders

// trust makes later orders accept only a CA that one of roots has signed.
func (i *issuer) trust(roots *x509.CertPool) {
	client := &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout: 10 * time.Second,
			MaxConnsPerHost:     maxConnectionsToCA,
			IdleConnTimeout:     time.Minute,
			ForceAttemptHTTP2:   true,
		},
	}
	if before := i.http.Swap(client); before != nil {
		before.CloseIdleConnections()
	}
}

func (i *issuer) client() *acmez.Client {
	return &acmez.Client{
		Client: &acme.Client{
			Directory:  i.directory,
			HTTPClient: i.http.Load(),
			UserAgent:  "culvert",
			Logger:     i.log,
		},
		ChallengeSolvers: i.solvers,
	}
}

// IssuerKey implements [certmagic.Issuer]: in the storage, certificates of one CA
// replace one another, those of two CAs don't.
func (i *issuer) IssuerKey() string { return certmagic.StorageKeys.Safe(issuerName(i.directory)) }

// replacedKey is the context key of the certificate that an order replaces: the CA
// counts the order as a renewal. RFC 9773 §5.
type replacedKey struct{}

// Issue implements [certmagic.Issuer].
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	chain, err := i.order(ctx, csr)
	if problem, ok := errors.AsType[acme.Problem](err); ok && problem.Type == acme.ProblemTypeAccountDoesNotExist {
		// The CA was set up anew, so make a new account.
		accountKey, _ := i.accountKeys()
		if err := i.storage.Delete(ctx, accountKey); err != nil {
			return nil, &orderError{err}
		}
		chain, err = i.order(ctx, csr)
	}
	if err != nil {
		return nil, &orderError{err}
	}
	return &certmagic.IssuedCertificate{Certificate: chain.ChainPEM, Metadata: chain}, nil
}

// An orderError is what went wrong between us and the CA. errors.As finds it within
// certmagic's errors.
type orderError struct{ error }

func (e *orderError) Unwrap() error { return e.error }

func (i *issuer) order(ctx context.Context, csr *x509.CertificateRequest) (acme.Certificate, error) {
	client := i.client()
	account, err := i.account(ctx, client.Client)
	if err != nil {
		return acme.Certificate{}, err
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return acme.Certificate{}, err
	}
	params.Replaces, _ = ctx.Value(replacedKey{}).(*x509.Certificate)
	chains, err := client.ObtainCertificate(ctx, params)
	if params.Replaces != nil && isRefusedOrder(err) {
		// The replaced certificate may be the CA's only objection: it may belong to
		// another account, or the CA has forgotten it.
		params.Replaces = nil
		chains, err = client.ObtainCertificate(ctx, params)
	}
	if err != nil {
		return acme.Certificate{}, err
	}
	if len(chains) == 0 {
		return acme.Certificate{}, errors.New("the CA's answer has no certificate")
	}
	return chains[0], nil // the one that the CA prefers
}

// isRefusedOrder reports whether the CA refused an order before it asked for any
// proof.
func isRefusedOrder(err error) bool {
	problem, ok := errors.AsType[acme.Problem](err)
	return ok && problem.Type != acme.ProblemTypeRateLimited && strings.HasPrefix(err.Error(), "creating new order: ") // as acmez has it
}

func (i *issuer) accountKeys() (account, key string) {
	folder := path.Join("acme", i.IssuerKey(), "accounts", certmagic.StorageKeys.Safe("account-"+i.email))
	return path.Join(folder, "account.json"), path.Join(folder, "account.key")
}

// account returns the account at the CA: from the storage, or a new one. Replicas
// share it; the first one registers it.
func (i *issuer) account(ctx context.Context, client *acme.Client) (account acme.Account, err error) {
	if account, err = i.storedAccount(ctx); !errors.Is(err, fs.ErrNotExist) {
		return account, err
	}
	lock := "account_" + i.IssuerKey()
	if err := i.storage.Lock(ctx, lock); err != nil {
		return account, fmt.Errorf("lock of the account: %w", err)
	}
	defer i.unlock(ctx, lock, &err)
	if account, err = i.storedAccount(ctx); !errors.Is(err, fs.ErrNotExist) {
		return account, err // another replica was quicker
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return account, err
	}
	account = acme.Account{TermsOfServiceAgreed: true, PrivateKey: key}
	if i.email != "" {
		account.Contact = []string{"mailto:" + i.email}
	}
	if i.eab != nil {
		if err := account.SetExternalAccountBinding(ctx, client, *i.eab); err != nil {
			return account, err
		}
	}
	if account, err = client.NewAccount(ctx, account); err != nil {
		return account, fmt.Errorf("account: %w", err)
	}
	return account, i.storeAccount(ctx, account, key)
}

// unlock adds to err the reason why the lock stays.
func (i *issuer) unlock(ctx context.Context, lock string, err *error) {
	if e := i.storage.Unlock(context.WithoutCancel(ctx), lock); e != nil {
		*err = errors.Join(*err, fmt.Errorf("lock %s: %w", lock, e))
	}
}

func (i *issuer) storedAccount(ctx context.Context) (acme.Account, error) {
	accountKey, privateKey := i.accountKeys()
	var account acme.Account
	data, err := i.storage.Load(ctx, accountKey)
	if err != nil {
		return account, err
	}
	if err := json.Unmarshal(data, &account); err != nil {
		return account, fmt.Errorf("%s in the storage: %w", accountKey, err)
	}
	data, err = i.storage.Load(ctx, privateKey)
	if err != nil {
		return account, err
	}
	account.PrivateKey, err = certmagic.PEMDecodePrivateKey(data)
	if err != nil {
		return account, fmt.Errorf("%s in the storage: %w", privateKey, err)
	}
	return account, nil
}

// storeAccount writes the key first: without the key, an account doesn't exist.
func (i *issuer) storeAccount(ctx context.Context, account acme.Account, key crypto.PrivateKey) error {
	account.ExternalAccountBinding = nil // it served once
	accountKey, privateKey := i.accountKeys()
	keyPEM, err := certmagic.PEMEncodePrivateKey(key)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(account, "", "\t")
	if err != nil {
		return err
	}
	if err := i.storage.Store(ctx, privateKey, keyPEM); err != nil {
		return err
	}
	return i.storage.Store(ctx, accountKey, data)
}
