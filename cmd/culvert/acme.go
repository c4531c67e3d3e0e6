package main

import (
	"context"
	"net/http"

	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// acmeOptions makes the options of what fetches certificates from the file's.
func acmeOptions(c *config.Loaded) proxytls.ACMEOptions {
	a := c.TLS.ACME
	o := proxytls.ACMEOptions{
		Domains:      a.Domains,
		OnDemand:     a.OnDemand,
		Email:        a.Email,
		Directory:    a.Directory,
		CARoot:       a.CARoot,
		Storage:      a.Storage,
		Challenges:   a.Challenges,
		EABKeyID:     a.EAB.KeyID,
		EABHMACKey:   a.EAB.HMACKey,
		DNSProvider:  a.DNSProvider,
		DNSSettings:  map[string]string{},
		DNSResolvers: a.DNSResolvers,
		ConfigKey:    "tls.acme",
	}
	for _, s := range a.DNSSettings {
		o.DNSSettings[s.Name] = s.Value
	}
	if len(o.Challenges) == 0 && o.DNSProvider == "" {
		o.Challenges = []string{proxytls.TLSALPN01}
		if c.TLS.HTTPListen != "" {
			o.Challenges = append(o.Challenges, proxytls.HTTP01)
		}
	}
	return o
}

// fetch has the certificates of tls.acme behind those of files: for the names
// that these aren't for.
func (k *keyring) fetch(o *proxytls.Options) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.acme == nil {
		a := acmeOptions(k.config)
		a.Log = k.log
		a.Certificate, a.Problem, a.Mended = k.certificate, k.problem, k.mended
		var err error
		if k.acme, err = proxytls.NewACME(a); err != nil {
			return k.placed(err)
		}
	}
	o.Fallback, o.ChallengeProtos = k.acme.GetCertificate, k.acme.NextProtos()
	return nil
}

// startFetching begins with what isn't in the storage; what is can be shown
// when it returns.
func (k *keyring) startFetching(ctx context.Context) {
	if k.acme != nil {
		k.acme.Start(ctx)
	}
}

// answerCA puts what the CA asks for on the plaintext port before next.
func (k *keyring) answerCA(next http.Handler) http.Handler {
	if k.acme == nil {
		return next
	}
	return k.acme.HTTPHandler(next)
}
