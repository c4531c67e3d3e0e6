package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The commands that scripts have besides testscript's own:
//
//	start NAME ARG...         run culvert-kube beside the script
//	await NAME PATTERN        wait for a line of its standard error; named groups
//	                          of the pattern become variables
//	signal NAME TERM|INT      send it a signal
//	exits NAME CODE           wait for its end
//	certificates              write ca.pem, and server and client (.pem, .key)
//	ask URL [FILE]            get a page, or post a file in JSON, as the client
//	                          that ca.pem and client.pem are for; prints status and body
var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"ask":          ask,
	"await":        await,
	"certificates": certificates,
	"exits":        exits,
	"signal":       sendSignal,
	"start":        start,
}

// patience is for what takes no time: a test that waits so long has failed.
const patience = 30 * time.Second

// A job is a program that runs beside a script.
type job struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the program has ended and all was read

	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed and replaced with each line
}

// jobsKey is where a script keeps its jobs.
type jobsKey struct{}

func setUp(env *testscript.Env) error {
	env.Values[jobsKey{}] = map[string]*job{}
	env.Vars = append(env.Vars, "GORACE=atexit_sleep_ms=0") // it waits a second at each end, else
	return nil
}

func jobOf(ts *testscript.TestScript, name string) *job {
	j := ts.Value(jobsKey{}).(map[string]*job)[name]
	if j == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return j
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: start name arg...")
	}
	program, err := exec.LookPath("culvert-kube")
	ts.Check(err)
	j := &job{cmd: exec.CommandContext(context.Background(), program, args[1:]...), ended: make(chan struct{}), changed: make(chan struct{})}
	j.cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR", "GORACE"} {
		if value := ts.Getenv(name); value != "" {
			j.cmd.Env = append(j.cmd.Env, name+"="+value)
		}
	}
	stderr, err := j.cmd.StderrPipe()
	ts.Check(err)
	ts.Check(j.cmd.Start())
	ts.Value(jobsKey{}).(map[string]*job)[args[0]] = j
	go j.read(stderr)
	ts.Defer(func() {
		_ = j.cmd.Process.Kill() // it may have ended
		<-j.ended
		ts.Logf("[%s]\n%s", args[0], strings.Join(j.lines, "\n"))
	})
}

func (j *job) read(stderr io.Reader) {
	scanner := bufio.NewScanner(stderr)
	for scanner.Scan() {
		j.mu.Lock()
		j.lines = append(j.lines, scanner.Text())
		close(j.changed)
		j.changed = make(chan struct{})
		j.mu.Unlock()
	}
	_ = j.cmd.Wait() // exits looks at the state
	close(j.ended)
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await name pattern")
	}
	j := jobOf(ts, args[0])
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	late := time.After(patience)
	for {
		j.mu.Lock()
		lines, changed := j.lines, j.changed
		j.mu.Unlock()
		for _, line := range lines {
			if m := pattern.FindStringSubmatch(line); m != nil {
				for i, name := range pattern.SubexpNames() {
					if name != "" {
						ts.Setenv(name, m[i])
					}
				}
				return
			}
		}
		select {
		case <-changed:
		case <-j.ended:
			j.mu.Lock()
			all := len(lines) == len(j.lines)
			j.mu.Unlock()
			if all {
				ts.Fatalf("%s ended without a line like %q", args[0], args[1])
			}
		case <-late:
			ts.Fatalf("%s writes no line like %q", args[0], args[1])
		}
	}
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal name TERM|INT")
	}
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT}
	ts.Check(jobOf(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: exits name code")
	}
	j := jobOf(ts, args[0])
	select {
	case <-j.ended:
	case <-time.After(patience):
		ts.Fatalf("%s doesn't end", args[0])
	}
	if got := fmt.Sprint(j.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s exited with %s, want %s", args[0], got, args[1])
	}
}

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

// certificates makes new ones each time.
func certificates(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: certificates")
	}
	write := func(name, kind string, der []byte) {
		ts.Check(os.WriteFile(ts.MkAbs(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	issue := func(name string, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ts.Check(err)
		template.NotAfter = time.Now().Add(time.Hour)
		template.Subject = pkix.Name{CommonName: name}
		if signer == nil {
			signer = key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		ts.Check(err)
		write(name+".pem", "CERTIFICATE", der)
		der, err = x509.MarshalPKCS8PrivateKey(key)
		ts.Check(err)
		write(name+".key", "PRIVATE KEY", der)
		return key
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	signer := issue("ca", ca, ca, nil)
	issue("server", &x509.Certificate{
		SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, signer)
	issue("client", &x509.Certificate{
		SerialNumber: big.NewInt(3), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca, signer)
}
