package keys

import (
	"cmp"
	"crypto/tls"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/auth"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// backendClients are the clients of the backends with TLS, by the backends' names, and of the
// services that judge calls, by serviceName.
type backendClients map[string]backendClient

// serviceName returns the name of a service's client. No backend has it.
func serviceName(section string) string { return "/" + section }

// A backendClient has the certificates for one backend or service.
type backendClient struct {
	*proxytls.Client
	verifying *tls.Config // for a service
	settings  config.BackendTLS
	place     wiring.BackendPlace                  // in the configuration that it was opened for, or kept for
	current   *atomic.Pointer[wiring.BackendPlace] // in the configuration that runs
}

// placedAt is placedIn for errors about the keys of a backend's TLS.
func placedAt(p *wiring.BackendPlace, err error) error {
	return placedIn(p.Config, err, func(key string) string { return p.Section + strings.TrimPrefix(key, "backend") })
}

// openClients returns the clients of a configuration: those of before for backends whose
// settings are the same, and new ones.
func (k *Ring) openClients(c *config.Loaded, before backendClients) (backendClients, error) {
	clients, kept := backendClients{}, c.Compact()
	open := func(name, section string, t config.BackendTLS) error {
		if !t.Enabled {
			return nil
		}
		client, place := before[name], wiring.BackendPlace{Config: kept, Section: section}
		if client.Client == nil || client.settings != t {
			var err error
			if client, err = k.openClient(t, place); err != nil {
				return err
			}
			client.verifying = client.Verifying(t.ServerName)
		}
		client.place = place
		clients[name] = client
		return nil
	}
	var err error
	for _, b := range c.BackendSections() {
		err = errors.Join(err, open(b.Name, b.Section, b.TLS))
	}
	for _, s := range c.Auth.Services() {
		t := config.BackendTLS(*s.TLS)
		t.ServerName = cmp.Or(t.ServerName, s.Host())
		err = errors.Join(err, open(serviceName(s.Section), s.Section, t))
	}
	if err != nil {
		clients.closeAllBut(before)
		return nil, err
	}
	return clients, nil
}

func (k *Ring) openClient(t config.BackendTLS, place wiring.BackendPlace) (c backendClient, err error) {
	c = backendClient{settings: t, current: new(atomic.Pointer[wiring.BackendPlace])}
	c.current.Store(&place)
	c.Client, err = proxytls.NewClient(proxytls.ClientOptions{
		CA: t.CA, Cert: t.Cert, Key: t.Key, ServerName: t.ServerName, ConfigKey: "backend.tls",
		Certificate: k.reporter(),
		Problem:     func(err error) { k.problem(placedAt(c.current.Load(), err)) },
		Mended:      func(err error) { k.mended(placedAt(c.current.Load(), err)) },
	})
	return c, placedAt(&place, err)
}

// closeAllBut closes the clients that the others don't have. Their connections last.
func (clients backendClients) closeAllBut(others backendClients) {
	for name, client := range clients {
		if others[name].Client != client.Client {
			client.Close()
		}
	}
}

// ChangeClients opens the clients of the backends in next. Secure takes them at once, so
// undo follows if the backends don't change.
func (k *Ring) ChangeClients(_, next *config.Loaded) (commit, undo func(), err error) {
	k.mu.Lock()
	before := k.clients
	k.mu.Unlock()
	after, err := k.openClients(next, before)
	if err != nil {
		return nil, nil, err
	}
	use := func(clients backendClients) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.clients = clients
	}
	use(after)
	commit = func() {
		for _, client := range after {
			client.current.Store(&client.place)
		}
		before.closeAllBut(after)
	}
	undo = func() {
		use(before)
		after.closeAllBut(before)
	}
	return commit, undo, nil
}

// Secure sets the TLS configurations of the backends. Those without one are called in
// plaintext.
func (k *Ring) Secure(backends []bridge.NamedBackend) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, b := range backends {
		if client := k.clients[b.Name].Client; client != nil {
			backends[i].TLSSource = client
		}
	}
}

// SecureAuth sets the TLS configurations of the services that judge calls. Those without one
// are asked in plaintext. a may be nil.
func (k *Ring) SecureAuth(a *auth.Config) {
	if a == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if a.External != nil {
		a.External.TLS = k.clients[serviceName("auth.external")].verifying
	}
	if a.RateLimit != nil {
		a.RateLimit.TLS = k.clients[serviceName("auth.rate_limit")].verifying
	}
}
