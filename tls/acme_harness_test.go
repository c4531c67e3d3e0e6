package proxytls

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// patience is for what takes no time: a test that waits so long has failed.
const patience = 2 * time.Minute

// A site is where the CA looks: culvert's two ports, behind which the ACME of
// the moment stands, and the DNS of the names in culvert.test.
type site struct {
	t           testing.TB
	https, http net.Listener
	dns         *nameServer
	mu          sync.Mutex
	acme        *ACME
	provider    *Provider
	deaf        atomic.Bool // whoever comes to http finds nothing
	slow        slowNames
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, https: listenLocal(t), http: listenLocal(t), dns: newNameServer(t)}
	var running sync.WaitGroup
	running.Go(s.handshakes)
	server := &http.Server{Handler: s, ReadHeaderTimeout: patience}
	running.Go(func() { _ = server.Serve(s.http) })
	t.Cleanup(func() {
		_ = s.https.Close()
		_ = server.Close()
		running.Wait()
	})
	return s
}

func listenLocal(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func port(a net.Addr) int {
	_, p, _ := net.SplitHostPort(a.String())
	n, _ := strconv.Atoi(p)
	return n
}

// handshakes does what culvert does with a connection, as far as that is about
// certificates: one handshake, one byte.
func (s *site) handshakes() {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		conn, err := s.https.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		p := s.provider
		s.mu.Unlock()
		if p == nil {
			_ = conn.Close()
			continue
		}
		running.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			c := tls.Server(conn, p.Config())
			if c.Handshake() == nil {
				_, _ = c.Write([]byte("x"))
			}
		})
	}
}

// slowNames are those for which the CA waits for its proof.
type slowNames struct {
	mu      sync.Mutex
	suffix  string // "" for none
	asked   map[string]bool
	release chan struct{}
}

// hold has the CA wait for names that end so, until the test ends.
func (s *site) hold(suffix string) {
	release := make(chan struct{})
	s.t.Cleanup(func() { close(release) })
	s.slow.mu.Lock()
	defer s.slow.mu.Unlock()
	s.slow.suffix, s.slow.asked, s.slow.release = suffix, map[string]bool{}, release
}

// wait returns when the CA may have its proof for a name.
func (n *slowNames) wait(host string) {
	n.mu.Lock()
	name, release := normalName(host), n.release
	slow := n.suffix != "" && strings.HasSuffix(name, n.suffix)
	if slow {
		n.asked[name] = true
	}
	n.mu.Unlock()
	if slow {
		<-release
	}
}

// held is for how many names the CA has asked.
func (n *slowNames) held() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.asked)
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.slow.wait(r.Host)
	if s.deaf.Load() {
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	a := s.acme
	s.mu.Unlock()
	a.HTTPHandler(http.NotFoundHandler()).ServeHTTP(w, r)
}

// serve starts an ACME at the site, which ends with the test or with stop.
func (s *site) serve(o ACMEOptions) (a *ACME, told *story, stop func()) {
	s.t.Helper()
	a, told = newACME(s.t, o)
	p, err := New(Options{Fallback: a.GetCertificate, ChallengeProtos: a.NextProtos(), ConfigKey: "tls"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.acme, s.provider = a, p
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	a.Start(ctx)
	stop = sync.OnceFunc(func() {
		cancel()
		a.Close()
		p.Close()
	})
	s.t.Cleanup(stop)
	return a, told, stop
}

func newACME(t testing.TB, o ACMEOptions) (*ACME, *story) {
	t.Helper()
	told := &story{}
	o.Certificate, o.Problem, o.Mended, o.ConfigKey = told.certificate, told.problem, told.mended, "tls.acme"
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	a, err := NewACME(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // t can't be logged to any more
		routeStorageLog(slog.DiscardHandler)
	})
	return a, told
}

type testWriter struct{ testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// connect asks the site for a name, and returns what it shows.
func (s *site) connect(name string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d := &tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", s.https.Addr().String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return nil, err
	}
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// shows waits until the site shows a certificate for name that isn't old.
func (s *site) shows(name string, old *x509.Certificate) *x509.Certificate {
	s.t.Helper()
	var leaf *x509.Certificate
	eventually(s.t, "a certificate for "+name, func() bool {
		var err error
		leaf, err = s.connect(name)
		return err == nil && (old == nil || !leaf.Equal(old))
	})
	if err := leaf.VerifyHostname(name); err != nil {
		s.t.Error(err)
	}
	return leaf
}

// eventually polls for what happens in another program.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	missing := func() string {
		if so() {
			return ""
		}
		return what
	}
	if problem := parts.PollFor(patience, missing); problem != "" {
		t.Fatalf("not within %v: %s", patience, problem)
	}
}

