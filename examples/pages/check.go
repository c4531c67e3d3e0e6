package main

import (
	"context"
	"fmt"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/culvert-grpc/culvert/examples/internal/run"
	"github.com/culvert-grpc/culvert/examples/pages/roompb"
)

// talk does without a browser what the pages do: it gets both, and talks in the room.
func talk(ctx context.Context, address string) error {
	for _, path := range []string{"/", "/react/"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, http.NoBody)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_ = res.Body.Close() // only the status counts
		run.Say("page", "%s: %s", path, res.Status)
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", path, res.Status)
		}
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // fails only if it is closed already
	stream, err := roompb.NewRoomClient(conn).Join(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&roompb.Line{Name: "check", Text: "hello"}); err != nil {
		return err
	}
	for {
		line, err := stream.Recv()
		if err != nil {
			return err
		}
		if line.GetText() != "" {
			run.Say("room", "%s: %s, %d here", line.GetName(), line.GetText(), line.GetMembers())
			return nil
		}
	}
}
