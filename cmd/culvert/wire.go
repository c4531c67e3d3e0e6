package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/config"
)

// bridgeConfig makes the bridge's configuration from the file's: the only
// place where the two meet, so every setting can be seen here. Logger
// and Observer are serve's to add.
func bridgeConfig(c *config.Loaded) (bridge.Config, error) {
	backendTLS, err := backendTLS(c)
	return bridge.Config{
		Backend: bridge.Backend{
			Target:      c.Backend.Address,
			TLS:         backendTLS,
			Authority:   c.Backend.Authority,
			Keepalive:   c.Backend.Keepalive,
			UseEnvProxy: c.Backend.UseProxy,
		},
		AllowOrigins:      c.AllowOrigins,
		Hosts:             c.Hosts,
		TryOrigins:        !c.EnforceOrigins,
		AllowMethods:      c.Methods.Allow,
		DenyMethods:       c.Methods.Deny,
		TryMethods:        !c.Methods.Enforce,
		PathPrefix:        c.PathPrefix,
		TrustedProxies:    c.TrustedProxies,
		VouchedHeaders:    c.Metadata.Vouched,
		ForwardCookies:    c.Metadata.ForwardCookies,
		ForwardSetCookies: c.Metadata.ForwardSetCookies,
		DetailedErrors:    c.Errors == "detailed",
		Limits: bridge.Limits{
			MessageBytes:        int(c.Limits.MessageBytes),
			HeaderBytes:         int(c.Limits.HeaderBytes),
			BufferedBytes:       int64(c.Limits.BufferedBytes),
			CallsPerConnection:  c.Limits.CallsPerConnection,
			Connections:         c.Limits.Connections, // 0 is by descriptors on both sides
			Calls:               orNone(c.Limits.Calls),
			HandshakesPerSecond: orNone(c.Limits.HandshakesPerSecond),
			SlowConsumerTimeout: orNone(c.Limits.SlowConsumerTimeout),
			IdleTimeout:         orNone(c.Limits.IdleTimeout),
			MaxAge:              orNone(c.Limits.MaxAge),

			SlowSenderTimeout:     orNone(c.Limits.SlowSenderTimeout),
			ConnectionIdleTimeout: orNone(c.Limits.ConnectionIdleTimeout),
			ConnectionMaxAge:      orNone(c.Limits.ConnectionMaxAge),
		},
	}, err
}

// bridgeListener makes the bridge's listener from one of listen. LoopbackOnly
// is serve's to add, which knows the address that was bound.
func bridgeListener(l config.Listener) bridge.Listener {
	return bridge.Listener{
		Name:           l.Name,
		TrustedProxies: l.TrustedProxies,
		Transports:     l.Transports,
	}
}

// orNone translates "no limit": 0 in the file, negative in the bridge, whose
// zero means its default.
func orNone[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// backendTLS returns nil where the backend speaks plaintext.
func backendTLS(c *config.Loaded) (*tls.Config, error) {
	if !c.Backend.TLS.Enabled {
		return nil, nil //nolint:nilnil // nil is how the bridge is told of plaintext
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.Backend.TLS.ServerName}
	var errs []error
	if file := c.Backend.TLS.CA; file != "" {
		pem, err := os.ReadFile(file)
		t.RootCAs = x509.NewCertPool()
		if err != nil {
			errs = append(errs, c.Errorf("backend.tls.ca", "%s: %w", file, cause(err)))
		} else if !t.RootCAs.AppendCertsFromPEM(pem) {
			errs = append(errs, c.Errorf("backend.tls.ca", "%s holds no certificate in PEM form: begin it with -----BEGIN CERTIFICATE-----", file))
		}
	}
	if file := c.Backend.TLS.Cert; file != "" {
		pair, err := tls.LoadX509KeyPair(file, c.Backend.TLS.Key)
		if err != nil {
			errs = append(errs, c.Errorf("backend.tls.cert", "%w: it has to go with the private key in backend.tls.key", err))
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, errors.Join(errs...)
}

// cause drops the name of the file from an error that will be said with it.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
