package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A diagnosis is the report of culvert doctor.
type diagnosis struct {
	Bidirectional string `json:"bidirectional"`
	Verdicts      []struct{ ID, Evidence string }
	Findings      []struct{ Probe, Result, Evidence string }
}

func (d diagnosis) ids() []string {
	var all []string
	for _, v := range d.Verdicts {
		all = append(all, v.ID)
	}
	return all
}

// doctorsTime bounds a run without --idle.
const doctorsTime = 30 * time.Second

// diagnose runs culvert doctor, and checks that its exit code says what the report does, and
// that it keeps its time.
func diagnose(t *testing.T, idle time.Duration, args ...string) (d diagnosis) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+idle)
	defer cancel()
	cmd := exec.CommandContext(ctx, culvertProgram, append([]string{"doctor", "--json", "--idle", idle.String()}, args...)...)
	cmd.Env = environment()
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	late, began := lateness(t), time.Now()
	_ = cmd.Run() // its code is below
	took := time.Since(began)
	if most := doctorsTime + late(); idle == 0 && took > most {
		t.Errorf("it took %v, want at most %v", took, most)
	}
	t.Logf("a diagnosis in %v", took)
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatalf("%v: %s%s", err, &out, &problems)
	}
	if want := map[string]int{"yes": 0, "no": 1, "can't tell": 3}[d.Bidirectional]; cmd.ProcessState.ExitCode() != want {
		t.Errorf("exit code %d, want %d for bidirectional streams %q", cmd.ProcessState.ExitCode(), want, d.Bidirectional)
	}
	if strings.Contains(out.String(), "secret") {
		t.Errorf("the report has a password: %s", &out)
	}
	return d
}

const (
	boxesAtOnce  = 4 // some need a processor for a second, and the doctor measures how fast they are
	maxDiagnoses = 3 // of a box that a busy machine makes slow
)

