// The example api-gateway puts one WebSocket gateway before four gRPC services.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"regexp"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/examples/api-gateway/gatewaypb"
	"github.com/culvert-grpc/culvert/examples/internal/run"
)

func main() { run.Main(example) }

func example(ctx context.Context, check bool) error {
	services := map[string]*run.Server{}
	var variables []string
	for name, register := range map[string]func(*grpc.Server){
		"ACCOUNTS": func(s *grpc.Server) { gatewaypb.RegisterAccountsServer(s, accounts{}) },
		"CATALOG":  func(s *grpc.Server) { gatewaypb.RegisterCatalogServer(s, catalog{}) },
		"BASKET":   func(s *grpc.Server) { gatewaypb.RegisterBasketServer(s, basket{}) },
		"SUPPORT":  func(s *grpc.Server) { gatewaypb.RegisterSupportServer(s, support{}) },
	} {
		server := newServer()
		register(server)
		service, err := run.ServeGRPC(ctx, server)
		if err != nil {
			return err
		}
		defer service.Stop()
		services[name] = service
		variables = append(variables, name+"="+service.Address)
	}
	vite, err := run.StartVite(ctx, "api-gateway/page")
	if err != nil {
		return err
	}
	defer vite.Stop()
	variables = append(variables, "PAGE="+vite.Address)
	culvert, err := run.StartCulvert(ctx, "api-gateway/culvert.yaml", variables...)
	if err != nil {
		return err
	}
	defer culvert.Stop()
	run.Say("culvert", "listens at ws://%s/", culvert.Address)

	conn, err := connect(culvert.Address, token)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // fails only if it is closed already
	if err := shop(ctx, conn); err != nil {
		return err
	}
	if err := refusals(ctx, culvert.Address); err != nil {
		return err
	}

	if check { // the page needs all services
		services["CATALOG"].Stop()
		run.Say("catalog", "has stopped: the other services still answer")
		_, err = search(ctx, conn, "tea")
		if err := refused("a search", err); err != nil {
			return err
		}
		if err := whoAmI(ctx, conn); err != nil {
			return err
		}
	}

	metrics := "http://" + culvert.Health + "/metrics"
	if err := printMetrics(ctx, metrics); err != nil || check {
		return err
	}
	run.Say("page", "open http://%s/", culvert.Address)
	run.Say("metrics", "are at %s; Ctrl-C ends the example", metrics)
	return culvert.Wait(ctx)
}

// refusals makes two calls that fail: with another token, and to a service without a route.
func refusals(ctx context.Context, address string) error {
	stranger, err := connect(address, "Bearer guessed")
	if err != nil {
		return err
	}
	defer func() { _ = stranger.Close() }() // as above
	_, err = gatewaypb.NewAccountsClient(stranger).WhoAmI(ctx, &gatewaypb.WhoAmIRequest{})
	if err := refused("WhoAmI of a stranger", err); err != nil {
		return err
	}
	err = stranger.Invoke(ctx, "/gateway.v1.Payroll/Raise", &gatewaypb.WhoAmIRequest{}, &gatewaypb.WhoAmIResponse{})
	return refused("a service without a route", err)
}

// printMetrics prints what culvert has counted of calls and WebSockets.
func printMetrics(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // it was only read
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	shown := regexp.MustCompile(`^(culvert_calls_total|culvert_connections_total|rpc_server_call_duration_seconds_count)\{.* [1-9]`)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if shown.MatchString(lines.Text()) {
			run.Say("metrics", "%s", lines.Text())
		}
	}
	return lines.Err()
}
