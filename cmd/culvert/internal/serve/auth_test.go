package serve

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/auth"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// An authTest is a program that serves in front of a backend, which tells who calls.
type authTest struct {
	*testing.T
	*program
	dir  string
	told chan string // the messages and causes of the log
	cc   *grpc.ClientConn
}

// newAuthTest starts a program with a configuration, in which DIR is a directory of the test's.
// prepare writes the files in it.
func newAuthTest(t *testing.T, content string, prepare func(a *authTest)) *authTest {
	t.Helper()
	a := &authTest{T: t, dir: t.TempDir(), told: make(chan string, 1000)}
	prepare(a)
	backend := parts.StartBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		if err := ss.SendHeader(metadata.MD{"subject": append(md["x-culvert-subject"], md["x-user"]...)}); err != nil {
			return err
		}
		return parts.Echo(ss)
	})
	file := filepath.Join(a.dir, "proxy.yaml")
	a.write("proxy.yaml", a.config(content, backend))
	s := source{file: file}
	cmdtest.ClearEnvironment(t)
	c, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	a.program = newTestProgram(t, c)
	a.Again = s.loadAgain
	a.log.Logger = slog.New(toldLog{slog.DiscardHandler, a.told})
	if err := a.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal, 1)
	a.Signals = signals
	ended := make(chan error, 1)
	address := a.ports.public[0].Addr().String()
	go func() { ended <- a.run(t.Context()) }()
	t.Cleanup(func() {
		signals <- syscall.SIGTERM
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if a.cc, err = grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{}))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.cc.Close() })
	a.T.Setenv("BACKEND", backend)
	return a
}

// A toldLog sends each message with the values of its attributes.
type toldLog struct {
	slog.Handler
	told chan<- string
}

func (l toldLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (l toldLog) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.Value.String()
		return true
	})
	l.told <- line
	return nil
}

func (a *authTest) config(content, backend string) string {
	return "listen: 127.0.0.1:0\nhealth: {listen: \"off\"}\nadmin: {listen: \"off\"}\ndrain_timeout: 1s\nbackend: {address: \"" + backend + "\"}\n" + strings.ReplaceAll(content, "DIR", a.dir)
}

func (a *authTest) write(name, content string) {
	a.Helper()
	part := filepath.Join(a.dir, name+".part")
	if err := os.WriteFile(part, []byte(content), 0o600); err != nil {
		a.Fatal(err)
	}
	if err := os.Rename(part, filepath.Join(a.dir, name)); err != nil {
		a.Fatal(err)
	}
}

// reload writes the configuration anew, and waits until the log has a line with the words.
func (a *authTest) reload(content string, words ...string) {
	a.Helper()
	a.write("proxy.yaml", a.config(content, os.Getenv("BACKEND")))
	a.await(words...)
}

// await waits for a line of the log with all of the words.
func (a *authTest) await(words ...string) {
	a.Helper()
	late := time.After(cmdtest.Patience)
	for {
		select {
		case line := <-a.told:
			has := true
			for _, word := range words {
				has = has && strings.Contains(line, word)
			}
			if has {
				return
			}
		case <-late:
			a.Fatalf("the log never has %q", words)
		}
	}
}

// begin begins a call with metadata, and returns who calls by the backend's word.
func (a *authTest) begin(md ...string) (stream grpc.ClientStream, subject string, err error) {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.Context(), cmdtest.Patience)
	a.Cleanup(cancel)
	stream, err = a.cc.NewStream(metadata.AppendToOutgoingContext(ctx, md...), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/shop.v1.Orders/Watch")
	if err != nil {
		return nil, "", err
	}
	header, err := stream.Header()
	if err != nil {
		return nil, "", err
	}
	if header == nil {
		var none []byte
		return nil, "", stream.RecvMsg(&none)
	}
	return stream, strings.Join(header["subject"], ","), nil
}

// says checks what becomes of a call: "OK" with the subject, or a code.
func (a *authTest) says(want string, md ...string) {
	a.Helper()
	stream, subject, err := a.begin(md...)
	got := status.Code(err).String() + " " + subject
	if err == nil {
		if err := stream.CloseSend(); err != nil {
			a.Error(err)
		}
	}
	if got := strings.TrimSpace(got); got != want {
		a.Errorf("the call ends %q (%v), want %q", got, err, want)
	}
}

// echoes checks that a call still goes on.
func (a *authTest) echoes(stream grpc.ClientStream) {
	a.Helper()
	if err := stream.SendMsg([]byte("x")); err != nil {
		a.Fatal(err)
	}
	var reply []byte
	if err := stream.RecvMsg(&reply); err != nil {
		a.Fatalf("the call has ended: %v", err)
	}
}