// TestDoctorBehindRealBoxes: what culvert doctor says about each real box, between it and a
// culvert of its own, and what culvert dial makes of it.
func TestDoctorBehindRealBoxes(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup // they mostly wait
	defer all.Wait()
	turns := make(chan struct{}, boxesAtOnce)
	for name, c := range map[string]struct {
		start func(t *testing.T, b doctorBox) (args []string) // with the URL, if it isn't culvert's
		idle  time.Duration
		want  []string
		dial  dialOutcome
	}{
		"tinyproxy": {func(t *testing.T, b doctorBox) []string {
			proxy := freeAddress(t)
			conf := write(t, b.dir, "tinyproxy.conf", fmt.Sprintf(tinyproxyConfig, port(proxy), "ConnectPort "+port(b.culvert)))
			startPathProcess(t, "tinyproxy", proxy, "-d", "-c", conf)
			return []string{"--proxy", "http://" + proxy}
		}, 0, []string{"way-grpc"}, byGRPC},
		"tinyproxy, another port": {func(t *testing.T, b doctorBox) []string {
			proxy := freeAddress(t)
			conf := write(t, b.dir, "tinyproxy.conf", fmt.Sprintf(tinyproxyConfig, port(proxy), "ConnectPort 443"))
			startPathProcess(t, "tinyproxy", proxy, "-d", "-c", conf)
			return []string{"--proxy", "http://" + proxy}
		}, 0, []string{"way-none", "proxy-refuses"}, byNone},
		"privoxy": {func(t *testing.T, b doctorBox) []string {
			proxy := freeAddress(t)
			write(t, b.dir, "all.action", "{+limit-connect{-}}\n/\n")
			conf := write(t, b.dir, "privoxy.conf", fmt.Sprintf("confdir %s\nlogdir %s\nactionsfile all.action\nlisten-address %s\ntoggle 1\n", b.dir, b.dir, proxy))
			startPathProcess(t, "privoxy", proxy, "--no-daemon", conf)
			return []string{"--proxy", "http://" + proxy}
		}, 0, []string{"way-grpc"}, byGRPC},
		"Squid, spliced":                  {squidBox("splice", ""), 0, []string{"way-grpc"}, byGRPC},
		"Squid, bumped":                   {squidBox("bump", ""), 0, []string{"way-grpc-web-bidi", "decrypted", "no-http2", "websocket-stripped"}, byGRPCWeb},
		"Squid, bumped, WebSockets":       {squidBox("bump", "http_upgrade_request_protocols websocket allow all"), 0, []string{"way-websocket", "decrypted", "no-http2"}, byWebSocket},
		"Squid, bumped, chunked bodies":   {squidBox("bump", "request_body_max_size 100 KB"), 0, []string{"way-grpc-web-bidi", "decrypted", "no-http2", "websocket-stripped", "body-capped", "box-answered"}, byGRPCWeb},
		"Squid with Basic, without login": {squidLogin("basic", "basic_fake_auth", ""), 0, []string{"way-none", "proxy-login"}, byNone},
		"Squid with Basic":                {squidLogin("basic", "basic_fake_auth", "me:secret@"), 0, []string{"way-grpc"}, byGRPC},
		"Squid with NTLM":                 {squidLogin("ntlm", "ntlm_fake_auth", "me:secret@"), 0, []string{"way-none", "proxy-login-unspoken"}, byNone},
		"Squid that refuses":              {squidBox("splice", "acl all_of_it port 1-65535\nhttp_access deny all_of_it"), 0, []string{"way-none", "decrypted", "no-http2", "websocket-refused", "grpc-web-refused", "box-answered"}, byNone},
		"mitmproxy":                       {mitmproxy(), 0, []string{"way-websocket", "decrypted", "grpc-held", "responses-held"}, byWebSocket},
		"mitmproxy without HTTP/2":        {mitmproxy("--set", "http2=false"), 0, []string{"way-websocket", "decrypted", "no-http2", "responses-held"}, byWebSocket},
		"nginx, buffering":                {nginxBox(nginxServer), 0, []string{"way-websocket", "decryption-unknown", "http1-behind", "requests-held", "header-capped", "box-answered"}, byWebSocket},
		"nginx that drops Upgrade":        {nginxBox(strings.NewReplacer("proxy_set_header Upgrade $http_upgrade;", "", "proxy_set_header Connection $connection_header;", "").Replace(nginxServer)), 0, []string{"way-grpc-web", "decryption-unknown", "http1-behind", "websocket-stripped", "requests-held", "header-capped", "box-answered"}, byHalfGRPCWeb},
		"nginx with small bodies":         {nginxBox(strings.Replace(nginxServer, "client_max_body_size 0;", "", 1)), 0, []string{"way-websocket", "decryption-unknown", "http1-behind", "requests-held", "body-capped", "header-capped", "box-answered"}, byWebSocket},
		"HAProxy, 10 s, TCP":              {haproxyBox("tcp", ""), 15 * time.Second, []string{"way-grpc", "idle-cut"}, byGRPC},
		"HAProxy, 10 s, HTTP":             {haproxyBox("http", "ssl crt DIR/both.pem alpn h2,http/1.1"), 15 * time.Second, []string{"way-websocket", "decryption-unknown", "http1-behind", "idle-cut"}, byWebSocket},
		"HAProxy, HTTP/1.1 alone":         {haproxyBox("http", "ssl crt DIR/both.pem alpn http/1.1"), 0, []string{"way-websocket", "decryption-unknown", "no-http2"}, byWebSocket},
	} {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			t.Run(name, func(t *testing.T) {
				b := startDoctorBox(t)
				args := c.start(t, b)
				if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "https://") }) {
					args = append(args, "https://"+strings.Replace(b.culvert, "127.0.0.1", "localhost", 1))
				}
				if slices.Index(args, "--proxy") < 0 {
					args = append(args, "--proxy", "none")
				}
				args = append(args, "--ca", b.trusted())
				d := diagnose(t, c.idle, args...)
				for n := 1; n < maxDiagnoses && slices.Contains(d.ids(), "slow"); n++ { // so it can't tell what the box does
					d = diagnose(t, c.idle, args...)
				}
				if got := d.ids(); !slices.Equal(got, c.want) {
					t.Errorf("bidirectional streams: %s, verdicts %q, want %q", d.Bidirectional, got, c.want)
					for _, f := range d.Findings {
						t.Logf("%-26s %-10s %s", f.Probe, f.Result, f.Evidence)
					}
				}
				c.dial.judge(t, c.idle, args)
			})
		})
	}
}

