// Command conformance puts culvert between the two ends of the conformance suite
// of Connect, gRPC and gRPC-Web (connectrpc.com/conformance). The suite's runner
// starts it in place of one end. It starts culvert, and that end's program of the
// suite on the other side of culvert.
//
// "conformance server CULVERT BACKEND" is a server under test: the suite's clients
// call culvert, which is in front of BACKEND, a gRPC server of the suite.
//
// "conformance client CULVERT CLIENT..." is a client under test: CLIENT calls culvert
// in place of the suite's server. That server gives answers that no library gives,
// which tests culvert's side towards a backend, and CLIENT: a client of the suite, or
// @culvert/web.
//
// "conformance json CULVERT MODULE" is a program under test for another suite,
// protobuf's own: culvert converts its messages from JSON and to JSON. MODULE is the
// directory of protobuf's Go module, which has the suite's types.
//
// "conformance descriptors MODULE FILE" writes the descriptors of the first suite's
// service, for backend.descriptors, and of what a client under test reads. MODULE is the directory of that suite's Go module.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	protocol := flag.String("protocol", "", "with client: the `protocol` between CLIENT and culvert: connect, grpc or grpc-web")
	version := flag.Uint("http", 0, "with client: the `version` of HTTP between CLIENT and culvert")
	config := flag.String("config", "", "`file` with culvert's configuration")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// A runner that is killed can't stop this program.
	err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0, 0, 0)
	switch args := flag.Args(); {
	case err != nil:
	case len(args) == 3 && args[0] == "server":
		err = serve(ctx, culvert{args[1], *config}, args[2])
	case len(args) >= 3 && args[0] == "client":
		err = call(ctx, culvert{args[1], *config}, args[2:], front{protocol: *protocol, http: *version})
	case len(args) == 3 && args[0] == "json":
		err = convertJSON(ctx, culvert{args[1], *config}, args[2])
	case len(args) == 3 && args[0] == "descriptors":
		err = writeDescriptors(args[1], args[2])
	default:
		err = errors.New("usage: conformance server CULVERT PROGRAM, conformance client CULVERT PROGRAM..., conformance json CULVERT MODULE, conformance descriptors MODULE FILE")
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// culvert is the program under test.
type culvert struct{ program, config string }

// start starts culvert in front of the gRPC server at backend and returns the address
// that it listens on. culvert ends with ctx.
func (c culvert) start(ctx context.Context, backend string, args ...string) (*net.TCPAddr, error) {
	args = slices.Concat([]string{"serve", "--config", c.config, "--backend", backend, "--listen", "127.0.0.1:0", "--health-listen", "off"}, args)
	cmd := command(ctx, c.program, args...)
	cmd.Env = append(os.Environ(), "CULVERT_ADMIN_LISTEN=off")
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var said []string
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			go func() { _, _ = io.Copy(io.Discard, log) }() // ends with culvert
			return net.ResolveTCPAddr("tcp", line.Address)
		}
		said = append(said, lines.Text())
	}
	return nil, errors.Join(fmt.Errorf("culvert doesn't listen: %q", said), lines.Err(), cmd.Wait())
}

// command is exec.CommandContext for a program that also ends with this one.
func command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// A flagFile is a file that a flag of culvert names.
type flagFile struct {
	flag string
	data []byte
}

// writeFiles writes the files that have data into a new directory, and returns the
// flags that name them. remove removes the directory.
func writeFiles(files ...flagFile) (args []string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return nil, nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // left behind in a temporary directory
	for _, f := range files {
		if len(f.data) == 0 {
			continue
		}
		name := filepath.Join(dir, f.flag+".pem")
		if err := os.WriteFile(name, f.data, 0o600); err != nil {
			remove()
			return nil, nil, err
		}
		args = append(args, "--"+f.flag, name)
	}
	return args, remove, nil
}
