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
type reach struct {
	proxy, connect, ca, cert, key string
	insecure                      bool // never with dial
}

func (r *reach) add(flags *pflag.FlagSet) {
	flags.StringVar(&r.proxy, "proxy", "", "`URL` of the proxy, in place of HTTPS_PROXY; none for a direct connection")
	flags.StringVar(&r.connect, "connect", "", "`host:port` to connect to, in place of the URL's")
	flags.StringVar(&r.ca, "ca", "", "`file` with the CAs to trust, in PEM, in place of the system's")
	flags.StringVar(&r.cert, "cert", "", "`file` with the client's certificate, in PEM")
	flags.StringVar(&r.key, "key", "", "`file` with its key, in PEM")
}

// tls reads the CAs and the client's certificate, where they are given.
func (r *reach) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: r.insecure} //nolint:gosec // the user asks for it
	if r.ca != "" {
		pem, err := os.ReadFile(r.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca: %s has no certificate in PEM", r.ca)
		}
	}
	if (r.cert == "") != (r.key == "") {
		return nil, errors.New("--cert and --key belong together: give both")
	}
	if r.cert != "" {
		pair, err := tls.LoadX509KeyPair(r.cert, r.key)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
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
