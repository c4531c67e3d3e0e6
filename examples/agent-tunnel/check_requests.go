package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// openCalls reads from culvert's metrics how many calls it carries by a transport.
func (c *check) openCalls(ctx context.Context, transport string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.culvert.Health+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	page, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	sum := 0
	line := regexp.MustCompile(`(?m)^culvert_open_calls\{.*transport="` + regexp.QuoteMeta(transport) + `".*\} (\d+)$`)
	for _, match := range line.FindAllSubmatch(page, -1) {
		n, err := strconv.Atoi(string(match[1]))
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// do sends a request to an agent, or to the next one if name is empty.
func (c *check) do(ctx context.Context, name, method, target string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+name+".localhost"+target, nil)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.ContentLength = -1 // in chunks: only such a body has trailers
		r.Trailer = http.Header{"X-Sum": nil}
		r.Body = &summed{body, sha256.New(), r.Trailer}
	}
	res, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body) // the status is the error
		_ = res.Body.Close()
		return nil, fmt.Errorf("%s %s to %q: %s: %s", method, target, name, res.Status, bytes.TrimSpace(text))
	}
	return res, nil
}

// A summed body has its sum as a trailer.
type summed struct {
	io.Reader
	sum     hash.Hash
	trailer http.Header
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	_, _ = s.sum.Write(p[:n]) // never fails
	if errors.Is(err, io.EOF) {
		s.trailer.Set("X-Sum", hex.EncodeToString(s.sum.Sum(nil)))
	}
	return n, err
}

func (s *summed) Close() error { return nil }

// sum sends a body to /sum, and checks what comes back: both trailers must have arrived.
func (c *check) sum(ctx context.Context, name, target string, body io.Reader, size int) error {
	res, err := c.do(ctx, name, http.MethodPost, target, body)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if got, want := strings.TrimSpace(string(text)), strconv.Itoa(size)+" bytes"; got != want || res.Trailer.Get("X-Same") != "true" || res.Trailer.Get("X-Sum") == "" {
		return fmt.Errorf("%q counted %q with the trailers %v, want %q and X-Same: true", name, got, res.Trailer, want)
	}
	return nil
}

// zeros is a body of zeros.
func zeros(size int) io.Reader { return io.LimitReader(zero{}, int64(size)) }

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }
