package keys

import (
	"strings"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// backendClients are the clients of the backends with TLS, by the backends' names.
type backendClients map[string]backendClient

// A backendClient has the certificates for one backend.
type backendClient struct {
	*proxytls.Client
	settings config.BackendTLS
	place    wiring.BackendPlace                  // in the configuration that it was opened for, or kept for
	current  *atomic.Pointer[wiring.BackendPlace] // in the configuration that runs
}

// placedAt is placedIn for errors about the keys of a backend's TLS.
func placedAt(p *wiring.BackendPlace, err error) error {
	return placedIn(p.Config, err, func(key string) string { return p.Section + strings.TrimPrefix(key, "backend") })
}

// openClients returns the clients of a configuration: those of before for backends whose
// settings are the same, and new ones.
func (k *Ring) openClients(c *config.Loaded, before backendClients) (backendClients, error) {
	clients, kept := backendClients{}, c.Compact()
	for _, b := range c.BackendSections() {
		if !b.TLS.Enabled {
			continue
		}
		client, place := before[b.Name], wiring.BackendPlace{Config: kept, Section: b.Section}
		if client.Client == nil || client.settings != b.TLS {
			var err error
			if client, err = k.openClient(b.TLS, place); err != nil {
				clients.closeAllBut(before)
				return nil, err
			}
		}
		client.place = place
		clients[b.Name] = client
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
