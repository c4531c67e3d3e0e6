package wire

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

// answer reads a gRPC-Web answer: frames in a body, the last with trailers.
type answer struct {
	body   io.Reader
	header http.Header
	status *Status
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) Status() *Status     { return a.status }

// recv returns the next message, or io.EOF after trailers and the body's end.
func (a *answer) recv() ([]byte, error) {
	if a.status != nil {
		return nil, io.EOF
	}
	flags, payload, err := ReadFrame(a.body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCut, unexpected(err))
	}
	if flags == 0 {
		return payload, nil
	}
	s, err := lastStatus(flags, payload)
	if err != nil {
		return nil, err
	}
	if n, err := io.Copy(io.Discard, a.body); n != 0 || err != nil {
		return nil, fmt.Errorf("%d bytes behind the trailers frame, then: %w", n, unexpected(err))
	}
	a.status = s
	return nil, io.EOF
}

// checkAnswer wants what a call of gRPC, or of gRPC-Web, is always answered with.
func checkAnswer(resp *http.Response, contentType string, web bool) error {
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %s", resp.Status)
	}
	if got := resp.Header.Get("Content-Type"); got != contentType {
		return fmt.Errorf("content-type %q, want %q", got, contentType)
	}
	if web && resp.Header.Get("Grpc-Status") != "" {
		return errors.New("grpc-status in the HTTP header of a gRPC-Web answer")
	}
	return nil
}

// unexpected makes an end that had no right to be there one that can't be taken
// for the end of a call.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
