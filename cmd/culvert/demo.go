package main

import (
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/logs"
	"github.com/culvert-grpc/culvert/demo"
	"github.com/culvert-grpc/culvert/internal/rules"
)

func newDemoCommand() *cobra.Command {
	var cfg demo.Config
	var check, backendOnly bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run an example service behind culvert, with a page to try it",
		Long: `demo starts an example gRPC service, culvert in front of it, and a page on
culvert's port that calls the service from a browser. A switch on the page puts a
proxy that speaks only HTTP/1.1 into the path: then only native gRPC fails.

Nothing leaves this machine. If a port is taken, demo uses a free one.`,
		Example: `  culvert demo
  culvert demo --listen 127.0.0.1:8888
  culvert demo --check
  culvert demo --backend-only --listen :9000    # only the service, for culvert serve`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if cfg.Listen != "" {
				if _, _, err := net.SplitHostPort(cfg.Listen); err != nil {
					return &misuse{fmt.Errorf("--listen: %w: write host:port or :port", err)}
				}
			}
			cfg.NewBridge = newDemoBridge
			cfg.Version = thisBuild().Version
			cfg.Out = cmd.OutOrStdout()
			cfg.Colour = logs.HasColour(cfg.Out)
			switch {
			case check:
				return demo.Check(ctx, cfg)
			case backendOnly:
				return demo.RunBackend(ctx, cfg)
			}
			return demo.Run(ctx, cfg)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Listen, "listen", "", "`address` of the page (default 127.0.0.1:8080), or of the service with --backend-only (default 127.0.0.1:9000)")
	flags.BoolVar(&check, "check", false, "make the page's calls without a browser, print the results, and exit")
	flags.BoolVar(&backendOnly, "backend-only", false, "run only the example service")
	cmd.MarkFlagsMutuallyExclusive("check", "backend-only")
	return cmd
}

func newDemoBridge(c demo.BridgeConfig) (demo.Bridge, error) {
	return bridge.New(bridge.Config{
		Backend:      bridge.Backend{Target: c.Backend},
		Words:        rules.InFile,
		Observer:     demoObserver{report.Discard(), c.Refused},
		AllowOrigins: c.AllowOrigins,
		LoopbackOnly: c.LoopbackOnly,
		Fallback:     c.Fallback,
		CallEnded: func(i *report.CallInfo) {
			c.CallEnded(demo.Call{
				Transport:   i.Transport,
				Method:      i.Method,
				Status:      i.Status,
				Duration:    i.Duration,
				MessagesIn:  i.MessagesIn,
				MessagesOut: i.MessagesOut,
				BytesIn:     i.BytesIn,
				BytesOut:    i.BytesOut,
			})
		},
	})
}

// demoObserver reports refusals to the demo.
type demoObserver struct {
	report.Observer // for what the demo doesn't show
	refused         func(demo.Refusal)
}

func (o demoObserver) Refused(r report.Refusal) {
	o.refused(demo.Refusal{Reason: string(r.Reason), Peer: r.Peer, Detail: r.Detail})
}
