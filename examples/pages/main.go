// The example pages has a plain page and one with React, which talk over bidirectional
// streams. Vite's dev server serves them, behind culvert.
package main

import (
	"context"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/examples/internal/run"
	"github.com/culvert-grpc/culvert/examples/pages/roompb"
)

func main() { run.Main(example) }

func example(ctx context.Context, check bool) error {
	server := grpc.NewServer()
	roompb.RegisterRoomServer(server, &room{members: map[chan *roompb.Line]struct{}{}})
	rooms, err := run.ServeGRPC(ctx, server)
	if err != nil {
		return err
	}
	defer rooms.Stop()
	vite, err := run.StartVite(ctx, "pages")
	if err != nil {
		return err
	}
	defer vite.Stop()
	culvert, err := run.StartCulvert(ctx, "pages/culvert.yaml", "ROOM="+rooms.Address, "VITE="+vite.Address)
	if err != nil {
		return err
	}
	defer culvert.Stop()
	if check {
		return talk(ctx, culvert.Address)
	}
	run.Say("page", "open http://%s/", culvert.Address)
	return culvert.Wait(ctx)
}
