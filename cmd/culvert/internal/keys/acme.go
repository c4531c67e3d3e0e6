package keys

import (
	"context"
	"net/http"

	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

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

// fetch adds the ACME certificates to o, for names without a certificate in a
// file.
func (k *Ring) fetch(o *proxytls.Options) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.acme == nil {
		a := acmeOptions(k.config.Load())
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

// StartFetching starts to order certificates that aren't in the storage. It
// returns when culvert can use those in the storage.
func (k *Ring) StartFetching(ctx context.Context) {
	if k.acme != nil {
		k.acme.Start(ctx)
	}
}

// AnswerCA returns a handler that answers ACME challenges before next.
func (k *Ring) AnswerCA(next http.Handler) http.Handler {
	if k.acme == nil {
		return next
	}
	return k.acme.HTTPHandler(next)
}

// ACMENames returns the state of the names that ACME keeps certificates for: of all domains,
// and of at most so many names on demand. left is how many of these it leaves out.
func (k *Ring) ACMENames(mostOnDemand int) (names []proxytls.NameState, left int) {
	k.mu.Lock()
	a := k.acme
	k.mu.Unlock()
	if a == nil {
		return nil, 0
	}
	return a.Names(mostOnDemand)
}