// A ca is a pebble, Let's Encrypt's own small ACME server, with a relay before
// it that can be cut.
type ca struct {
	t     testing.TB
	relay net.Listener
	root  string // file with who signed the directory's certificate

	mu     sync.Mutex
	down   bool
	conns  map[net.Conn]bool
	lines  []string
	target string
}

// caOptions are the options of a pebble that differ between tests.
type caOptions struct {
	life      time.Duration // of its certificates
	eabKeys   map[string]string
	badNonces int // of 100
}

// refusedName is one that the CA gives no certificate for.
const refusedName = "refused.culvert.test"

var pebbleProgram = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("../tools/tool.sh", "pebble").Output()
	return strings.TrimSpace(string(out)), err
})

func (s *site) newCA(o caOptions) *ca {
	t := s.t
	t.Helper()
	program, err := pebbleProgram()
	if err != nil {
		t.Fatalf("pebble: %v", err)
	}
	folder := t.TempDir()
	own := newAuthority(t, "pebble")
	pair := write(t, folder, "pebble", own.issue(time.Hour, "localhost"))
	c := &ca{t: t, relay: listenLocal(t), root: writeCA(t, folder, own), conns: map[net.Conn]bool{}}
	type profile struct {
		Description    string `json:"description"`
		ValidityPeriod int    `json:"validityPeriod"`
	}
	settings := map[string]any{
		"managementListenAddress": "", "certificate": pair.Cert, "privateKey": pair.Key,
		"httpPort": port(s.http.Addr()), "tlsPort": port(s.https.Addr()),
		"externalAccountBindingRequired": len(o.eabKeys) > 0, "externalAccountMACKeys": o.eabKeys,
		"domainBlocklist": []string{refusedName}, "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]profile{"default": {"", int(o.life / time.Second)}},
	}
	// Another program may take the port before pebble does.
	for range 5 {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.target = free.Addr().String()
		_ = free.Close()
		settings["listenAddress"] = c.target
		data, err := json.Marshal(map[string]any{"pebble": settings})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(folder, "pebble.json")
		writeFile(t, file, data)
		cmd := exec.Command(program, "-config", file, "-dnsserver", s.dns.stream.Addr().String())
		cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0", "PEBBLE_WFE_NONCEREJECT="+strconv.Itoa(o.badNonces))
		if c.run(cmd, &tls.Config{ServerName: "localhost", RootCAs: poolFor(own)}) {
			var relaying sync.WaitGroup
			relaying.Go(c.accept)
			t.Cleanup(func() {
				_ = c.relay.Close()
				c.setDown(true)
				relaying.Wait()
			})
			return c
		}
	}
	t.Fatalf("pebble doesn't start:\n%s", strings.Join(c.lines, "\n"))
	return nil
}

// run starts pebble and reports whether it got to serve: it, and not another
// program that has its port.
func (c *ca) run(cmd *exec.Cmd, client *tls.Config) bool {
	c.t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			c.mu.Lock()
			c.lines = append(c.lines, scanner.Text())
			c.mu.Unlock()
		}
		_ = cmd.Wait()
	}()
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); ; {
		select {
		case <-ended:
			return false
		case <-end:
			c.t.Fatal("pebble doesn't listen")
		case <-tick.C:
			if conn, err := tls.Dial("tcp", c.target, client); err == nil {
				_ = conn.Close()
				return true
			}
		}
	}
}

