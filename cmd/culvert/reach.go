package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// A reach has the flags of call, dial and doctor that say how this machine reaches an edge.
type reach struct{ proxy, connect, ca, cert, key string }

func (r *reach) add(flags *pflag.FlagSet) {
	flags.StringVar(&r.proxy, "proxy", "", "`URL` of the proxy, in place of HTTPS_PROXY; none for a direct connection")
	flags.StringVar(&r.connect, "connect", "", "`host:port` to connect to, in place of the URL's")
	flags.StringVar(&r.ca, "ca", "", "`file` with the CAs to trust, in PEM, in place of the system's")
	flags.StringVar(&r.cert, "cert", "", "`file` with the client's certificate, in PEM")
	flags.StringVar(&r.key, "key", "", "`file` with its key, in PEM")
}

// certificates reads the client's certificate, if there is one.
func (r *reach) certificates() ([]tls.Certificate, error) {
	if (r.cert == "") != (r.key == "") {
		return nil, errors.New("--cert and --key belong together: give both")
	}
	if r.cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(r.cert, r.key)
	if err != nil {
		return nil, fmt.Errorf("--cert, --key: %w", err)
	}
	return []tls.Certificate{pair}, nil
}

// pool reads the CAs, or returns nil for the system's.
func (r *reach) pool() (*x509.CertPool, error) {
	if r.ca == "" {
		return nil, nil //nolint:nilnil // the system's
	}
	pem, err := os.ReadFile(r.ca)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca: %s has no certificate in PEM", r.ca)
	}
	return pool, nil
}

// maxText bounds a file with a token or header lines, in bytes.
const maxText = 64 << 10

// readText returns the text of a small file, without the byte order mark that Windows writes.
func readText(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if len(b) > maxText {
		err = fmt.Errorf("%s is over %d KiB", file, maxText>>10)
	}
	return strings.TrimPrefix(string(b), "\ufeff"), err
}

// headerLines returns the values of -H, with the lines of the files that they name.
func headerLines(given []string) ([]string, error) {
	var lines []string
	for _, h := range given {
		name, isFile := strings.CutPrefix(h, "@")
		if !isFile {
			lines = append(lines, h)
			continue
		}
		text, err := readText(name)
		if err != nil {
			return nil, fmt.Errorf("-H: %w", err)
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
	}
	return lines, nil
}
