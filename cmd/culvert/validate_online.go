package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/files"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/keys"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

// An askedBackend is what validate --online finds of a backend.
type askedBackend struct {
	config.BackendSection
	asks   *bridge.Inquiry
	inFile bool // its descriptors are in a file

	services []string // by reflection, or in the file
	text     string   // for people
	lacks    error    // why it has no descriptors: no file, and no reflection
	err      error    // it doesn't answer
}

// askBackends connects to all backends, and prints what it finds. It returns an error for
// each backend that doesn't answer, and for each method of a route with messages in JSON
// whose descriptors can't be found.
func askBackends(cmd *cobra.Command, loaded *config.Loaded, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	backends, closeAll, err := openBackends(loaded) //nolint:contextcheck // no context ends the reading of files
	if err != nil {
		return err
	}
	defer closeAll()
	var asking sync.WaitGroup
	for _, b := range backends {
		asking.Go(func() { b.ask(ctx, loaded, patience) })
	}
	asking.Wait()
	var errs []error
	for _, b := range backends {
		if b.err != nil {
			errs = append(errs, b.err)
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "backend %s (%s): %s\n", b.Name, b.Address, b.text)
		if b.lacks != nil && loaded.Connect.JSON == "convert" {
			fmt.Fprintf(cmd.OutOrStdout(), "note: culvert can't convert JSON for the backend %s: to let clients send JSON, turn on server reflection at the backend, or set %s.descriptors\n", b.Name, b.Section)
		}
	}
	routes := wiring.Bridge(loaded).Routes
	for i := range routes {
		errs = append(errs, askRoute(ctx, cmd.OutOrStdout(), loaded, i, &routes[i], backends)...)
	}
	return errors.Join(errs...)
}

// openBackends returns the backends of a configuration, with connections of their own.
func openBackends(loaded *config.Loaded) (backends []*askedBackend, closeAll func(), err error) {
	cfg := wiring.Bridge(loaded)
	ring, err := keys.Open(loaded, slog.New(slog.DiscardHandler), nil, io.Discard)
	if err != nil {
		return nil, nil, err
	}
	described, err := files.OpenDescriptors(loaded, slog.New(slog.DiscardHandler))
	if err != nil {
		ring.Close(keys.Patience)
		return nil, nil, err
	}
	ring.Secure(cfg.Backends)
	described.Describe(cfg.Backends, loaded)
	closeAll = func() {
		for _, b := range backends {
			_ = b.asks.Close() // nobody needs it any more
		}
		ring.Close(keys.Patience)
	}
	for i, b := range loaded.BackendSections() {
		asks, err := bridge.Inquire(cfg.Backends[i].Backend, cfg.Limits, cfg.Words)
		if err != nil {
			closeAll()
			return nil, nil, loaded.Errorf(b.Section+".address", "%w", err)
		}
		asked := &askedBackend{BackendSection: b, asks: asks}
		if source := cfg.Backends[i].Descriptors; source != nil {
			asked.inFile, asked.services = true, source.Descriptors().Services()
		}
		backends = append(backends, asked)
	}
	return backends, closeAll, nil
}

// ask finds out whether the backend answers, and where its descriptors are.
func (b *askedBackend) ask(ctx context.Context, loaded *config.Loaded, patience time.Duration) {
	services, err := b.asks.Services(ctx)
	switch code := status.Code(err); {
	case err == nil:
		b.text = fmt.Sprintf("answers, services by server reflection: %d", len(services))
	case errors.Is(err, bridge.ErrNoReflection):
		b.text, b.lacks = "answers, no server reflection", err
	case ctx.Err() != nil, code == codes.DeadlineExceeded, code == codes.Unavailable:
		b.err = loaded.Errorf(b.Section+".address", "the backend %s (%s) doesn't answer within %v: %w: start it, or correct the address and %s.tls", b.Name, b.Address, patience, err, b.Section)
	default:
		b.text, b.lacks = fmt.Sprintf("answers, but doesn't list its services: %v", err), err
	}
	if b.inFile {
		b.lacks = nil
		b.text += fmt.Sprintf("; services in %s: %d", b.Descriptors, len(b.services))
	} else {
		b.services = services
	}
}

// askRoute looks for the descriptors of the methods of a route with messages in JSON.
func askRoute(ctx context.Context, out io.Writer, loaded *config.Loaded, i int, r *bridge.Route, backends []*askedBackend) (errs []error) {
	if r.Message == nil || !slices.Contains([]string{bridge.FramingJSON, bridge.FramingSSE, bridge.FramingNDJSON}, r.Message.Framing) {
		return nil
	}
	key := config.Entry("routes", i) + ".message.method"
	if r.Message.Method == "" {
		key = config.Entry("routes", i) + ".match.methods"
	}
	for _, b := range backends {
		inSplit := slices.ContainsFunc(r.Split, func(t report.Target) bool { return t.Backend == b.Name })
		if b.err != nil || r.Backend != b.Name && !inSplit {
			continue
		}
		for _, pattern := range r.Outgoing() {
			found, err := b.look(ctx, pattern)
			if err != nil {
				errs = append(errs, loaded.Errorf(key, "%s of the backend %s: %w", pattern, b.Name, err))
			} else if found != "" {
				fmt.Fprintf(out, "route %s: %s of the backend %s %s\n", r.Name, pattern, b.Name, found)
			}
		}
	}
	return errs
}

// look looks for the descriptors of a method, or of a service if the pattern has all of
// its methods. It returns what it has found. Of patterns of services it finds nothing.
func (b *askedBackend) look(ctx context.Context, pattern string) (found string, err error) {
	service, method, _ := strings.Cut(pattern, "/")
	switch {
	case strings.Contains(service, "*"):
		return "", nil
	case strings.Contains(method, "*"):
		found = "has descriptors"
		if err = b.lacks; err == nil && !slices.Contains(b.services, service) {
			err = fmt.Errorf("the service %s: %w", service, bridge.ErrUnknownMethod)
		}
	default:
		var m bridge.MethodInfo
		if m, err = b.asks.Method(ctx, "/"+pattern); err == nil {
			found = fmt.Sprintf("takes %s%s, and sends %s%s", streamed(m.ClientStreams), m.Request, streamed(m.ServerStreams), m.Reply)
		}
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, b.remedy(err))
	}
	return found, err
}

func streamed(is bool) string {
	if is {
		return "a stream of "
	}
	return ""
}

// remedy says what to do about descriptors that can't be found.
func (b *askedBackend) remedy(err error) string {
	switch unknown := errors.Is(err, bridge.ErrUnknownMethod); {
	case unknown && b.inFile:
		return "correct the name, or write " + b.Descriptors + " anew from the backend's .proto files"
	case unknown:
		return "correct the name, or start a version of the backend that has it"
	default:
		return "turn on server reflection at the backend, or set " + b.Section + ".descriptors"
	}
}
