package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/client/doctor"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// exitUntold means that doctor can't tell whether bidirectional streams are possible, or can't write it.
const exitUntold = 3

func newDoctorCommand() *cobra.Command {
	var o doctor.Options
	var headers []string
	var to reach
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor URL",
		Short: "Find out what the network between this machine and an edge lets through",
		Long: `doctor tests the way from this machine to the service at the URL, in at most 30 s.
It looks at names, TCP, the proxy, and TLS, which a box may decrypt. Then it tries
native gRPC, WebSockets, and gRPC-Web over HTTP/1.1. It prints its findings, the
setting for the client, and sentences for the network team.

With --idle, doctor also leaves connections alone for so long, and says what ends them.
With --origin, it tests what a page of this origin may do: the preflight, and the
Content-Security-Policy of the page.

The service is any culvert. With serve --doctor, doctor can tell more: whether the
certificate is the service's own, and what happens to large and long calls.

-H has headers of the calls, such as a token. doctor sends them only to a server with a
valid certificate, or on this machine, and prints no value.

Exit codes: 0 if bidirectional streams are possible, 1 if not, 2 for a wrong use, 3 if
doctor can't tell, and 130 after Ctrl-C.`,
		Example: `  culvert doctor https://edge.example.com
  culvert doctor https://edge.example.com --proxy http://proxy.corp.example:3128
  culvert doctor https://edge.example.com --origin https://app.example.com
  culvert doctor https://edge.example.com --idle 2m
  culvert doctor https://edge.example.com --json -H @token.txt`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("write one URL, such as https://edge.example.com")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			quietLibraries()
			var err error
			if o.Headers, err = headerLines(headers); err != nil {
				return &misuse{err}
			}
			o.Proxy, o.ConnectTo = to.proxy, to.connect
			if o.TLS, err = to.tls(); err != nil {
				return &misuse{err}
			}
			if o.Idle < 0 {
				return &misuse{fmt.Errorf("--idle: %v is negative: write 2m", o.Idle)}
			}
			status := cmd.ErrOrStderr()
			if isTerminal(status) {
				o.Progress = (&progress{out: status}).note
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			r, err := doctor.Run(ctx, args[0], o)
			if o.Progress != nil {
				fmt.Fprint(status, terminal.ClearLine)
			}
			switch {
			case err != nil:
				return &misuse{err}
			case ctx.Err() != nil:
				return interrupted(cmd.ErrOrStderr(), "")
			}
			show := printReport
			if asJSON {
				show = printJSON
			}
			if err := show(cmd.OutOrStdout(), r); err != nil {
				_, _ = io.WriteString(cmd.ErrOrStderr(), errorText(err)) // there is no other place to report it
				return &exit{exitUntold}
			}
			switch r.Bidirectional {
			case doctor.Yes:
				return nil
			case doctor.No:
				return &exit{exitFailed}
			}
			return &exit{exitUntold}
		},
	}
	flags := cmd.Flags()
	to.add(flags)
	flags.BoolVar(&to.insecure, "insecure", false, "accept any certificate, and send no header of -H")
	flags.StringArrayVarP(&headers, "header", "H", nil, "`header` of the calls, such as 'authorization: Bearer …', or @FILE with one a line; may be repeated")
	flags.StringVar(&o.Origin, "origin", "", "test what a page of this `origin` may do")
	flags.DurationVar(&o.Idle, "idle", 0, "leave connections alone for this `duration`, and say what ends them")
	flags.BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

// A progress shows the findings as they come, in one line of a terminal.
type progress struct {
	out  io.Writer
	mu   sync.Mutex
	done int
}

func (p *progress) note(f doctor.Finding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	fmt.Fprintf(p.out, "%sprobe %d, %s: %s", terminal.ClearLine, p.done, f.Probe, f.Result)
}

func printJSON(out io.Writer, r *doctor.Report) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

func printReport(out io.Writer, r *doctor.Report) error {
	var b strings.Builder
	b.WriteString(r.URL)
	if r.Proxy != "" {
		fmt.Fprintf(&b, ", through the proxy %s", r.Proxy)
	}
	b.WriteString("\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Probe, f.Result, f.Took.Round(time.Millisecond), f.Evidence)
	}
	_ = w.Flush() // a strings.Builder doesn't fail
	fmt.Fprintf(&b, "\nBidirectional streams are possible: %s\n", r.Bidirectional)
	settings := doctor.Clients()
	for _, v := range r.Verdicts {
		fmt.Fprintf(&b, "\n%s\n", v.Words)
		ask := v.Ask
		if ask != "" {
			ask = `"` + ask + `"`
		}
		for _, line := range [...][2]string{
			{"Evidence", v.Evidence},
			{"Programs", settings.Programs[v.Programs]},
			{"Pages", settings.Pages[v.Pages]},
			{"Network team", ask},
			{"More", documents + "/" + v.Docs},
		} {
			if line[1] != "" {
				fmt.Fprintf(&b, "  %s: %s\n", line[0], line[1])
			}
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\nNote: %s\n", note)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
