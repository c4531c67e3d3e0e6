package bridgetest

import (
	"bufio"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A reply reads the answer to a call over any version of HTTP and in any dialect.
type reply struct {
	dialect dialect
	typed   bool                           // as in dialer
	await   func() (*http.Response, error) // waits for the answer's head

	resp         *http.Response
	frames       io.Reader
	head, tail   metadata.MD
	st           *status.Status
	trailersOnly bool
	err          error
	gzips        int
}

func (r *reply) status() *status.Status { return r.st }
func (r *reply) trailer() metadata.MD   { return r.tail }
func (r *reply) compressed() int        { return r.gzips }

func (r *reply) header() (metadata.MD, error) {
	r.begin()
	if r.resp == nil {
		return nil, r.err
	}
	return r.head, nil
}

// begin reads and checks the head, once.
func (r *reply) begin() {
	if r.resp != nil || r.err != nil {
		return
	}
	resp, err := r.await()
	if err != nil {
		r.err = err
		return
	}
	r.resp = resp
	r.frames = bufio.NewReaderSize(resp.Body, 64<<10)
	if r.dialect == dialectText {
		r.frames = &quantumReader{r: r.frames}
	}
	r.err = r.judgeHead()
}

func (r *reply) judgeHead() (err error) {
	if r.dialect == dialectUnary || r.dialect == dialectPost {
		return r.judgeUnary()
	}
	if r.dialect.isPlain() {
		return r.judgePlain()
	}
	if r.resp.StatusCode != http.StatusOK {
		return &httpError{r.resp.StatusCode}
	}
	ct := r.resp.Header.Get("content-type")
	if r.dialect == dialectGRPC {
		if t, _, err := mime.ParseMediaType(ct); err != nil || t != "application/grpc" && !strings.HasPrefix(t, "application/grpc+") {
			return violation("content-type %q", ct)
		}
	} else if base, _, _ := strings.Cut(r.dialect.contentType(), "+"); ct != base && !strings.HasPrefix(ct, base+"+") || strings.Contains(ct, ";") {
		return violation("content-type %q, asked with %q", ct, r.dialect.contentType())
	}
	if r.head, err = decodeFields(r.resp.Header); err != nil {
		return err
	}
	if _, ok := r.head["grpc-status"]; !ok {
		return nil
	}
	if r.dialect != dialectGRPC {
		return violation("grpc-status in the HTTP header")
	}
	// Trailers-Only: one block that is header and trailer.
	r.trailersOnly = true
	r.tail, r.head = r.head, metadata.MD{}
	r.st, err = takeStatus(r.tail)
	return err
}

func (r *reply) recv() ([]byte, error) {
	r.begin()
	if r.err != nil {
		return nil, r.err
	}
	b, err := r.next()
	r.err = err // nil after a message
	return b, err
}

func (r *reply) next() ([]byte, error) {
	if r.dialect == dialectUnary {
		return r.nextUnary()
	}
	if r.dialect.isPlain() {
		return r.nextPlain()
	}
	flags, payload, err := readFrame(r.frames)
	switch {
	case errors.Is(err, io.EOF) && r.dialect == dialectGRPC:
		return nil, r.endNative()
	case errors.Is(err, io.EOF):
		return nil, violation("the body ended without a last frame")
	case err != nil:
		return nil, err
	case r.trailersOnly:
		return nil, violation("a body after a Trailers-Only head")
	case flags == 0:
		return payload, nil
	case flags == flagCompressed && (r.dialect == dialectGRPC || r.dialect == dialectConnect):
		return r.inflate(payload)
	case flags == flagEndStream && r.dialect == dialectConnect:
		return nil, r.endConnect(payload)
	case flags == flagTrailers && (r.dialect == dialectWeb || r.dialect == dialectText):
		return nil, r.endWeb(payload)
	}
	return nil, violation("frame with flags %#02x", flags)
}

func (r *reply) inflate(payload []byte) ([]byte, error) {
	name, _ := r.dialect.encodingHeaders()
	if enc := r.resp.Header.Get(name); enc != "gzip" {
		return nil, violation("a compressed message and %s %q", name, enc)
	}
	r.gzips++
	return gunzipped(payload)
}

// endNative checks HTTP's trailers. It returns io.EOF if there is a status.
func (r *reply) endNative() (err error) {
	if r.trailersOnly {
		return io.EOF
	}
	if r.tail, err = decodeFields(r.resp.Trailer); err != nil {
		return err
	}
	if len(r.tail) == 0 {
		return errors.New("the stream ended without trailers")
	}
	if r.st, err = takeStatus(r.tail); err != nil {
		return err
	}
	return io.EOF
}

// endWeb checks the trailers frame, and that the body ends with it.
func (r *reply) endWeb(payload []byte) (err error) {
	if r.tail, err = parseBlock(payload); err != nil {
		return err
	}
	if r.st, err = browserStatus(r.tail); err != nil {
		return err
	}
	return r.endAfter("the trailers frame")
}

// endAfter checks that the body ends behind the status. It returns io.EOF then.
func (r *reply) endAfter(last string) error {
	if n, err := io.Copy(io.Discard, r.frames); err != nil || n > 0 {
		r.st = nil
		return violation("after %s: %d bytes, %v", last, n, err)
	}
	return io.EOF
}
