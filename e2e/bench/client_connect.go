package main

import (
	"bytes"
	"fmt"
	"io"
)

// connectVersion is the header of Connect's clients.
const connectVersion = "Connect-Protocol-Version"

// newConnectClient returns a maker of clients of Connect's unary calls, with messages in
// a codec: "proto" or "json".
func newConnectClient(codec string) func(*peer) client {
	return func(p *peer) client {
		return newPostClient(p, form{
			contentType: "application/" + codec, header: connectVersion,
			body:    func(message []byte) []byte { return message },
			replies: func(r io.Reader) replies { return &bareReader{r: r} },
		})
	}
}

// newConnectStreamClient is a client of Connect's streams, with messages in protobuf.
func newConnectStreamClient(p *peer) client {
	return newPostClient(p, form{
		contentType: "application/connect+proto", header: connectVersion, body: frame,
		replies: func(r io.Reader) replies { return &connectReader{frames{r: r}} },
	})
}

// bareReader reads a body that is one message. Its HTTP status has said OK.
type bareReader struct {
	r    io.Reader
	read bool
}

// next implements replies.
func (b *bareReader) next() (int, error) {
	if b.read {
		return 0, io.EOF
	}
	b.read = true
	n, err := io.Copy(io.Discard, b.r)
	return int(n), err
}

// connectReader reads the frames of a Connect stream.
type connectReader struct{ frames frames }

// next implements replies.
func (c *connectReader) next() (int, error) {
	flags, payload, err := c.frames.next()
	switch {
	case err != nil:
		return 0, err
	case flags&0x02 == 0:
		return len(payload), nil
	case bytes.Contains(payload, []byte(`"error"`)):
		return 0, fmt.Errorf("the call ended with %q", payload)
	default:
		return 0, io.EOF
	}
}
