package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/culvert-grpc/culvert/client"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/dial"
)

// The exit codes of shells for a command that can't be started.
const (
	exitNotExecutable = 126
	exitNoCommand     = 127
)

func newDialCommand() *cobra.Command {
	var o dial.Options
	var to reach
	var via, tokenFile string
	var once bool
	cmd := &cobra.Command{
		Use:   "dial URL [flags] [--once -- command [argument…]]",
		Short: "Open a local port that leads to a gRPC service through a company's network",
		Long: `dial opens a plaintext gRPC port on this machine, for clients in any language. It
finds a way to the service at the URL: native gRPC, HTTP/2 inside a WebSocket (which
call names h2ts), or gRPC-Web, each through the proxy in HTTPS_PROXY. If the way breaks,
local connections stay: calls under way end UNAVAILABLE, and new ones wait up to 10 s
for another way.

With --once, dial runs a command that finds the port in CULVERT_DIAL, passes signals
on to it, and exits with its code. That is 127 if there is no such command, and 126 if
it can't be started.`,
		Example: `  culvert dial https://edge.example.com
  culvert dial https://edge.example.com --listen localhost:9000 --via websocket
  culvert dial https://edge.example.com --listen unix:/run/user/1000/edge.sock --token-file token
  culvert dial https://edge.example.com --once -- python3 agent.py`,
		Args: func(cmd *cobra.Command, args []string) error {
			n := len(args)
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				n = at
			}
			switch {
			case n != 1:
				return errors.New("write one URL, such as https://edge.example.com")
			case once != (len(args) > n):
				return errors.New("write --once and, after --, the command: --once -- python3 agent.py")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			quietLibraries()
			o.Edge, o.Command, o.Out = args[0], args[1:], cmd.ErrOrStderr()
			var err error
			if o.Client, err = clientOptions(via, &to); err != nil {
				return &misuse{err}
			}
			if tokenFile != "" {
				o.Token = tokenOf(tokenFile)
				if _, err := o.Token(cmd.Context()); err != nil {
					return &misuse{fmt.Errorf("--token-file: %w", err)}
				}
			}
			ctx := cmd.Context()
			if len(o.Command) == 0 {
				if f, ok := o.Out.(*os.File); ok && isTerminal(f) {
					o.Width = func() int { return columnsOf(f) }
				}
				var stop context.CancelFunc
				ctx, stop = untilSignal(ctx, syscall.SIGHUP) // nohup ignores it
				defer stop()
			}
			err = dial.Run(ctx, o)
			if ended, ok := errors.AsType[*exec.ExitError](err); ok {
				return &exit{exitCode(ended)}
			}
			if e, ok := errors.AsType[*dial.StartError](err); ok {
				_, _ = io.WriteString(o.Out, errorText(err)) // there is no other place to report it
				if e.Missing() {
					return &exit{exitNoCommand}
				}
				return &exit{exitNotExecutable}
			}
			if wrong, ok := errors.AsType[*dial.Misuse](err); ok {
				return &misuse{wrong.Err}
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Listen, "listen", "localhost:9000", "`address` of the port: localhost:PORT, localhost:0 for any, or unix:PATH")
	flags.BoolVar(&o.Anybody, "allow-remote", false, "let --listen be an address that other machines reach, without TLS")
	flags.StringVar(&tokenFile, "token-file", "", "`file` with a bearer token for calls that have none; --listen must be a unix socket")
	flags.BoolVar(&once, "once", false, "run the command after --, and end with it")
	flags.StringVar(&via, "via", "auto", "the `way`: auto, grpc, websocket or grpc-web")
	to.add(flags)
	mustComplete(cmd.RegisterFlagCompletionFunc("via", cobra.FixedCompletions([]string{"auto", "grpc", "websocket", "grpc-web"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func columnsOf(f *os.File) int {
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns <= 0 {
		return 80
	}
	return columns
}

func clientOptions(via string, to *reach) ([]client.Option, error) {
	way, err := client.ParseWay(via)
	if err != nil {
		return nil, fmt.Errorf("--via: %w", err)
	}
	config, err := to.tls()
	return []client.Option{client.WithWay(way), client.WithProxy(to.proxy), client.WithConnectTo(to.connect), client.WithTLS(config)}, err
}

// tokenOf returns the source of the token in a file, which is read anew for each call: programs
// renew tokens.
func tokenOf(file string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		text, err := readText(file)
		token := strings.TrimSpace(text)
		switch {
		case err != nil:
		case token == "":
			err = fmt.Errorf("%s is empty", file)
		case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }): // RFC 6750 §2.1
			err = fmt.Errorf("%s has a character that no token has: it must have one token alone, without a name before it", file)
		}
		if err != nil {
			return "", err
		}
		return token, nil
	}
}

// exitCode returns the code of a command that has ended, as shells have it for signals.
func exitCode(e *exec.ExitError) int {
	if s, ok := e.Sys().(interface {
		Signaled() bool
		Signal() syscall.Signal
	}); ok && s.Signaled() {
		return 128 + int(s.Signal())
	}
	return e.ExitCode()
}
