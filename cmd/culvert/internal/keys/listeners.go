package keys

import (
	"crypto/tls"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// A ListenerTLS has the certificates of one listener. Its configuration stays the
// same when a reload names other files, because the bridge's listener keeps it.
type ListenerTLS struct {
	Config *tls.Config
	now    atomic.Pointer[proxytls.Provider]
}

func newListenerTLS(p *proxytls.Provider) *ListenerTLS {
	l := &ListenerTLS{}
	l.now.Store(p)
	l.Config = &tls.Config{
		MinVersion: tls.VersionTLS12, // the Provider's configuration replaces it
		NextProtos: p.Config().NextProtos,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return l.now.Load().Config().GetConfigForClient(hello)
		},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return l.now.Load().Config().GetCertificate(hello)
		},
	}
	return l
}

// SamePolicy is the Provider's.
func (l *ListenerTLS) SamePolicy(sni string, local net.Addr, host string) bool {
	return l.now.Load().SamePolicy(sni, local, host)
}

// ChangeListeners opens the certificates that next names, and keeps those that the
// running configuration has, too.
func (k *Ring) ChangeListeners(running, next *config.Loaded) (commit, undo func(), err error) {
	if keys := trustKeys(running, next); len(keys) > 0 {
		return nil, nil, wiring.NeedRestart(next, keys)
	}
	k.mu.Lock()
	before := slices.Clone(k.providers)
	k.mu.Unlock()
	undo = func() { k.closeAllBut(before) }
	providers := make([]*proxytls.Provider, len(k.listeners))
	var after []sharedProvider
	for i := range k.listeners { // as many as in next, and TLS on the same ones: config.NeedsRestart
		if providers[i], err = k.listener(next, i); err != nil {
			undo()
			return nil, nil, err
		}
		after = append(after, sharedProvider{provider: providers[i]})
	}
	own, err := k.changeAdmin(next)
	if err != nil {
		undo()
		return nil, nil, err
	}
	after = append(after, sharedProvider{provider: own})
	commit = func() {
		if k.admin != nil {
			k.admin.now.Store(own)
		}
		for i, l := range k.listeners {
			if l != nil {
				l.now.Store(providers[i])
			}
		}
		k.config.Store(next.Compact())
		k.closeAllBut(after)
	}
	return commit, undo, nil
}

// closeAllBut closes the Providers that aren't among others. Connections that began
// with them go on.
func (k *Ring) closeAllBut(others []sharedProvider) {
	k.mu.Lock()
	var kept, closing []sharedProvider
	for _, s := range k.providers {
		if slices.ContainsFunc(others, func(o sharedProvider) bool { return o.provider == s.provider }) {
			kept = append(kept, s)
		} else {
			closing = append(closing, s)
		}
	}
	k.providers = kept
	k.mu.Unlock()
	for _, s := range closing {
		s.provider.Close()
	}
}

var keyOfTLS = regexp.MustCompile(`^(listen\[[0-9]+\]\.)?tls\.`)

// trustKeys returns the changed keys that decide which client certificates a
// listener asks for, and where its certificates come from. A change needs a restart:
// an open connection would go on to call by the rules of before.
func trustKeys(running, next *config.Loaded) []string {
	same := true
	for i := range next.Listen {
		same = same && trustOf(running, i) == trustOf(next, i)
	}
	if same {
		return nil
	}
	return slices.DeleteFunc(config.Changed(running, next), func(name string) bool { return !keyOfTLS.MatchString(name) })
}

// trustOf returns what two configurations of a listener must have in common. If a
// certificate has rules of its own, the certificates decide which client they are
// for.
func trustOf(c *config.Loaded, i int) string {
	t := c.ListenerTLS(i)
	var certificates []string
	if slices.ContainsFunc(t.Certificates, func(pair config.Certificate) bool { return pair.ClientCA != "" || pair.ClientAuth != "" }) {
		for _, pair := range t.Certificates {
			certificates = append(certificates, fmt.Sprint(pair))
		}
	}
	return fmt.Sprintf("%q", []string{t.ClientCA, t.ClientAuth, strings.Join(t.CRLs, "\x00"), fmt.Sprint(t.SelfSigned, t.ACME.Enabled()), strings.Join(certificates, "\x00")})
}
