package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/top"
)

func newTopCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what a running culvert does, again each second",
		Long: `top asks a culvert, by default the one on this host, at its admin address. Each second
it shows the state, connections, backends, routes and the first open calls of an order.
o selects the next order; q or Ctrl-C ends top. calls explains the columns
of calls. top takes the admin address, its certificate and its token (admin.token) from
the same sources as serve.

If standard output is no terminal, top prints the page once, with up to 20 calls.

top exits with 0 when it is ended. It exits with 1, and prints the reason, if it can't
reach culvert at the start; later it shows the reason and asks again.`,
		Example: `  culvert top
  culvert top --order bytes
  culvert top --admin unix:/run/culvert/admin.sock | head -5`,
		Args: noArguments,
	}
	reach := addAdminReach(cmd)
	var order string
	cmd.Flags().StringVar(&order, "order", "waiting", "the `order` of calls: "+strings.Join(admin.Orders, ", "))
	mustComplete(cmd.RegisterFlagCompletionFunc("order", cobra.FixedCompletions(admin.Orders, cobra.ShellCompDirectiveNoFileComp)))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains(admin.Orders, order) {
			return &misuse{fmt.Errorf("--order: %q is no order: write one of %s", order, strings.Join(admin.Orders, ", "))}
		}
		client, err := reach.client(cmd.Context(), cannotAsk)
		if err != nil {
			return err
		}
		out, tty := cmd.OutOrStdout().(*os.File)
		if !tty || !isTerminal(out) || !isTerminal(os.Stdin) {
			state, err := client.state(cmd.Context(), order, pipedCalls)
			if err != nil {
				return err
			}
			return printLines(cmd.OutOrStdout(), top.Page(state, 0, 0, order))
		}
		ctx, stop := untilSignal(cmd.Context(), syscall.SIGHUP)
		defer stop()
		return live(ctx, client, out, order)
	}
	return cmd
}

// pipedCalls is how many calls top prints if nobody sees a screen.
const pipedCalls = 20

// live draws on the terminal until a key or a signal.
func live(ctx context.Context, client *adminClient, out *os.File, order string) error {
	before, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return fmt.Errorf("the terminal: %w", err)
	}
	defer func() { _ = term.Restore(int(os.Stdin.Fd()), before) }() // it may be gone
	screen := &top.Screen{Fetch: client.state, Out: out, Keys: keysOf(os.Stdin), Size: func() (width, height int) {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return 80, 24
		}
		return width, height
	}}
	return screen.Run(ctx, order)
}

// keysOf returns the keys that a person presses. Nothing can interrupt the read of a terminal on
// all systems, so its goroutine ends with the terminal or with the process, which ends next.
func keysOf(in io.Reader) <-chan byte {
	keys := make(chan byte)
	go func() {
		defer close(keys)
		var key [1]byte
		for {
			if n, err := in.Read(key[:]); err != nil {
				return
			} else if n == 1 {
				keys <- key[0]
			}
		}
	}()
	return keys
}

func (c *adminClient) state(ctx context.Context, order string, calls int) (*top.State, error) {
	s := new(top.State)
	query := url.Values{"order": {order}, "limit": {strconv.Itoa(min(calls, 1000))}}
	for _, page := range []struct {
		path string
		into any
	}{{"/status", &s.Status}, {"/connections", &s.Connections}, {"/backends", &s.Backends}, {"/routes", &s.Routes}, {"/calls?" + query.Encode(), &s.Calls}} {
		if err := c.get(ctx, page.path, page.into); err != nil {
			return nil, err
		}
	}
	return s, nil
}