// TestAuthOverReloads: rules and issuers change for new calls, and running ones go on.
func TestAuthOverReloads(t *testing.T) {
	one, two := cmdtest.NewIssuer(t, "https://one.example", "a"), cmdtest.NewIssuer(t, "https://two.example", "a")
	of := func(i *cmdtest.Issuer, subject string) []string {
		return []string{"authorization", "Bearer " + i.Token(t, subject, "orders", time.Hour, nil)}
	}
	const base = "auth:\n  issuers: [{name: one, issuer: 'https://one.example', keys_file: DIR/one.json, audiences: [orders]}]\n"
	a := newAuthTest(t, base, func(a *authTest) {
		a.write("one.json", string(one.KeySet(t)))
		a.write("two.json", string(two.KeySet(t)))
	})
	a.says("Unauthenticated")
	a.says("OK alice", of(one, "alice")...)
	a.says("Unauthenticated", of(two, "alice")...)
	a.says("OK alice", append(of(one, "alice"), "x-culvert-subject", "root")...)
	running, _, err := a.begin(of(one, "alice")...)
	if err != nil {
		t.Fatal(err)
	}
	a.echoes(running)

	a.reload(base+"  rules: [{name: out, deny: true, identities: [alice]}]\n", "configuration reloaded")
	a.says("PermissionDenied", of(one, "alice")...)
	a.says("OK bob", of(one, "bob")...)
	a.echoes(running)

	a.reload(strings.ReplaceAll(base, "one", "two"), "configuration reloaded")
	a.says("Unauthenticated", of(one, "alice")...)
	a.says("OK alice", of(two, "alice")...)
	a.echoes(running)

	before := a.auth.now()
	a.reload(strings.ReplaceAll(base, "one", "two")+"  rules:\n  - name: a\n    identities: ['a**b']\n", "configuration not reloaded", "proxy.yaml:10: auth.rules[0].identities: ")
	a.reload(strings.ReplaceAll(base, "one.json", "none.json"), "configuration not reloaded", "proxy.yaml:7: auth.issuers[0].keys_file: ")
	a.reload(base+"routes: [{name: a, backend: gone}]\n", "configuration not reloaded", "routes[0].backend")
	a.says("OK alice", of(two, "alice")...)
	if a.auth.now() != before {
		t.Error("a configuration that isn't in use has replaced the Authenticator")
	}
	a.reload(strings.ReplaceAll(base, "one", "two")+"errors: detailed\n", "configuration reloaded")
	if a.auth.now() != before {
		t.Error("a change elsewhere has replaced the Authenticator")
	}

	a.reload(base+"  enforce: false\n", "configuration reloaded")
	a.says("OK")
	a.says("OK", of(two, "alice")...)
	a.reload("", "calls aren't authenticated any more")
	a.await("configuration reloaded")
	a.says("OK")
	a.echoes(running)
	a.reload(base, "configuration reloaded")
	a.says("Unauthenticated")
	a.echoes(running)
	if err := running.CloseSend(); err != nil {
		t.Error(err)
	}
}

