package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A Cluster is a running control plane. Its fields are set once by Start.
type Cluster struct {
	Address string // of the API server, host:port
	URL     string
	Admin   string // the kubeconfig file of a user that may do everything
	CA      *Authority

	dir       string
	programs  map[string]string // paths by name
	starter   *Starter
	processes []*Process
}

// Start starts a control plane at an address of this machine, with the programs of
// [Programs]. Its files are in a folder of their own inside dir. Start returns when it
// serves requests and its controllers run. The error has the last lines of the program that
// failed. The caller must call Stop.
func Start(ctx context.Context, dir, host string, programs map[string]string) (*Cluster, error) {
	c := &Cluster{dir: filepath.Join(dir, "controlplane"), programs: programs}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return nil, err
	}
	c.starter = NewStarter(c.dir)
	if err := c.start(ctx, host); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, host string) error {
	free, err := freeAddresses(host, 4)
	if err != nil {
		return err
	}
	etcd, peer, controllers := free[0], free[1], free[2]
	c.Address, c.URL = free[3], "https://"+free[3]
	if err := c.issue(host); err != nil {
		return err
	}
	admission, err := c.writeAdmissionConfig()
	if err != nil {
		return err
	}

	if err := c.run(ctx, "etcd", "http://"+etcd+"/readyz", etcdArguments(filepath.Join(c.dir, "etcd"), etcd, peer)...); err != nil {
		return err
	}
	if err := c.run(ctx, "kube-apiserver", c.URL+"/readyz", c.apiServerArguments(etcd, admission)...); err != nil {
		return err
	}
	user, err := c.Kubeconfig("controllers", "system:kube-controller-manager")
	if err != nil {
		return err
	}
	return c.run(ctx, "kube-controller-manager", "https://"+controllers+"/healthz", c.controllerManagerArguments(user, controllers)...)
}

// issue makes the certificates and keys, and the administrator's kubeconfig.
func (c *Cluster) issue(host string) (err error) {
	if c.CA, err = NewAuthority(c.dir); err != nil {
		return err
	}
	if err := errors.Join(
		c.CA.Issue("apiserver", "kube-apiserver", nil, []string{host, "127.0.0.1", "localhost", "kubernetes.default.svc", ServiceAddress}),
		c.CA.Issue("kubelet-client", "kube-apiserver-kubelet-client", []string{"system:masters"}, nil),
		c.CA.Issue("accounts", "service accounts", nil, nil),
	); err != nil {
		return err
	}
	c.Admin, err = c.Kubeconfig("admin", "admin", "system:masters")
	return err
}

// run starts a program and waits until it is ready.
func (c *Cluster) run(ctx context.Context, name, url string, args ...string) error {
	p, err := c.starter.Start(name, nil, append([]string{c.programs[name]}, args...)...)
	if err != nil {
		return err
	}
	c.processes = append(c.processes, p)
	client, err := c.httpClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return p.Until(ctx, func(ctx context.Context) error { return answers(ctx, client, url) })
}

// httpClient returns a client that trusts the cluster's authority.
func (c *Cluster) httpClient() (*http.Client, error) {
	text, err := os.ReadFile(c.CA.File("ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	own, err := tls.LoadX509KeyPair(c.CA.File("admin.crt"), c.CA.File("admin.key"))
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}},
		Timeout:   10 * time.Second,
	}, nil
}

// answers returns an error unless a GET succeeds.
func answers(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, response.Status, text)
	}
	return err
}

func freeAddresses(host string, n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, err
		}
		defer l.Close() // only now, so that all are different
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// Stop ends the programs, the last one first. It must be called once.
func (c *Cluster) Stop() error {
	var errs []error
	for i := len(c.processes) - 1; i >= 0; i-- {
		err := c.processes[i].Stop(20 * time.Second)
		// Some end as if they had no handler for the signal.
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM {
			err = nil
		}
		errs = append(errs, err)
	}
	c.starter.Close()
	return errors.Join(errs...)
}

// Tails returns the last lines of each program, to be shown when a test fails.
func (c *Cluster) Tails(lines int) string {
	text := ""
	for _, p := range c.processes {
		text += fmt.Sprintf("\n%s (%s):\n%s\n", p.Name, p.Log, p.Tail(lines))
	}
	return text
}
