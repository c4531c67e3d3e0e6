package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/top"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

func newCallsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "calls",
		Short: "List the calls that are open now in a running culvert",
		Long: `calls asks a culvert, by default the one on this host, at its admin address, and lists
the calls that are open now. calls takes the admin address, its certificate and its
token (admin.token) from the same sources as serve.

WAITS FOR tells what a call waits for, and SINCE for how long. The client or the
backend doesn't read what is ready for it. Or the call waits for memory, for a place
on a connection to the backend, or for the first answer. culvert looks once a second.
LAST is the time since the last message. IN and OUT are messages and bytes from and to
the client.

calls exits with 0 if it has printed them, also if there are none. It exits with 1,
and prints the reason, if it can't reach culvert.`,
		Example: `  culvert calls
  culvert calls --slow
  culvert calls --order bytes --limit 10 --method shop.v1.Orders
  culvert calls --json --admin unix:/run/culvert/admin.sock
  culvert calls --admin https://culvert-1.example.com:9902 --token-file admin.token`,
		Args: noArguments,
	}
	reach := addAdminReach(cmd)
	flags := cmd.Flags()
	var slow, asJSON bool
	var order, method string
	var limit int
	flags.BoolVar(&slow, "slow", false, "list only calls that wait, in the order waiting unless --order sets another")
	flags.BoolVar(&asJSON, "json", false, "print the answer of GET /calls, indented")
	flags.StringVar(&order, "order", "", "the `order`, of which the first calls are listed: "+strings.Join(admin.Orders, ", ")+" (default age)")
	flags.IntVar(&limit, "limit", 100, "the most calls that are listed, as a `number`")
	flags.StringVar(&method, "method", "", "list only calls whose method has this `part` in it")
	mustComplete(cmd.RegisterFlagCompletionFunc("order", cobra.FixedCompletions(admin.Orders, cobra.ShellCompDirectiveNoFileComp)))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		query := url.Values{"limit": {strconv.Itoa(limit)}}
		if slow {
			query.Set("waits_for", admin.WaitsForAny)
			query.Set("order", "waiting")
		}
		if order != "" {
			query.Set("order", order)
		}
		if method != "" {
			query.Set("method", method)
		}
		if _, err := admin.ParseCallQuery(query.Encode()); err != nil {
			return &misuse{fmt.Errorf("--%w", err)}
		}
		client, err := reach.client(cmd.Context(), cannotAsk)
		if err != nil {
			return err
		}
		var all admin.Calls
		if err := client.get(cmd.Context(), "/calls?"+query.Encode(), &all); err != nil {
			return err
		}
		return printCalls(cmd.OutOrStdout(), &all, asJSON)
	}
	return cmd
}

// cannotAsk is what follows if the admin address is off.
const cannotAsk = "culvert can't be asked: set it to an address, such as 127.0.0.1:9902, and restart culvert"

func printCalls(out io.Writer, all *admin.Calls, asJSON bool) error {
	if asJSON {
		text, err := json.MarshalIndent(all, "", "  ")
		if err != nil {
			return err
		}
		_, err = out.Write(append(terminal.AppendJSON(nil, text), '\n'))
		return err
	}
	width := 0
	if f, ok := out.(*os.File); ok && isTerminal(f) {
		width = columnsOf(f)
	}
	return printLines(out, top.Calls(all, width))
}

func printLines(out io.Writer, lines []string) error {
	_, err := io.WriteString(out, strings.Join(lines, "\n")+"\n")
	return err
}
