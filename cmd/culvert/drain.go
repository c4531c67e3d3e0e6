package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
	"github.com/culvert-grpc/culvert/config"
)

// newDrainCommand returns the command, which asks a running culvert to drain. SIGTERM is in
// internal/serve/run.go.
func newDrainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Take a running culvert out of service, without ending its calls",
		Long: `drain asks a culvert, by default the one on this host, at its admin address to drain. Readiness
(/readyz) falls at once, so that load balancers send new calls elsewhere. culvert
serves new calls for the time in --delay, and then refuses them with UNAVAILABLE
(DRAINING). Running calls continue until culvert gets SIGTERM. The delay ends early
if culvert can connect to no backend, and has no fallback.

A second drain can only shorten the delay. drain takes the admin address, its
certificate and its token (admin.token) from the same sources as serve. In Kubernetes,
run it as the preStop hook.

drain exits with 0 when culvert refuses new calls, or has ended meanwhile. It exits
with 1, and prints the reason, if it can't reach culvert, or if another culvert
answers in its place.`,
		Example: `  culvert drain
  culvert drain --delay 5s
  culvert drain --admin unix:/run/culvert/admin.sock
  culvert drain --admin https://culvert-1.example.com:9902 --token-file admin.token`,
		Args: noArguments,
	}
	reach := addAdminReach(cmd)
	var delay time.Duration
	cmd.Flags().DurationVar(&delay, "delay", 0, "`duration` for which culvert still serves new calls")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if delay < 0 {
			return &misuse{fmt.Errorf("--delay: %v is below zero: write 0s or more", delay)}
		}
		client, err := reach.client(cmd.Context(), "culvert takes no requests: set it to an address, such as 127.0.0.1:9902, or send SIGTERM")
		if err != nil {
			return err
		}
		return drain(cmd.Context(), cmd.OutOrStdout(), client, delay)
	}
	return cmd
}

// fixedAddress returns the address of another culvert, which in takes from the first of some
// keys of the configuration. off is what follows if there is none, and the remedy; port is an
// example. It also returns the configuration with these keys.
func fixedAddress(s *settings, keys []string, port, off string, in func(*config.Loaded) string) (string, *config.Loaded, error) {
	c, err := s.loadKeys(keys...)
	if err != nil {
		return "", nil, err
	}
	address := in(c)
	switch _, set, _ := net.SplitHostPort(address); {
	case address == "":
		return "", nil, c.Errorf(keys[0], "is off, so %s", off)
	case set == "0":
		return "", nil, c.Errorf(keys[0], "has port 0, so culvert chooses a port at each start: set a port, such as %s", port)
	}
	return address, c, nil
}

// An adminClient asks the admin address of a culvert.
type adminClient struct {
	address string // for errors
	base    string // the URL without a path. Each culvert answers to the name localhost
	token   string // "": none
	http    http.Client
}

// The patience for an answer.
const (
	adminPatience = 5 * time.Second // in one request
	busyPatience  = 15 * time.Second
)

func newAdminClient(address string) *adminClient {
	client := sockets.Client(address)
	client.Timeout = adminPatience
	return &adminClient{address: address, base: "http://localhost", http: client}
}

// Why a request has no answer.
var (
	errUnreachable = errors.New("can't reach culvert: check that it runs, and that admin.listen (--admin) is the same for both")
	errBusy        = errors.New("answers too many requests already")
	errToken       = errors.New("culvert wants its token: name the file with --token-file, or use culvert's configuration file (--config), whose admin.token names it")
	errOtherToken  = errors.New("culvert refuses the token: the file of its admin.token has another one. Name that file with --token-file")
)

// errOther means that another culvert has taken the address, which serves new calls.
var errOther = errors.New("another culvert answers, and no drain has begun there: the one that began to drain has ended, or both have the same socket (LISTEN_FDS): for a drain, give each culvert an admin address of its own")

// get asks for a page of JSON, which has the time at which culvert looked.
func (c *adminClient) get(ctx context.Context, path string, into any) error {
	var looked struct{ At time.Time }
	var body json.RawMessage
	return c.ask(ctx, http.MethodGet, path, &body, func() bool {
		return json.Unmarshal(body, &looked) == nil && !looked.At.IsZero() && json.Unmarshal(body, into) == nil
	})
}