// accept relays until the listener is closed.
func (c *ca) accept() {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		client, err := c.relay.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", c.target)
		c.mu.Lock()
		if err != nil || c.down {
			c.mu.Unlock()
			_ = client.Close()
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		c.conns[client], c.conns[server] = true, true
		running.Go(func() { c.copy(server, client) })
		running.Go(func() { c.copy(client, server) })
		c.mu.Unlock()
	}
}

func (c *ca) copy(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, to)
	delete(c.conns, from)
}

// setDown has the CA out of reach, or back.
func (c *ca) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
	for conn := range c.conns {
		if down {
			_ = conn.Close()
		}
	}
}

// options are those of an ACME that asks this CA.
func (c *ca) options(storage string, domains ...string) ACMEOptions {
	return ACMEOptions{
		Domains: domains, Storage: storage, CARoot: c.root, Email: "ops@culvert.test",
		Directory: "https://localhost:" + strconv.Itoa(port(c.relay.Addr())) + "/dir",
	}
}

// count is how many lines of pebble's have a text.
func (c *ca) count(text string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, line := range c.lines {
		if regexp.MustCompile(text).MatchString(line) {
			n++
		}
	}
	return n
}

// wantCount waits until so many lines have a text, since what pebble says may
// come behind what it does, and wants no more of them.
func (c *ca) wantCount(text string, want int, what string) {
	c.t.Helper()
	eventually(c.t, what, func() bool { return c.count(text) >= want })
	if got := c.count(text); got != want {
		c.t.Errorf("%s: %d, want %d", what, got, want)
	}
}

// Texts of pebble's log.
const (
	pebbleIssued  = `Issued certificate`
	pebbleOrdered = `Added order`
	pebbleAccount = `accounts in memory`
)

// A nameServer has 127.0.0.1 for every name, and the texts that were set.
type nameServer struct {
	conn   net.PacketConn
	stream net.Listener // pebble asks by TCP
	mu     sync.Mutex
	txt    map[string][]string // by name, with the root's dot
}

func newNameServer(t testing.TB) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{conn: conn, stream: listenLocal(t), txt: map[string][]string{}}
	var running sync.WaitGroup
	running.Go(n.serve)
	running.Go(n.serveStreams)
	t.Cleanup(func() {
		_ = conn.Close()
		_ = n.stream.Close()
		running.Wait()
	})
	return n
}

func (n *nameServer) serve() {
	buf := make([]byte, 4096)
	for {
		size, from, err := n.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer, err := n.answer(buf[:size]); err == nil {
			_, _ = n.conn.WriteTo(answer, from)
		}
	}
}

// serveStreams answers one question a connection. RFC 1035 §4.2.2.
func (n *nameServer) serveStreams() {
	for {
		conn, err := n.stream.Accept()
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err == nil {
			question := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(conn, question); err == nil {
				if answer, err := n.answer(question); err == nil {
					_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
				}
			}
		}
		_ = conn.Close()
	}
}

func (n *nameServer) answer(question []byte) ([]byte, error) {
	var p dnsmessage.Parser
	header, err := p.Start(question)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	add := func(body dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET},
			Body:   body,
		})
	}
	name := strings.ToLower(q.Name.String())
	switch q.Type {
	case dnsmessage.TypeA:
		add(&dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}})
	case dnsmessage.TypeTXT:
		n.mu.Lock()
		for _, text := range n.txt[name] {
			add(&dnsmessage.TXTResource{TXT: []string{text}})
		}
		n.mu.Unlock()
	case dnsmessage.TypeSOA:
		if name == "culvert.test." {
			add(&dnsmessage.SOAResource{NS: q.Name, MBox: q.Name, Serial: 1, Refresh: 1, Retry: 1, Expire: 1, MinTTL: 1})
		}
	}
	return m.Pack()
}
