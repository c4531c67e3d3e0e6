package main

import (
	"context"
	"fmt"
	"os"
)

// serve answers the one ServerCompatRequest on stdin with the address of a culvert
// that serves as the request says. It returns when ctx ends.
func serve(ctx context.Context, c culvert, backend string) error {
	request, err := readMessage(os.Stdin)
	if err != nil {
		return err
	}
	address, err := startBackend(ctx, backend, request)
	if err != nil {
		return fmt.Errorf("%s: %w", backend, err)
	}

	credentials, err := parse(request.bytes(serverCredentials)) // empty without TLS
	if err != nil {
		return err
	}
	certificate := credentials.bytes(credentialsCert)
	args, remove, err := writeFiles(flagFile{"tls-cert", certificate}, flagFile{"tls-key", credentials.bytes(credentialsKey)},
		flagFile{"tls-client-ca", request.bytes(serverClientCert)})
	if err != nil {
		return err
	}
	defer remove()
	listening, err := c.start(ctx, address, args...)
	if err != nil {
		return err
	}
	var answer fields
	answer = answer.setBytes(answerCert, certificate).setBytes(answerHost, []byte(listening.IP.String())).setNumber(answerPort, uint64(listening.Port))
	if err := writeMessage(os.Stdout, answer); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// startBackend starts a gRPC server of the suite without TLS and returns its address.
// It ends with ctx. The limit of a message is the server's, since culvert adds a
// detail to its own statuses that the suite doesn't expect.
func startBackend(ctx context.Context, program string, request fields) (string, error) {
	cmd := command(ctx, program)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	var plain fields
	plain = plain.setNumber(serverProtocol, protocols["grpc"]).setNumber(serverHTTPVersion, 2).
		setNumber(serverReceiveLimit, request.number(serverReceiveLimit))
	if err := writeMessage(in, plain); err != nil {
		return "", err
	}
	answer, err := readMessage(out)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s:%d", answer.bytes(answerHost), answer.number(answerPort)), nil
}
