// Command transfer carries bytes through culvert in one call, one way, and checks
// that they come whole and in order. It is a program of its own so that the race
// detector of the tests doesn't slow it down.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

func main() {
	address := flag.String("address", "", "where culvert listens")
	transport := flag.String("transport", string(wire.GRPC), "one of package wire's")
	up := flag.Bool("up", false, "from the client to the backend, else the other way")
	messages := flag.Int("messages", 0, "how many messages")
	size := flag.Int("size", 64<<10, "the bytes of one message's payload")
	id := flag.String("id", "", "the call's name in the backend's records")
	flag.Parse()
	if err := run(*address, wire.Transport(*transport), *up, *messages, *size, *id); err != nil {
		fmt.Fprintln(os.Stderr, "transfer:", err)
		os.Exit(1)
	}
}

func run(address string, transport wire.Transport, up bool, messages, size int, id string) error {
	ctx := context.Background()
	conn, err := wire.Dial(ctx, transport, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if up {
		return upload(ctx, conn, messages, size, id)
	}
	return download(ctx, conn, messages, size, id)
}

func upload(ctx context.Context, conn *wire.Conn, messages, size int, id string) error {
	call, err := conn.Open(ctx, wire.ClientStream, wire.Metadata(id, probe.Script{}))
	if err != nil {
		return err
	}
	defer call.Close()
	for i := range uint64(messages) {
		if err := call.Send(wire.Request(i, size)); err != nil {
			_, why := wire.Drain(call, 0)
			return fmt.Errorf("request %d: %w (%w, %v)", i, err, why, call.Status())
		}
	}
	if err := call.CloseSend(); err != nil {
		return err
	}
	reply, err := wire.RecvReply(call, 0)
	if err != nil {
		return ended(call, err)
	}
	if reply.GetReceived() != uint64(messages) {
		return fmt.Errorf("the backend read %d requests of %d", reply.GetReceived(), messages)
	}
	_, err = call.Recv()
	return ended(call, err)
}

func download(ctx context.Context, conn *wire.Conn, messages, size int, id string) error {
	call, err := conn.Post(ctx, wire.ServerStream,
		wire.Metadata(id, probe.Script{Replies: messages, ReplyBytes: size}), wire.Request(0, 0))
	if err != nil {
		return err
	}
	defer call.Close()
	got, err := wire.Drain(call, 0)
	if err != nil {
		return err
	}
	if got != uint64(messages) {
		return fmt.Errorf("%d replies of %d (%v)", got, messages, call.Status())
	}
	return ended(call, io.EOF)
}

// ended returns nil if the call ended with OK.
func ended(call wire.Call, err error) error {
	switch {
	case err == nil:
		return errors.New("one reply too many")
	case !errors.Is(err, io.EOF) || call.Status() == nil:
		return err
	case call.Status().Code != 0:
		return fmt.Errorf("the call ended with %v", call.Status())
	}
	return nil
}
