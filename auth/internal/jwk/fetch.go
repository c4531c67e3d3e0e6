package jwk

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/object"
)

const (
	maxRedirects   = 3
	maxHeaderBytes = 64 << 10
	maxFileBytes   = 1 << 20 // of a CA bundle; Debian's has 220 KiB
	maxTokenBytes  = 32 << 10
)

var errSlow = errors.New("no complete answer in time")

// An Access has the files for fetches from a host. Both are read again at each fetch, since
// Kubernetes replaces them.
type Access struct {
	CAFile    string // PEM of the authorities that vouch for the host; the system's if empty
	TokenFile string // a bearer token for the host; none if empty
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// A fetcher fetches documents, through the proxy that the environment names (HTTPS_PROXY). It
// keeps no connections.
type fetcher struct {
	dial dialFunc // nil for the network
}

// document fetches what u names, at most limit bytes, and tells for how long it is fresh, 0 if
// the server doesn't say. Errors name the host, and neither path nor query.
func (f fetcher) document(ctx context.Context, u *url.URL, access Access, limit int64) (data []byte, fresh time.Duration, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", u.Host, told(ctx, err))
		}
	}()
	client, request, err := f.prepare(ctx, u, access)
	if err != nil {
		return nil, 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	if response.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("HTTP status %d", response.StatusCode)
	}
	data, err = io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, 0, err
	}
	if int64(len(data)) > limit {
		return nil, 0, fmt.Errorf("the document is over %d KiB", limit>>10)
	}
	// Servers of files send sets with all kinds of types, so the type decides nothing. A login
	// page is worth a hint.
	if kind := response.Header.Get("Content-Type"); !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return nil, 0, fmt.Errorf("the document isn't a JSON object: its content type is %s", object.Quote(kind))
	}
	return data, freshness(response.Header), nil
}

// prepare makes a client for one fetch, and its request.
func (f fetcher) prepare(ctx context.Context, u *url.URL, access Access) (*http.Client, *http.Request, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if access.CAFile != "" {
		var err error
		if config.RootCAs, err = ReadCAs(access.CAFile); err != nil {
			return nil, nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, nil, errors.New("not a URL to fetch")
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	request.Header.Set("User-Agent", "culvert")
	if access.TokenFile != "" {
		token, err := ReadToken(access.TokenFile)
		if err != nil {
			return nil, nil, err
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{
		CheckRedirect: stays(u),
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            f.dial,
			TLSClientConfig:        config,
			DisableKeepAlives:      true, // minutes pass until the next fetch
			DisableCompression:     true, // the bound is on bytes that are read
			MaxResponseHeaderBytes: maxHeaderBytes,
		},
	}
	return client, request, nil
}

// stays allows redirects within the origin of u alone: another host may be anybody's, and
// would be sent the bearer token of this one.
func stays(u *url.URL) func(*http.Request, []*http.Request) error {
	return func(next *http.Request, via []*http.Request) error {
		switch {
		case next.URL.Scheme != u.Scheme || next.URL.Host != u.Host || next.URL.User != nil:
			return fmt.Errorf("redirected to %s://%s: configure the address that it should be", next.URL.Scheme, next.URL.Host)
		case len(via) > maxRedirects:
			return fmt.Errorf("redirected more than %d times", maxRedirects)
		}
		return nil
	}
}

// told returns err without the URL that net/http puts in front, and with the cause of a
// context that ended.
func told(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if about, ok := errors.AsType[*url.Error](err); ok {
		return about.Err
	}
	return err
}

// freshness returns how long a document may be used, by its max-age (RFC 9111 §5.2.2.1) and
// Age (§4.2.3); 0 if the server doesn't say. A second is the least: it stands for "not at all".
func freshness(header http.Header) time.Duration {
	for directive := range strings.SplitSeq(strings.Join(header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return time.Second
		case "max-age":
			age, _ := strconv.ParseUint(header.Get("Age"), 10, 31) // 0 without one
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if errors.Is(err, strconv.ErrRange) {
				seconds, err = 1<<31-1, nil // RFC 9111 §1.2.2
			}
			if err != nil {
				return 0
			}
			return max(time.Second, time.Duration(int64(seconds)-int64(age))*time.Second) // both have 31 bits
		}
	}
	return 0
}

// ReadCAs reads the authorities of an Access.
func ReadCAs(name string) (*x509.CertPool, error) {
	pem, err := readFile(name, maxFileBytes)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no PEM certificate: begin it with -----BEGIN CERTIFICATE-----", name)
	}
	return pool, nil
}

// ReadToken reads the bearer token of an Access. If there is no such file, the error doesn't have
// its name: that may be the token, in place of its file.
func ReadToken(name string) (string, error) {
	data, err := readFile(name, maxTokenBytes)
	if path, is := errors.AsType[*fs.PathError](err); is {
		return "", fmt.Errorf("the file of the bearer token: %w", path.Err)
	}
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	illegal := func(c rune) bool { return c <= ' ' || c > '~' }
	if token == "" || strings.ContainsFunc(token, illegal) {
		return "", fmt.Errorf("%s has no bearer token: it must hold one, and nothing else", name)
	}
	return token, nil
}

// readFile reads a regular file: a pipe could block.
func readFile(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is over %d KiB", name, limit>>10)
	}
	return data, nil
}
