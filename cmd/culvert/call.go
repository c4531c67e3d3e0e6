package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/client/call"
)

// exitStatus is added to the code of a status, as grpcurl does, and exitInterrupted is what
// shells have for Ctrl-C.
const (
	exitStatus      = 64
	exitInterrupted = 128 + int(syscall.SIGINT)
)

func newCallCommand() *cobra.Command {
	var cfg call.Config
	var to reach
	var data, output string
	var headers []string
	cmd := &cobra.Command{
		Use:   "call URL package.Service/Method | list [service] | describe [symbol]",
		Short: "Call a method by any protocol, as a page or a program would",
		Long: `call makes a call by any protocol that culvert speaks, prints the replies as JSON, and
the status if it isn't OK. It takes the types of messages from server reflection, or
from a file that protoc or buf has written (--protoset).

-d has the requests: JSON values one after another. -d @FILE reads a file, -d @- standard
input. Each value is sent once it is complete, and each reply is printed when it
arrives. Without -d the request is {}, or no message if the method streams requests.

--via names the protocol. grpc-web, grpc-web-text, connect, connect-json and websocket
(grpc-websockets) are those of pages; h2ts is HTTP/2 inside a WebSocket, which dial
names websocket. With message-json and sse the URL is that of a route for bare messages,
which may have {service} and {method}. auto takes the first of grpc, h2ts and grpc-web
that works.

list prints the services, or the methods of one. describe prints the source of a
service, a method, a message or an enum, and a message with all fields.

-v tells on standard error what crosses the wire, frame by frame. It hides the values
of headers with credentials. call sends these only to a server with a valid certificate,
or on this machine.

With --output json, standard output has JSON lines. The first is {"header": {…}}, and
each reply is {"message": …}. The last is {"status": {"code": 0, "name": "OK"},
"trailer": {…}}, or {"error": "…"} if the call has no status.

Exit codes:
  0    the status is OK
  1    there is no connection, or no status
  2    wrong use, such as malformed JSON
  64+  64 plus the code of another status, such as 69 for NOT_FOUND
  130  interrupted by Ctrl-C, which cancels the call`,
		Example: `  culvert call http://localhost:8080 list
  culvert call http://localhost:8080 describe culvert.demo.v1.Demo
  culvert call http://localhost:8080 culvert.demo.v1.Demo/Echo -d '{"text": "hello"}'
  culvert call http://localhost:8080 culvert.demo.v1.Demo/Countdown -d '{"from": 3}' --via grpc-web -v
  culvert call http://localhost:8080 culvert.demo.v1.Demo/Converse -d @- --via websocket
  culvert call https://edge.example.com shop.v1.Cart/Get -H @token.txt --origin https://app.example.com
  culvert call http://localhost:8080/events/{service}/{method} culvert.demo.v1.Demo/Countdown --via sse`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("write the URL, and behind it a method, list or describe")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			quietLibraries()
			cfg.URL, cfg.Words = args[0], args[1:]
			for _, name := range [...]string{"subprotocol", "first-message", "half-close"} {
				if cfg.Via != "message-json" && cmd.Flags().Changed(name) {
					return &misuse{fmt.Errorf("--%s is for --via message-json alone", name)}
				}
			}
			cfg.Proxy, cfg.ConnectTo = to.proxy, to.connect
			var err error
			if cfg.TLS, err = to.tls(); err != nil {
				return &misuse{err}
			}
			if cfg.Headers, err = headerLines(headers); err != nil {
				return &misuse{err}
			}
			if cmd.Flags().Changed("data") {
				cfg.Data = &data
			}
			if cfg.FirstMessage, err = firstMessage(cfg.FirstMessage); err != nil {
				return &misuse{err}
			}
			switch output {
			case "text":
			case "json":
				cfg.JSON = true
			default:
				return &misuse{fmt.Errorf("--output: %q is neither text nor json", output)}
			}
			cfg.Version = thisBuild().Version
			cfg.Stdin, cfg.StdinIsTerminal = os.Stdin, isTerminal(os.Stdin)
			cfg.Stdout = cmd.OutOrStdout()
			cfg.Stderr, cfg.StderrIsTerminal = cmd.ErrOrStderr(), isTerminal(cmd.ErrOrStderr())
			return runCall(cmd.Context(), cfg)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&data, "data", "d", "", "the requests in `JSON`; @FILE reads them from a file, @- from standard input")
	flags.StringVar(&cfg.Via, "via", "auto", "`protocol`: "+strings.Join(call.Vias(), ", "))
	flags.StringArrayVarP(&headers, "header", "H", nil, "`header` of the call, such as 'x-user: alice', or @FILE with one a line; may be repeated")
	flags.StringArrayVar(&cfg.ProtoSets, "protoset", nil, "`file` of descriptors, in place of server reflection; may be repeated")
	flags.StringVar(&cfg.Origin, "origin", "", "call as a page of this `origin` would, with the preflight, and say what the page gets")
	flags.DurationVar(&cfg.MaxTime, "max-time", 0, "`time` for everything, which is also the call's deadline; 0s is no limit")
	flags.BoolVarP(&cfg.Verbose, "verbose", "v", false, "tell what crosses the wire, frame by frame")
	flags.StringVar(&output, "output", "text", "`form` of the output: text or json")
	to.add(flags)
	flags.BoolVar(&to.insecure, "insecure", false, "don't verify the server's certificate")
	flags.StringVar(&cfg.Subprotocol, "subprotocol", "", "with --via message-json: the WebSocket's `subprotocol` (message.subprotocol)")
	flags.StringVar(&cfg.FirstMessage, "first-message", "", "with --via message-json: the `text` that becomes metadata (message.first_message), such as a token; or @FILE")
	flags.StringVar(&cfg.HalfClose, "half-close", "", "with --via message-json: the `text` that ends the requests (message.half_close)")
	mustComplete(cmd.RegisterFlagCompletionFunc("via", cobra.FixedCompletions(call.Vias(), cobra.ShellCompDirectiveNoFileComp)))
	mustComplete(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// firstMessage returns a text, or that of a file without the line's end.
func firstMessage(given string) (string, error) {
	name, isFile := strings.CutPrefix(given, "@")
	if !isFile {
		return given, nil
	}
	text, err := readText(name)
	if err != nil {
		return "", fmt.Errorf("--first-message: %w", err)
	}
	return strings.TrimRight(text, "\r\n"), nil
}

// interrupted tells of the signal that has ended a command.
func interrupted(out io.Writer, what string) error {
	_, _ = io.WriteString(out, "culvert: interrupted"+what+"\n") // there is no other place to report it
	return &exit{exitInterrupted}
}

// runCall runs it until the first signal.
func runCall(ctx context.Context, cfg call.Config) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	err := call.Run(ctx, cfg)
	if err != nil && ctx.Err() != nil {
		return interrupted(cfg.Stderr, ": the call is cancelled")
	}
	if told, ok := errors.AsType[*call.StatusError](err); ok {
		return &exit{min(exitStatus+int(told.Status.Code()), 255)}
	}
	if wrong, ok := errors.AsType[*call.Misuse](err); ok {
		return &misuse{wrong.Err}
	}
	return err
}
