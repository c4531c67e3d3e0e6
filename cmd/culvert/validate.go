package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/auth"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/files"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/keys"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/serve"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

func newValidateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate [file]",
		Short: "Check the configuration without serving",
		Long: `validate checks the configuration that serve would read from the same file,
environment and flags, and prints all errors and warnings. It reads certificates
and descriptors, but opens no ports.

With --online, validate also connects to the backends, fetches the keys of the issuers
in auth, and connects to the services that auth names. It fails if one of them doesn't
answer in time, or if a backend has no descriptors for a route whose messages are JSON.`,
		Example: `  culvert validate proxy.yaml
  culvert validate --config proxy.yaml --backend orders:9000
  culvert validate --partial common.yaml
  culvert validate --online --timeout 10s proxy.yaml
  CULVERT_LOG_LEVEL=debug culvert validate`,
	}
	s := addSettings(cmd)
	var partial, online bool
	var patience time.Duration
	cmd.Flags().BoolVar(&partial, "partial", false, "accept a file without backend.address, which a flag or a variable sets on each machine")
	cmd.Flags().BoolVar(&online, "online", false, "also connect to the backends and to what auth names, and look for the descriptors that routes with JSON need")
	cmd.Flags().DurationVar(&patience, "timeout", 5*time.Second, "`duration` to wait for answers, with --online")
	takeFile(cmd, s)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if patience <= 0 {
			return &misuse{fmt.Errorf("--timeout: %v leaves no time for an answer: write 5s", patience)}
		}
		quietLibraries() // before anything connects
		loaded, err := validate(cmd, s, partial && !online)
		if err == nil && online {
			err = errors.Join(askBackends(cmd, loaded, patience), askAuth(cmd, loaded, patience))
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", cmp.Or(loaded.File, "environment and flags"))
		return err
	}
	return cmd
}

// validate checks the configuration, and returns it.
func validate(cmd *cobra.Command, s *settings, partial bool) (*config.Loaded, error) {
	loaded, err := s.load()
	if loaded != nil {
		for _, w := range loaded.Warnings {
			fmt.Fprintf(cmd.ErrOrStderr(), "culvert: warning: %s\n", w)
		}
	}
	if err != nil {
		return nil, err
	}
	var missing error
	if wiring.LacksBackend(loaded) && !partial {
		missing = fmt.Errorf("%w; to check a file without it, use --partial", wiring.ErrNoBackend)
	}
	for _, w := range serve.Warnings(loaded) {
		fmt.Fprintf(cmd.ErrOrStderr(), "culvert: warning: %s\n", w)
	}
	return loaded, errors.Join(missing, checkBridge(cmd, loaded))
}

// checkBridge creates the server as serve would, and closes it. So it checks
// the certificates and descriptors, and the rules that only the bridge knows.
func checkBridge(cmd *cobra.Command, loaded *config.Loaded) error {
	_, describeErr := files.OpenDescriptors(loaded, slog.New(slog.DiscardHandler))
	problems, err := keys.Check(loaded)
	for _, p := range problems {
		fmt.Fprintf(cmd.ErrOrStderr(), "culvert: warning: %s\n", p)
	}
	_, tokenErr := files.OpenToken(loaded, slog.New(slog.DiscardHandler), func(admin.Token) {})
	cfg := wiring.Bridge(loaded)
	if wiring.LacksBackend(loaded) {
		cfg.Backends[0].Target = "localhost:50051"
	}
	srv, bridgeErr := wiring.New(cfg, loaded)
	if bridgeErr == nil {
		bridgeErr = srv.Close()
	}
	return errors.Join(err, tokenErr, describeErr, checkAuth(loaded), bridgeErr)
}

// checkAuth makes what would judge calls, and reads its files.
func checkAuth(loaded *config.Loaded) error {
	settings := wiring.Auth(loaded)
	if settings == nil {
		return nil
	}
	settings.Offline = true
	a, err := auth.New(*settings, nil)
	if err != nil {
		return wiring.AuthPlaced(err, loaded)
	}
	return a.Close()
}