// TestDoctorOnATerminal shows its progress while it runs, on standard error. Ctrl-C ends it without
// a report.
func TestDoctorOnATerminal(t *testing.T) {
	t.Parallel()
	edge := startCulvert(t, startBackend(t, backendOptions{}).address, culvertOptions{args: []string{"--doctor"}})
	master, slave := openTerminal(t)
	cmd := exec.Command(culvertProgram, "doctor", "http://"+edge.address, "--proxy", "none", "--idle", "1h")
	var report bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, &report, slave
	cmd.Env = append(environment(), "TERM=xterm-256color")
	p := &process{name: "doctor", cmd: cmd, output: newOutput(), exited: make(chan struct{})}
	p.follow(t, overwritten{master}, slave)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, probe := range []string{"connect", "grpc-bidi"} {
		shown := regexp.MustCompile(`^\x1b\[Kprobe \d+, ` + probe + `: works$`)
		if _, _, err := p.output.find(ctx, 0, shown.MatchString); err != nil {
			t.Fatalf("%s: %v", probe, err)
		}
	}
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t, patience); code != 128+int(syscall.SIGINT) {
		t.Errorf("exit code %d", code)
	}
	if report.Len() > 0 {
		t.Errorf("standard output has %s", &report)
	}
	if left := p.output.tail(2); !strings.HasPrefix(left, "\x1b[Kculvert: ") {
		t.Errorf("the terminal is left with %q", left)
	}
}

// overwritten has each text of a line of a terminal as a line of its own.
type overwritten struct{ io.ReadCloser }

func (o overwritten) Read(b []byte) (int, error) {
	n, err := o.ReadCloser.Read(b)
	copy(b, bytes.ReplaceAll(b[:n], []byte("\r"), []byte("\n")))
	return n, err
}

// A doctorBox is where a box goes: before a culvert, with files of both in a directory.
type doctorBox struct {
	dir     string // with cert.pem and key.pem, a CA and certificate for localhost
	culvert string // with TLS
	plain   string // the same in plaintext
}

// trusted is a file with the CAs that the doctor trusts.
func (b doctorBox) trusted() string { return filepath.Join(b.dir, "trusted.pem") }

