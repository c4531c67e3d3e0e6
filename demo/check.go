package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/demo/demopb"
)

// checkTimeout bounds all of Check.
const checkTimeout = 20 * time.Second

// checkTokenInterval makes the answers quick: nobody reads along.
const checkTokenInterval = 5 * time.Millisecond

// freePorts is where Check listens unless told otherwise: it disturbs nobody.
const freePorts = "127.0.0.1:0"

var errCheckTimeout = fmt.Errorf("the checks took longer than %v", checkTimeout)

// Check does without a browser what the page does, prints a line for each part
// and returns an error if one of them failed. Cfg.Listen is empty for free
// ports.
func Check(ctx context.Context, cfg Config) error {
	if cfg.Listen == "" {
		cfg.Listen = freePorts
	}
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, errCheckTimeout)
	defer cancel()
	term := newTerminal(cfg.Out, cfg.Colour)
	tell := BridgeConfig{CallEnded: func(Call) {}, Refused: func(Refusal) {}}
	return withStage(ctx, cfg, tell, newServer(checkTokenInterval), func(ctx context.Context, s *stage) error {
		return runChecks(ctx, term, s)
	})
}

// A check does one thing and says what it saw.
type check struct {
	name string
	run  func(context.Context) (detail string, err error)
}

func runChecks(ctx context.Context, term *terminal, s *stage) error {
	direct := newChecker(dialable(s.pageListener.Addr()))
	defer direct.close()
	proxied := newChecker(dialable(s.proxyListener.Addr()))
	defer proxied.close()
	checks := []check{
		{"the page", direct.page},
		{"native gRPC: a conversation", direct.native},
		{"gRPC over WebSocket: a conversation", direct.socket},
		{"gRPC-Web: a server stream", direct.webStream},
		{"gRPC-Web: a call that fails, with its details", direct.webFailure},
		{"HTTP/2 in a WebSocket: a conversation by grpc-go", direct.tunnel},
		{"through the inspecting proxy, native gRPC fails as it should", func(ctx context.Context) (string, error) { return proxied.nativeFails(ctx, s.inspector) }},
		{"through the inspecting proxy, gRPC over WebSocket goes on", proxied.socket},
		{"through the inspecting proxy, gRPC-Web goes on: a server stream", proxied.webStream},
		{"through the inspecting proxy, gRPC-Web goes on: a call that fails", proxied.webFailure},
		{"through the inspecting proxy, HTTP/2 in a WebSocket goes on", proxied.tunnel},
	}
	failed := 0
	for _, c := range checks {
		detail, err := c.run(ctx)
		if err != nil {
			failed++
			if cause := context.Cause(ctx); cause != nil {
				err = fmt.Errorf("%w: %w", cause, err)
			}
		}
		term.check(c.name, detail, err)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(checks))
	}
	return nil
}

// checker is the clients that speak to one address.
type checker struct {
	address   string
	client    *http.Client
	transport *http.Transport
}

func newChecker(address string) *checker {
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	// No Proxy: what is checked is this machine, whatever the environment says.
	t := &http.Transport{Protocols: http1, DisableCompression: true}
	return &checker{address: address, transport: t, client: &http.Client{Transport: t}}
}

func (c *checker) close() { c.transport.CloseIdleConnections() }

// page wants the page with all that it loads.
func (c *checker) page(ctx context.Context) (string, error) {
	total := 0
	for _, name := range []string{"", "page.js", "page.css", "demo/api/info"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.address+"/"+name, http.NoBody)
		if err != nil {
			return "", err
		}
		res, err := c.client.Do(r)
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close() // read to its end
		if err != nil || res.StatusCode != http.StatusOK || len(body) == 0 {
			return "", fmt.Errorf("/%s: %s, %d bytes, %w", name, res.Status, len(body), err)
		}
		total += len(body)
	}
	return byteCount(int64(total)), nil
}

// native wants a conversation by grpc-go over plain HTTP/2.
func (c *checker) native(ctx context.Context) (string, error) {
	h, err := converseNative(ctx, c.address, new(localAddrs).dial)
	return h.describe(), err
}

