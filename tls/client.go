package proxytls

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
	"time"
)

// ClientOptions set how culvert authenticates a backend, and itself to it.
type ClientOptions struct {
	CA         string // file (PEM); "" is the system's
	Cert, Key  string // files (PEM); "" is none
	ServerName string // the name that the backend's certificate must have; "" is that of the address

	// ConfigKey is the configuration key of these options ("backend.tls"), for
	// errors.
	ConfigKey string

	// Like those of Options.
	Certificate func(Certificate)
	Problem     func(error)
	Mended      func(error)
}

// A Client has the TLS configuration of a client of a backend. Its methods may be
// called concurrently.
type Client struct {
	opts    ClientOptions
	now     atomic.Pointer[clientSet]
	watcher *watcher
}

type clientSet struct {
	config *tls.Config
	facts  []Certificate
}

// NewClient loads the files in the options and returns a Client that loads them
// again when a file changes, until Close. The error has a line, a KeyError, for
// each fault.
func NewClient(o ClientOptions) (*Client, error) {
	c := &Client{opts: o}
	c.watcher = &watcher{files: distinct(o.CA, o.Cert, o.Key), load: c.load, state: c.state, certificate: o.Certificate, problem: o.Problem, mended: o.Mended}
	if err := c.watcher.start(); err != nil {
		return nil, err
	}
	return c, nil
}

// Config returns the configuration for the next connection. The caller must not
// change it.
func (c *Client) Config() *tls.Config { return c.now.Load().config }

// Reload loads the files now, changed or not. If the error isn't nil, nothing has
// changed.
func (c *Client) Reload() error { return c.watcher.reload() }

// Problems returns the current problems.
func (c *Client) Problems() []error { return c.watcher.current() }

// Close stops watching the files. Config still works.
func (c *Client) Close() { c.watcher.close() }

func (c *Client) load(files contents) error {
	o := c.opts
	s := &clientSet{config: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}}
	var errs []error
	if o.CA != "" {
		authorities, err := loadAuthorities(o.ConfigKey+".ca", o.CA, files)
		errs = append(errs, split(err)...)
		s.config.RootCAs = poolOf(authorities)
	}
	if o.Cert != "" {
		pair, err := loadPair(o.ConfigKey, o.Cert, o.Key, files)
		errs = append(errs, split(err)...)
		if err == nil {
			s.config.Certificates = []tls.Certificate{pair}
			s.facts = []Certificate{factOf(o.ConfigKey+".cert", o.Cert, pair.Leaf)}
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	c.now.Store(s)
	return nil
}

func (c *Client) state(now time.Time) (certificates []Certificate, problems []error) {
	certificates = c.now.Load().facts
	return certificates, outOfTime(certificates, now)
}
