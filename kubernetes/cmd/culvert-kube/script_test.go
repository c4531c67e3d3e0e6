package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/culvert-grpc/culvert/internal/parts/script"
)

// The commands that scripts have besides testscript's own and package script's:
//
//	ask URL [FILE]            get a page, or post a file in JSON, as the client
//	                          that ca.pem and client.pem are for; prints status and body
var scriptCommands = script.Commands(map[string]func(*testscript.TestScript, bool, []string){"ask": ask})

// patience is for what takes no time: a test that waits so long has failed.
const patience = 30 * time.Second

// ask opens a connection of its own.
func ask(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: [!] ask url [file]")
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if ca, err := os.ReadFile(ts.MkAbs("ca.pem")); err == nil {
		config.RootCAs.AppendCertsFromPEM(ca)
	}
	if pair, err := tls.LoadX509KeyPair(ts.MkAbs("client.pem"), ts.MkAbs("client.key")); err == nil {
		config.Certificates = []tls.Certificate{pair}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: patience}
	var response *http.Response
	var err error
	if len(args) == 1 {
		response, err = client.Get(args[0])
	} else {
		response, err = client.Post(args[0], "application/json", strings.NewReader(ts.ReadFile(args[1])))
	}
	if neg {
		if err == nil {
			response.Body.Close()
			ts.Fatalf("%s answers %s", args[0], response.Status)
		}
		fmt.Fprintln(ts.Stderr(), err)
		return
	}
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s\n%s\n", response.Status, body)
}
