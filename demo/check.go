package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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

const checkTimeout = 20 * time.Second

// checkTokenInterval makes the answers fast, because nobody watches them.
const checkTokenInterval = 5 * time.Millisecond

// freePorts is the default address of Check: it collides with nothing.
const freePorts = "127.0.0.1:0"

var errCheckTimeout = fmt.Errorf("the checks took longer than %v", checkTimeout)

// Check makes the page's calls without a browser and prints a line for each. It
// returns an error if a check failed. If cfg.Listen is empty, it uses free ports.
func Check(ctx context.Context, cfg Config) error {
	cfg.Listen = cmp.Or(cfg.Listen, freePorts)
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, errCheckTimeout)
	defer cancel()
	term := newTerminal(cfg.Out, cfg.Colour)
	tell := BridgeConfig{CallEnded: func(Call) {}, Refused: func(Refusal) {}}
	return withStage(ctx, cfg, tell, newServer(checkTokenInterval), func(ctx context.Context, s *stage) error {
		return runChecks(ctx, term, s)
	})
}

func runChecks(ctx context.Context, term *terminal, s *stage) error {
	direct := newChecker(dialable(s.pageListener.Addr()))
	defer direct.client.CloseIdleConnections()
	proxied := newChecker(dialable(s.proxyListener.Addr()))
	defer proxied.client.CloseIdleConnections()
	checks := []struct {
		name string
		run  func(context.Context) (detail string, err error)
	}{
		{"the page", direct.page},
		{"without culvert: native gRPC, three calls", func(ctx context.Context) (string, error) { return callLane(ctx, s, laneDirect, false) }},
		{"without culvert, through the inspecting proxy: native gRPC fails, as expected", func(ctx context.Context) (string, error) { return directFails(ctx, s) }},
		{"native gRPC: a conversation", direct.native},
		{"gRPC over WebSocket: a conversation", direct.socket},
		{"gRPC-Web: a server stream", direct.webStream},
		{"gRPC-Web: a failing call with error details", direct.webFailure},
		{"HTTP/2 in a WebSocket: three calls", func(ctx context.Context) (string, error) { return callLane(ctx, s, laneCulvert, false) }},
		{"through the inspecting proxy: native gRPC fails, as expected", func(ctx context.Context) (string, error) { return proxied.nativeFails(ctx, s.inspector) }},
		{"through the inspecting proxy: gRPC over WebSocket, a conversation", proxied.socket},
		{"through the inspecting proxy: gRPC-Web, a server stream", proxied.webStream},
		{"through the inspecting proxy: gRPC-Web, a failing call with error details", proxied.webFailure},
		{"through the inspecting proxy: HTTP/2 in a WebSocket, three calls", func(ctx context.Context) (string, error) { return callLane(ctx, s, laneCulvert, true) }},
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

type checker struct {
	address string
	client  *http.Client
}

func newChecker(address string) *checker {
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	// No Proxy: the checks stay on this machine, whatever the environment says.
	return &checker{address, &http.Client{Transport: &http.Transport{Protocols: http1, DisableCompression: true}}}
}

// page expects the page and its files.
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

// native expects a conversation with grpc-go over HTTP/2 in plaintext.
func (c *checker) native(ctx context.Context) (string, error) {
	h, err := converseNative(ctx, c.address, new(localAddrs).dial)
	return h.describe(), err
}

// nativeFails expects the same conversation to fail because of the proxy.
func (c *checker) nativeFails(ctx context.Context, p *inspector) (string, error) {
	seenFrom := p.watch()
	var local localAddrs
	_, err := converseNative(ctx, c.address, local.dial)
	if err == nil {
		return "", errors.New("it went through")
	}
	if code := status.Code(err); code != codes.Unavailable {
		return "", fmt.Errorf("it failed with %v, want UNAVAILABLE: %w", code, err)
	}
	seen := seenFrom(local.all())
	if len(seen) == 0 {
		return "", fmt.Errorf("it failed before the proxy saw it: %w", err)
	}
	return codeName(status.Code(err)) + ", the proxy saw " + seen[0], nil
}

// callLane expects the backend to answer each of the native client's calls.
func callLane(ctx context.Context, s *stage, by lane, viaProxy bool) (string, error) {
	r, err := s.callNative(ctx, by, viaProxy)
	if err != nil {
		return "", err
	}
	var got []string
	for _, call := range r.Calls {
		if !call.Answered {
			return "", fmt.Errorf("%s: the backend didn't answer: %s: %s", call.Method, call.Code, call.Message)
		}
		got = append(got, call.Method+" "+call.Code)
	}
	if want := "Converse OK, Countdown OK, Reserve INVALID_ARGUMENT"; strings.Join(got, ", ") != want {
		return "", fmt.Errorf("got %s, want %s", strings.Join(got, ", "), want)
	}
	return strings.Join(got, ", "), nil
}

// directFails expects the proxy to refuse the native client's connection to the
// backend.
func directFails(ctx context.Context, s *stage) (string, error) {
	r, err := s.callNative(ctx, laneDirect, true)
	if err != nil {
		return "", err
	}
	for _, call := range r.Calls {
		if want := codeName(codes.Unavailable); call.Code != want || call.Answered {
			return "", fmt.Errorf("%s ended with %s, want %s: %s", call.Method, call.Code, want, call.Message)
		}
	}
	if len(r.Seen) == 0 {
		return "", errors.New("the calls failed before the proxy saw them")
	}
	return r.Calls[0].Code + ", the proxy saw " + r.Seen[0], nil
}

// socket expects a conversation of a browser's WebSocket client.
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

// webStream expects a countdown and its trailers.
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

// webFailure expects INVALID_ARGUMENT with the invalid fields.
func (c *checker) webFailure(ctx context.Context) (string, error) {
	end, err := callWeb(ctx, c.client, "http://"+c.address, demopb.Demo_Reserve_FullMethodName, echoed,
		wrongReservation,
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

// echoed is the metadata that the clients send and expect back.
var echoed = metadata.Pairs(echoPrefix+"word", "one", echoPrefix+"word", "two", echoPrefix+"raw-bin", "\x00\xff")

// checkEcho returns an error if the backend didn't echo the metadata.
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