// nativeFails wants the same to fail, and the proxy to be the reason.
func (c *checker) nativeFails(ctx context.Context, p *inspector) (string, error) {
	var local localAddrs
	_, err := converseNative(ctx, c.address, local.dial)
	if err == nil {
		return "", errors.New("it went through")
	}
	if code := status.Code(err); code != codes.Unavailable {
		return "", fmt.Errorf("it failed with %v, want UNAVAILABLE: %w", code, err)
	}
	seen := p.refusedFrom(local.all())
	if len(seen) == 0 {
		return "", fmt.Errorf("it failed before the proxy saw it: %w", err)
	}
	return codeName(status.Code(err)) + ", the proxy saw " + seen[0], nil
}

// tunnel wants a conversation by grpc-go over HTTP/2 inside a WebSocket.
func (c *checker) tunnel(ctx context.Context) (string, error) {
	h, err := converseNative(ctx, "culvert", func(ctx context.Context, _ string) (net.Conn, error) {
		return dialTunnel(ctx, c.client, "http://"+c.address)
	})
	return h.describe(), err
}

// socket wants a conversation in the way of a browser's WebSocket client.
func (c *checker) socket(ctx context.Context) (string, error) {
	stream, err := dialTurns(ctx, c.client, "http://"+c.address, echoed)
	if err != nil {
		return "", err
	}
	defer func() { _ = stream.conn.CloseNow() }() // closed by the server already, if all went well
	h, err := converse(stream)
	if err != nil {
		return "", err
	}
	return h.describe(), checkEcho(stream.ending)
}

// webStream wants a countdown, and its trailers.
func (c *checker) webStream(ctx context.Context) (string, error) {
	var got []string
	end, err := callWeb(ctx, c.client, "http://"+c.address, demopb.Demo_Countdown_FullMethodName, echoed,
		&demopb.CountdownRequest{From: 5, IntervalMs: 10},
		func(message []byte) error {
			res := new(demopb.CountdownResponse)
			err := proto.Unmarshal(message, res)
			got = append(got, fmt.Sprint(res.GetLeft()))
			return err
		})
	if err != nil {
		return "", err
	}
	if want := "5 4 3 2 1 0"; strings.Join(got, " ") != want {
		return "", fmt.Errorf("got %v, want %s", got, want)
	}
	return strings.Join(got, " "), checkEcho(end)
}

// webFailure wants INVALID_ARGUMENT with the fields that are wrong.
func (c *checker) webFailure(ctx context.Context) (string, error) {
	end, err := callWeb(ctx, c.client, "http://"+c.address, demopb.Demo_Reserve_FullMethodName, echoed,
		&demopb.ReserveRequest{Seats: 12, Day: "someday"},
		func([]byte) error { return errors.New("got a message, want none") })
	st, ok := status.FromError(err)
	if !ok || st.Code() != codes.InvalidArgument {
		return "", fmt.Errorf("got %w, want INVALID_ARGUMENT", err)
	}
	var fields []string
	reason := ""
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				fields = append(fields, v.GetField())
			}
		case *errdetails.ErrorInfo:
			reason = d.GetReason()
		}
	}
	if want := []string{"name", "seats", "day"}; !slices.Equal(fields, want) || reason != "RESERVATION_INVALID" {
		return "", fmt.Errorf("the details name %q and %q, want %q and RESERVATION_INVALID", fields, reason, want)
	}
	return fmt.Sprintf("%s, BadRequest %s, ErrorInfo %s", codeName(st.Code()), strings.Join(fields, " "), reason), checkEcho(end)
}

// echoed is the metadata that the checks send and want back.
var echoed = metadata.Pairs(echoPrefix+"word", "one", echoPrefix+"word", "two", echoPrefix+"raw-bin", "\x00\xff")

// checkEcho reports metadata that didn't come back.
func checkEcho(end ending) error {
	for name, got := range map[string][]string{
		"word":    end.header.Get(echoHeaderPrefix + "word"),
		"raw-bin": end.header.Get(echoHeaderPrefix + "raw-bin"),
	} {
		trailer := end.trailer.Get(echoTrailerPrefix + name)
		want := echoed.Get(echoPrefix + name)
		if strings.Join(got, ", ") != strings.Join(want, ", ") || strings.Join(trailer, ", ") != strings.Join(want, ", ") {
			return fmt.Errorf("metadata %s%s came back as header %q and trailer %q, want %q", echoPrefix, name, got, trailer, want)
		}
	}
	return nil
}

func (h heard) describe() string {
	return fmt.Sprintf("%d tokens, %d tool call", h.end.GetTokens(), h.end.GetToolCalls())
}