// TestFilesOfAuthAreReadAgain when they are replaced, and the last good ones count.
func TestFilesOfAuthAreReadAgain(t *testing.T) {
	old, next := cmdtest.NewIssuer(t, "https://one.example", "a"), cmdtest.NewIssuer(t, "https://one.example", "b")
	key, line, err := auth.NewAPIKey("ci", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(i *cmdtest.Issuer) []string {
		return []string{"authorization", "Bearer " + i.Token(t, "alice", "orders", time.Hour, nil)}
	}
	const file = "auth:\n  issuers: [{name: one, issuer: 'https://one.example', keys_file: DIR/one.json, audiences: [orders]}]\n  api_keys:\n    file: DIR/keys\n"
	a := newAuthTest(t, file, func(a *authTest) {
		a.write("one.json", string(old.KeySet(t)))
		a.write("keys", "")
	})
	a.says("OK alice", bearer(old)...)
	a.says("Unauthenticated", bearer(next)...)
	a.says("Unauthenticated", "x-api-key", key)

	a.write("keys", line+"\n")
	a.await("keys of auth read again")
	a.says("OK ci", "x-api-key", key)
	a.write("one.json", string(next.KeySet(t)))
	a.await("keys of auth read again")
	a.says("OK alice", bearer(next)...)
	a.says("Unauthenticated", bearer(old)...)

	a.write("keys", "hunter2 ci\n")
	a.await("keys of auth not read again", "proxy.yaml:9: auth.api_keys.file: ", "line 1: ")
	a.says("OK ci", "x-api-key", key)
	if problems := a.problems(); len(problems) != 1 || !strings.HasPrefix(problems[0], "auth.api_keys.file: ") {
		t.Errorf("the problems are %q, want that of the file", problems)
	}
	a.write("keys", "# nobody\n")
	a.await("solved: ", "auth.api_keys.file")
	a.says("Unauthenticated", "x-api-key", key)
	if problems := a.problems(); len(problems) != 0 {
		t.Errorf("solved, and still a problem: %q", problems)
	}

	state := a.authState()
	if !state.Enabled || !state.Enforced || len(state.Ways) != 2 || len(state.Issuers) != 1 || state.Issuers[0].Keys != 1 || len(state.APIKeyFile) != 1 || state.APIKeyFile[0].Keys != 0 {
		t.Errorf("the admin address shows %+v", state)
	}
	refused := map[string]admin.AuthRefused{}
	for _, r := range state.Refused {
		refused[r.Key+" "+string(r.Issuer)] = r
	}
	if got := refused["auth.issuers one"]; got.Calls < 2 || got.Reason != "UNAUTHENTICATED" || got.Last.Before(state.Since) || got.Cause == "" || refused["auth.api_keys "].Calls < 2 {
		t.Errorf("the admin address shows refusals %+v since %v", state.Refused, state.Since)
	}
	if len(state.Rules) != 1 || state.Rules[0].Name != "no rule denies, none allows" || state.Rules[0].Effect != "allow" || state.Rules[0].Calls < 3 {
		t.Errorf("the admin address shows rules %+v", state.Rules)
	}

	// A reload names other files, which are watched then.
	a.write("more", line+"\n")
	a.reload(strings.ReplaceAll(file, "DIR/keys", "DIR/more"), "configuration reloaded")
	a.says("OK ci", "x-api-key", key)
	a.write("more", "")
	a.await("keys of auth read again")
	a.says("Unauthenticated", "x-api-key", key)
	if !a.auth.reload() {
		t.Error("SIGHUP finds no files")
	}
}

// TestAServiceJudgesOverTLS: the CA in the file verifies it, also after a rotation, and its answer
// becomes metadata that no client can set.
func TestAServiceJudgesOverTLS(t *testing.T) {
	one, two := parts.NewAuthority(t), parts.NewAuthority(t)
	certificate := make(chan tls.Certificate, 1)
	certificate <- one.Server(t, "auth.example")
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Basic good" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("X-User", "alice")
	}))
	service.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c := <-certificate
		certificate <- c
		return &c, nil
	}}
	service.Config.ErrorLog = log.New(io.Discard, "", 0)
	service.StartTLS()
	defer service.Close()
	a := newAuthTest(t, "auth:\n  external:\n    url: "+service.URL+"/verify\n    tls: {ca: DIR/ca.pem, server_name: auth.example}\n    answer_names: [x-user]\n    timeout: 10s\n", func(a *authTest) {
		a.write("ca.pem", string(one.PEM()))
	})
	a.says("OK alice", "authorization", "Basic good", "x-user", "root")
	a.says("PermissionDenied", "authorization", "Basic bad")
	a.says("PermissionDenied", "x-user", "root")

	<-certificate
	certificate <- two.Server(t, "auth.example")
	service.CloseClientConnections()
	a.says("Unavailable", "authorization", "Basic good")
	a.write("ca.pem", string(two.PEM()))
	if !a.keys.Reload() {
		t.Error("a reload finds no certificates")
	}
	a.says("OK alice", "authorization", "Basic good")
}

// TestWithoutAuthNothingRuns: neither an Authenticator nor a goroutine.
func TestWithoutAuthNothingRuns(t *testing.T) {
	c := cmdtest.Load(t, reloadBase)
	g, err := openGatekeeper(c, slog.New(slog.DiscardHandler), func(*auth.Config) { t.Error("services get TLS") })
	if err != nil {
		t.Fatal(err)
	}
	g.Start(t.Context())
	cfg := bridge.Config{VouchedHeaders: []string{"x-a"}}
	g.into(&cfg)
	p := newTestProgram(t, c)
	p.auth = g
	if shown := p.authState(); shown.Enabled || shown.Issuers == nil || shown.Services == nil || shown.Rules == nil || shown.Refused == nil {
		t.Errorf("the admin address shows %+v", shown)
	}
	if cfg.Authenticator != nil || len(cfg.VouchedHeaders) != 1 || g.reload() || g.problems() != nil {
		t.Errorf("something runs: %+v", g)
	}
	g.Wait()
	g.close()
}
