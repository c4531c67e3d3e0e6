package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

func newHealthcheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running culvert whether it is ready",
		Long: `healthcheck asks the culvert on this host for /readyz, at the address in
health.listen, from the same sources as for serve. It is for container images, which
have no shell and no curl.

healthcheck exits with 0 if culvert is ready. Otherwise it exits with 1, and prints
the reason.`,
		Example: `  culvert healthcheck
  culvert healthcheck --health-listen :9901
  culvert healthcheck --config /etc/culvert/proxy.yaml --timeout 1s`,
		Args: noArguments,
	}
	s := addSettings(cmd, "health-listen")
	var patience time.Duration
	cmd.Flags().DurationVar(&patience, "timeout", 2*time.Second, "`duration` to wait for the answer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if patience <= 0 {
			return &misuse{fmt.Errorf("--timeout: %v leaves no time for an answer: write 2s", patience)}
		}
		address, _, err := fixedAddress(s, []string{"health.listen"}, "9901", "culvert doesn't answer health checks: set it to an address, such as 127.0.0.1:9901, or remove the health check",
			func(c *config.Loaded) string { return c.Health.Listen })
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), patience)
		defer cancel()
		text, err := askReady(ctx, address)
		if err != nil {
			return err
		}
		_, err = io.WriteString(cmd.OutOrStdout(), text)
		return err
	}
	return cmd
}

// maxReadiness limits the answer: a line, and one for each problem. healthcheck
// prints at most maxReadinessLines of them, each with at most maxReadinessLine
// characters.
const (
	maxReadiness      = 64 << 10
	maxReadinessLines = 20
	maxReadinessLine  = 1000
)

// printable makes a server's text safe for a terminal. The server may be another
// program.
func printable(text string) string {
	var out strings.Builder
	count := 0
	for line := range strings.Lines(text) {
		if count++; count > maxReadinessLines {
			out.WriteString("…\n")
			break
		}
		line, end := strings.CutSuffix(line, "\n")
		shown := []rune(line)
		if len(shown) > maxReadinessLine {
			shown = append(shown[:maxReadinessLine:maxReadinessLine], '…')
		}
		out.WriteString(terminal.Text(string(shown)))
		if end {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// askReady returns the answer of /readyz at an address that culvert listens
// on. net.Dial takes an address without a host as this host.
func askReady(ctx context.Context, address string) (string, error) {
	client := sockets.Client(address)
	// The health checks on a loopback address accept this Host.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/readyz", http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", noAnswer(ctx, address, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReadiness))
	if err != nil {
		return "", noAnswer(ctx, address, err)
	}
	text := printable(string(body))
	switch {
	case resp.StatusCode == http.StatusOK && strings.HasPrefix(text, "ready\n"):
		return text, nil
	case resp.StatusCode == http.StatusServiceUnavailable && strings.HasPrefix(text, "not ready"):
		return "", fmt.Errorf("%s: %s", address, strings.TrimSpace(text))
	default: // a second culvert leaves the default address to the first, which may be another program
		return "", fmt.Errorf("%s answers /readyz with %s, and not as culvert does: check that health.listen (--health-listen) is the address of culvert", address, printable(resp.Status))
	}
}

func noAnswer(ctx context.Context, address string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s doesn't answer in time: check that culvert runs, or raise --timeout", address)
	}
	// The URL in the error isn't the address.
	if inURL, ok := errors.AsType[*url.Error](err); ok {
		err = inURL.Err
	}
	return fmt.Errorf("%s: %w: check that culvert runs, and that health.listen (--health-listen) is the same for both", address, sockets.Cause(err))
}
