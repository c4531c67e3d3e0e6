package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/serve"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
)

const documents = "https://github.com/culvert-grpc/culvert/tree/main/docs"

func newServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve --backend host:port",
		Short: "Serve clients in front of a gRPC server",
		Long: `serve takes gRPC, gRPC-Web, Connect and gRPC over WebSocket on one port and sends
each call to the backend. The backend may start after culvert.

On SIGTERM or SIGINT, culvert drains, and ends within --drain-timeout. A second
signal ends culvert at once, unless it is the same within a second. culvert reloads
its configuration file and certificates when they change, and on SIGHUP. On SIGHUP,
it also retries failed ACME orders.

A supervisor such as systemd can pass listening sockets (LISTEN_FDS), so that
clients can connect while culvert restarts.

Keys of the configuration have variables: backend.address is
CULVERT_BACKEND_ADDRESS. A flag wins over a variable, and a variable over the
file. "culvert config defaults" prints all keys.

Documentation: ` + documents,
		Example: `  culvert serve --backend localhost:9000
  culvert serve --backend localhost:9000 --listen 127.0.0.1:8080 --allow-origin https://app.example.com
  culvert serve --backend orders.example.com:443 --backend-tls --deny-method 'admin.v1.*/*'
  culvert serve --config proxy.yaml`,
		Args: noArguments,
	}
	s := addSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// First, so that Go's own handling gets no signal.
		signals := make(chan os.Signal, 8) // room for a few signals while culvert handles one
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		defer signal.Stop(signals)
		// The end of the process that reads the log must not end culvert.
		signal.Ignore(syscall.SIGPIPE)
		loaded, err := s.load()
		if err != nil {
			return err
		}
		if wiring.LacksBackend(loaded) {
			return &misuse{wiring.ErrNoBackend}
		}
		err = serve.Run(cmd.Context(), serve.Options{
			Config:  loaded,
			Again:   s.loadAgain,
			Signals: signals,
			Out:     cmd.OutOrStdout(),
			Stderr:  cmd.ErrOrStderr(),
			Text:    errorText,
			Abort:   func() { os.Exit(exitFailed) },
			Version: thisBuild().Version,
		})
		if err != nil {
			return &reported{err}
		}
		return nil
	}
	return cmd
}