// trust adds a CA to them.
func (b doctorBox) trust(t *testing.T, file string) {
	t.Helper()
	ca, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(b.trusted(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(ca); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func startDoctorBox(t *testing.T) doctorBox {
	t.Helper()
	b := doctorBox{dir: t.TempDir()}
	to := startBackend(t, backendOptions{}).address
	localCertificate(t, b.dir, "localhost")
	b.trust(t, filepath.Join(b.dir, "cert.pem"))
	secure := startCulvert(t, to, culvertOptions{args: []string{"--doctor", "--tls-cert", filepath.Join(b.dir, "cert.pem"), "--tls-key", filepath.Join(b.dir, "key.pem")}})
	plain := startCulvert(t, to, culvertOptions{args: []string{"--doctor"}})
	b.culvert, b.plain = secure.address, plain.address
	return b
}

// squidBox starts Squid, which bumps or splices TLS, with more lines.
func squidBox(tls, more string) func(*testing.T, doctorBox) []string {
	return func(t *testing.T, b doctorBox) []string {
		t.Helper()
		proxy := freeAddress(t)
		ca := filepath.Join(b.dir, "ca")
		if err := os.Mkdir(ca, 0o755); err != nil { // Squid reads it as another user
			t.Fatal(err)
		}
		localCertificate(t, ca, "the company's CA")
		b.trust(t, filepath.Join(ca, "cert.pem"))
		config := strings.NewReplacer("tls-cert=DIR/cert.pem tls-key=DIR/key.pem", "tls-cert="+ca+"/cert.pem tls-key="+ca+"/key.pem", "bump all", tls+" all", "http_upgrade_request_protocols websocket allow all\n", "", "http_access allow all", more+"\nhttp_access allow all").Replace(squidConfig)
		startSquid(t, b.dir, proxy, config)
		return []string{"--proxy", "http://" + proxy}
	}
}

// squidLogin starts Squid, which wants a login and splices TLS.
func squidLogin(scheme, helper, login string) func(*testing.T, doctorBox) []string {
	start := squidBox("splice", fmt.Sprintf("auth_param %s program /usr/lib/squid/%s\nauth_param %s children 1\nacl known proxy_auth REQUIRED\nhttp_access deny !known", scheme, helper, scheme))
	return func(t *testing.T, b doctorBox) []string {
		t.Helper()
		args := start(t, b)
		return []string{"--proxy", strings.Replace(args[1], "://", "://"+login, 1)}
	}
}

// mitmproxy starts it as a proxy that decrypts TLS with a CA of its own, which is added to
// the doctor's.
func mitmproxy(args ...string) func(*testing.T, doctorBox) []string {
	return func(t *testing.T, b doctorBox) []string {
		t.Helper()
		proxy := freeAddress(t)
		argv := append([]string{"--quiet", "--listen-host", "127.0.0.1", "--listen-port", port(proxy), "--set", "confdir=" + b.dir, "--set", "ssl_verify_upstream_trusted_ca=" + filepath.Join(b.dir, "cert.pem")}, args...)
		startPathProcess(t, "mitmdump", proxy, argv...)
		b.trust(t, filepath.Join(b.dir, "mitmproxy-ca-cert.pem")) // made before it listens
		return []string{"--proxy", "http://" + proxy}
	}
}

// nginxBox starts nginx with a server that terminates TLS.
func nginxBox(server string) func(*testing.T, doctorBox) []string {
	return func(t *testing.T, b doctorBox) []string {
		t.Helper()
		front := freeAddress(t)
		conf := write(t, b.dir, "nginx.conf", fmt.Sprintf(nginxConfig, fmt.Sprintf(server, front, b.plain)))
		startPathProcess(t, "nginx", front, "-p", b.dir, "-c", conf)
		return []string{"https://localhost:" + port(front)}
	}
}

// haproxyBox starts HAProxy with time-outs of 10 s.
func haproxyBox(mode, bind string) func(*testing.T, doctorBox) []string {
	return func(t *testing.T, b doctorBox) []string {
		t.Helper()
		front, to := freeAddress(t), b.culvert
		if bind != "" {
			to = b.plain
			var both []byte
			for _, name := range []string{"cert.pem", "key.pem"} {
				text, err := os.ReadFile(filepath.Join(b.dir, name))
				if err != nil {
					t.Fatal(err)
				}
				both = append(both, text...)
			}
			write(t, b.dir, "both.pem", string(both))
		}
		conf := write(t, b.dir, "haproxy.cfg", fmt.Sprintf(`
defaults
  mode %s
  timeout connect 10s
  timeout client 10s
  timeout server 10s
frontend front
  bind %s %s
  default_backend culvert
backend culvert
  server culvert %s
`, mode, front, strings.ReplaceAll(bind, "DIR", b.dir), to))
		startPathProcess(t, "haproxy", front, "-db", "-f", conf)
		return []string{"https://localhost:" + port(front)}
	}
}
