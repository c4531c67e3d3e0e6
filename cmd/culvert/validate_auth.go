package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/culvert-grpc/culvert/auth"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/keys"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

// askAuth fetches the keys of issuers, and connects to the services that judge calls. It prints
// what it finds, and returns an error for each that doesn't answer.
func askAuth(cmd *cobra.Command, loaded *config.Loaded, patience time.Duration) error {
	settings := wiring.Auth(loaded)
	if settings == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	ring, err := keys.Open(loaded, slog.New(slog.DiscardHandler), nil, io.Discard) //nolint:contextcheck // no context ends the reading of files
	if err != nil {
		return err
	}
	defer ring.Close(keys.Patience)
	ring.SecureAuth(settings)
	services := loaded.Auth.Services()
	errs := make([]error, len(services))
	var asking sync.WaitGroup
	for i, s := range services {
		asking.Go(func() {
			if err := reachService(ctx, settings, s); err != nil {
				errs[i] = loaded.Errorf(s.Section+"."+s.PlaceKey(), "the service doesn't answer within %v: %w: start it, or correct the address and %s.tls", patience, err, s.Section)
			}
		})
	}
	issuerErr := askIssuers(ctx, cmd.OutOrStdout(), settings, loaded)
	asking.Wait()
	for i, s := range services {
		if errs[i] == nil {
			fmt.Fprintf(cmd.OutOrStdout(), "%s (%s): answers\n", s.Section, s.Place)
		}
	}
	return errors.Join(issuerErr, errors.Join(errs...))
}

func askIssuers(ctx context.Context, out io.Writer, settings *auth.Config, loaded *config.Loaded) error {
	a, err := auth.New(*settings, nil)
	if err != nil {
		return wiring.AuthPlaced(err, loaded)
	}
	a.Await(ctx)
	state := a.State()
	_ = a.Close() // nobody needs it any more
	var errs []error
	for i, s := range state.Issuers {
		at := config.Entry("auth.issuers", i)
		key := at + ".keys_url"
		if !loaded.IsSet(key) {
			key = at + ".issuer"
		}
		switch {
		case s.Problem != "":
			errs = append(errs, loaded.Errorf(key, "the keys of the issuer %s can't be fetched: %s", s.Name, s.Problem))
		case s.Fetched.IsZero():
			errs = append(errs, loaded.Errorf(key, "the keys of the issuer %s can't be fetched in time: correct the address, or raise --timeout", s.Name))
		default:
			fmt.Fprintf(out, "issuer %s: %d keys\n", s.Name, s.Keys)
			for _, kid := range slices.Sorted(maps.Keys(s.Skipped)) {
				fmt.Fprintf(out, "note: the issuer %s has the key %q, which culvert can't use: %s\n", s.Name, kid, s.Skipped[kid])
			}
		}
	}
	return errors.Join(errs...)
}

// reachService connects to a service, and asks it nothing: it would count or log the question.
func reachService(ctx context.Context, settings *auth.Config, s config.AuthService) error {
	secure := tlsOf(settings, s)
	if u, err := url.Parse(s.Place); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return connectHTTP(ctx, u, secure)
	}
	creds := insecure.NewCredentials()
	if secure != nil {
		creds = credentials.NewTLS(secure)
	}
	cc, err := grpc.NewClient(s.Place, grpc.WithTransportCredentials(creds), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer func() { _ = cc.Close() }() // nobody needs it any more
	cc.Connect()
	for state := cc.GetState(); state != connectivity.Ready; state = cc.GetState() {
		if !cc.WaitForStateChange(ctx, state) {
			return fmt.Errorf("the connection is %v", state)
		}
	}
	return nil
}

// tlsOf returns the TLS to a service, or nil for plaintext.
func tlsOf(settings *auth.Config, s config.AuthService) *tls.Config {
	if s.Section == "auth.external" {
		return settings.External.TLS
	}
	return settings.RateLimit.TLS
}

func connectHTTP(ctx context.Context, u *url.URL, secure *tls.Config) error {
	port := u.Port()
	if port == "" {
		port = u.Scheme // a name of a port
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nobody needs it any more
	if secure == nil {
		return nil
	}
	return tls.Client(conn, secure).HandshakeContext(ctx)
}
