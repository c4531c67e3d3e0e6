package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// A front is how the client calls culvert, while culvert and the suite's server
// speak gRPC. Zero values leave it as the suite has it.
type front struct {
	protocol string
	http     uint
}

// call passes the ClientCompatRequests from stdin to a client, a command, each
// with the address of a culvert that is in front of its server. The client writes
// its answers itself. It returns at the end of stdin, or of ctx.
func call(ctx context.Context, c culvert, client []string, f front) error {
	cmd := command(ctx, client[0], client[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = forward(ctx, in, c, f)
	return errors.Join(err, in.Close(), cmd.Wait())
}

func forward(ctx context.Context, client io.Writer, c culvert, f front) error {
	culverts := map[string]*net.TCPAddr{} // by the address of the suite's server
	for {
		request, err := readMessage(os.Stdin)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		server := fmt.Sprintf("%s:%d", request.bytes(clientHost), request.number(clientPort))
		if culverts[server] == nil {
			args, remove, err := backendTLS(request)
			if err != nil {
				return err
			}
			defer remove()
			if culverts[server], err = c.start(ctx, server, args...); err != nil {
				return err
			}
		}
		if err := writeMessage(client, f.change(request, culverts[server])); err != nil {
			return err
		}
	}
}

// backendTLS returns the flags of a culvert that calls the server as the client is to
// call it. remove removes the files that they name.
func backendTLS(request fields) (args []string, remove func(), err error) {
	credentials, err := parse(request.bytes(clientCredentials))
	if err != nil {
		return nil, nil, err
	}
	return writeFiles(flagFile{"backend-ca", request.bytes(clientServerCert)},
		flagFile{"backend-cert", credentials.bytes(credentialsCert)}, flagFile{"backend-key", credentials.bytes(credentialsKey)})
}

// change returns the request as the client is to make it: without TLS, which culvert
// has with the server.
func (f front) change(request fields, address *net.TCPAddr) fields {
	request = request.without(clientServerCert).without(clientCredentials)
	request = request.setBytes(clientHost, []byte(address.IP.String())).setNumber(clientPort, uint64(address.Port))
	if f.protocol != "" {
		request = request.setNumber(clientProtocol, protocols[f.protocol])
	}
	if f.http != 0 {
		request = request.setNumber(clientHTTPVersion, uint64(f.http))
	}
	return request
}