// maxAnswer bounds an answer.
const maxAnswer = 8 << 20

// ask sends a request, and decodes the answer. valid reports whether the answer is of culvert.
func (c *adminClient) ask(ctx context.Context, method, path string, into any, valid func() bool) error {
	req, err := c.request(ctx, method, path)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if inURL, ok := errors.AsType[*url.Error](err); ok { // the URL isn't the address
		err = inURL.Err
	}
	switch {
	case isUntrusted(err):
		return fmt.Errorf("%s: %w: name the CAs of culvert's certificate with --admin-ca", c.address, err)
	case err != nil:
		return fmt.Errorf("%s: %w: %w", c.address, sockets.Cause(err), errUnreachable)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: %w: %w", c.address, err, errUnreachable)
	}
	switch resp.StatusCode {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return fmt.Errorf("%s: %w", c.address, errBusy)
	case http.StatusUnauthorized:
		if c.token != "" {
			return fmt.Errorf("%s: %w", c.address, errOtherToken)
		}
		return fmt.Errorf("%s: %w", c.address, errToken)
	case http.StatusBadRequest, http.StatusForbidden:
		text := strings.TrimSpace(printable(string(body)))
		if strings.HasSuffix(text, "HTTPS server.") { // net/http's
			text = "the address speaks TLS: write --admin https://HOST:PORT, or use culvert's configuration file (--config)"
		}
		return fmt.Errorf("%s: %s", c.address, text)
	}
	if resp.StatusCode != http.StatusOK || json.Unmarshal(body, into) != nil || !valid() {
		path, _, _ = strings.Cut(path, "?")
		return fmt.Errorf("%s answers %s with %s, and not as culvert does: check that admin.listen (--admin) is the address of culvert", c.address, path, printable(resp.Status))
	}
	return nil
}

// patiently asks for the state of the drain, and asks again until busyPatience ends: culvert
// may be too busy to answer.
func (c *adminClient) patiently(ctx context.Context, method, query string) (s admin.DrainState, err error) {
	for began := time.Now(); ; {
		err = c.ask(ctx, method, "/drain"+query, &s, func() bool { return s.State != "" })
		if !isBusy(err, method) || time.Since(began) > busyPatience {
			return s, err
		}
		select {
		case <-time.After(drainEvery / 10):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// isGone reports whether an error shows that no process has the address. A time-out
// doesn't: culvert may be too busy.
func isGone(err error) bool {
	return errors.Is(err, sockets.ErrRefused) || errors.Is(err, fs.ErrNotExist)
}

// isBusy reports whether culvert may answer another attempt. While it ends, it also cuts
// connections.
func isBusy(err error, method string) bool {
	var late interface{ Timeout() bool } // EAGAIN of a full queue of a unix socket, too
	return errors.Is(err, errBusy) || errors.As(err, &late) && late.Timeout() ||
		method == http.MethodGet && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET))
}

// drainEvery is the interval in which drain reports.
const drainEvery = time.Second

// drain begins a drain and reports until culvert refuses new calls.
func drain(ctx context.Context, out io.Writer, c *adminClient, delay time.Duration) error {
	s, err := c.patiently(ctx, http.MethodPost, "?delay="+delay.String())
	if err != nil {
		return err
	}
	for reported := (time.Time{}); s.State == admin.DrainDelayed; {
		left := time.Duration(s.RefusesIn * float64(time.Second)).Round(100 * time.Millisecond)
		if left > 0 && time.Since(reported) >= drainEvery {
			reported = time.Now()
			_, _ = fmt.Fprintf(out, "culvert isn't ready, and refuses new calls in %v; running calls: %d\n", left, s.Calls) // what counts is the drain
		}
		select {
		case <-time.After(drainEvery / 10): // the delay may end early
		case <-ctx.Done():
			return ctx.Err()
		}
		if s, err = c.patiently(ctx, http.MethodGet, ""); isGone(err) {
			_, err = fmt.Fprintln(out, "culvert has ended")
			return err
		} else if err != nil {
			return err
		}
	}
	if s.State != admin.DrainRefusing {
		return fmt.Errorf("%s: %w", c.address, errOther)
	}
	_, err = fmt.Fprintf(out, "culvert refuses new calls; running calls, which continue until SIGTERM: %d\n", s.Calls)
	return err
}
