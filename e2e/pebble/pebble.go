package pebble

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/e2e/certificate"
	"github.com/culvert-grpc/culvert/e2e/spawn"
)

// A CA has a directory from New on. Whoever asks it before Start waits.
type CA struct {
	Directory string // URL
	Root      string // file (PEM) with who signed the directory's certificate

	folder  string
	relay   net.Listener
	dns     *nameServer
	client  *tls.Config
	running sync.WaitGroup
	started chan struct{} // closed when target is set

	mu     sync.Mutex
	down   bool
	closed bool
	target string
	conns  map[net.Conn]bool
	lines  []string
	cmd    *exec.Cmd
	ended  chan struct{}
}

// Options are what differs from test to test.
type Options struct {
	HTTPPort, TLSPort int               // where it looks for proof
	Life              time.Duration     // of its certificates
	Accounts          map[string]string // keys (base64url) by name, if who orders has to have one
	Hosts             bool              // names are looked up as this machine does, and not all here
}

// What pebble says.
const (
	Issued  = "Issued certificate"
	Ordered = "Added order"
)

// startPatience is for what takes a moment.
const startPatience = time.Minute

// New returns a CA whose files are in folder.
func New(folder string) (*CA, error) {
	c := &CA{folder: folder, Root: filepath.Join(folder, "pebble-root.pem"), started: make(chan struct{}), conns: map[net.Conn]bool{}}
	if err := c.makeCertificate(); err != nil {
		return nil, err
	}
	var err error
	if c.relay, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(c.relay.Addr().String())
	c.Directory = "https://localhost:" + port + "/dir"
	if c.dns, err = newNameServer(); err != nil {
		_ = c.relay.Close()
		return nil, err
	}
	c.running.Go(c.accept)
	return c, nil
}

// makeCertificate writes the directory's own certificate, which signs itself.
func (c *CA) makeCertificate() error {
	roots, err := certificate.SelfSigned(&x509.Certificate{DNSNames: []string{"localhost"}}, c.Root, filepath.Join(c.folder, "pebble.key"))
	c.client = &tls.Config{ServerName: "localhost", RootCAs: roots}
	return err
}

// program returns the path of pebble, built.
var program = sync.OnceValues(func() (string, error) {
	tools, err := findTools()
	if err != nil {
		return "", err
	}
	out, err := exec.Command(filepath.Join(tools, "tool.sh"), "pebble").Output()
	if err != nil {
		return "", fmt.Errorf("pebble: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

// findTools returns the module of tools, which is beside a directory above.
func findTools() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		tools := filepath.Join(dir, "tools")
		if _, err := os.Stat(filepath.Join(tools, "go.mod")); err == nil {
			return tools, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("pebble: the module of tools isn't found")
		}
		dir = filepath.Dir(dir)
	}
}

// Start runs pebble until Close.
func (c *CA) Start(o Options) error {
	name, err := program()
	if err != nil {
		return err
	}
	// Another program may take the port before pebble does.
	for range 5 {
		if err := c.writeSettings(o); err != nil {
			return err
		}
		args := []string{"-config", filepath.Join(c.folder, "pebble.json")}
		if !o.Hosts {
			args = append(args, "-dnsserver", c.dns.stream.Addr().String())
		}
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0", "PEBBLE_WFE_NONCEREJECT=0")
		if err := c.run(cmd); err != nil {
			return err
		}
		if c.serves() {
			close(c.started)
			return nil
		}
	}
	return fmt.Errorf("pebble doesn't start:\n%s", strings.Join(c.lines, "\n"))
}

func (c *CA) writeSettings(o Options) error {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.target = free.Addr().String()
	c.mu.Unlock()
	_ = free.Close()
	data, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": free.Addr().String(), "managementListenAddress": "",
		"certificate": c.Root, "privateKey": filepath.Join(c.folder, "pebble.key"),
		"httpPort": o.HTTPPort, "tlsPort": o.TLSPort, "keyAlgorithm": "ecdsa",
		"externalAccountBindingRequired": len(o.Accounts) > 0, "externalAccountMACKeys": o.Accounts,
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]any{"default": map[string]any{"description": "", "validityPeriod": int(o.Life / time.Second)}},
	}})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.folder, "pebble.json"), data, 0o600)
}

// run starts the command and reads what it says until it ends.
func (c *CA) run(cmd *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := spawn.Start(cmd); err != nil {
		_, _ = r.Close(), w.Close()
		return fmt.Errorf("pebble: %w", err)
	}
	_ = w.Close() // the process has its own
	ended := make(chan struct{})
	c.mu.Lock()
	c.cmd, c.ended = cmd, ended
	c.mu.Unlock()
	c.running.Go(func() {
		defer close(ended)
		for scanner := bufio.NewScanner(r); scanner.Scan(); {
			c.mu.Lock()
			c.lines = append(c.lines, scanner.Text())
			c.mu.Unlock()
		}
		_ = r.Close()
		_ = cmd.Wait()
	})
	return nil
}

// serves waits until pebble serves, it and not another program that has its
// port, and reports whether it does.
func (c *CA) serves() bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(startPatience); ; {
		select {
		case <-c.ended:
			return false
		case <-end:
			return false
		case <-tick.C:
			conn, err := tls.Dial("tcp", c.target, c.client)
			if err == nil {
				_ = conn.Close()
				return true
			}
		}
	}
}

// Close ends everything.
func (c *CA) Close() {
	c.mu.Lock()
	c.closed = true
	cmd := c.cmd
	c.mu.Unlock()
	_ = c.relay.Close()
	c.dns.close()
	c.SetDown(true)
	if cmd != nil {
		_ = cmd.Process.Kill() // it may have ended
	}
	c.running.Wait()
}

// SetDown has the CA out of reach, or back.
func (c *CA) SetDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
	for conn := range c.conns {
		if down {
			_ = conn.Close()
		}
	}
}

// Said is how many of pebble's lines have a text.
func (c *CA) Said(text string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, line := range c.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// Lines are what pebble has said.
func (c *CA) Lines() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines, "\n")
}

func (c *CA) accept() {
	for {
		client, err := c.relay.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		if c.down || c.closed {
			_ = client.Close()
		} else {
			c.conns[client] = true
			c.running.Go(func() { c.carry(client) })
		}
		c.mu.Unlock()
	}
}

// carry relays a connection, from when pebble has started.
func (c *CA) carry(client net.Conn) {
	defer c.forget(client)
	for {
		select {
		case <-c.started:
		case <-time.After(20 * time.Millisecond):
			c.mu.Lock()
			gone := c.down || c.closed
			c.mu.Unlock()
			if gone {
				return
			}
			continue
		}
		break
	}
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer c.forget(server)
	c.mu.Lock()
	c.conns[server] = true
	if c.down || c.closed {
		_ = server.Close()
	}
	c.mu.Unlock()
	var there sync.WaitGroup
	there.Go(func() { relay(server, client) })
	relay(client, server)
	there.Wait()
}

func relay(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

func (c *CA) forget(conn net.Conn) {
	_ = conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}

// Port is the port of an address.
func Port(address string) int {
	_, port, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port)
	return n
}
