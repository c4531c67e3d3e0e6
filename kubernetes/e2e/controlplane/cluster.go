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

// Options of a cluster. The zero value is a cluster on loopback.
type Options struct {
	// Host is the address that the API server listens on. If empty, 127.0.0.1. A
	// kubelet's pods need one that isn't loopback.
	Host string

	// APIServer and ControllerManager are further arguments, which win over those that
	// the cluster has without them.
	APIServer         []string
	ControllerManager []string

	// Scheduler starts kube-scheduler as well. Without one, no pod gets a node.
	Scheduler bool

	// Programs are the paths of the programs by name. If nil, [Programs] finds them.
	Programs map[string]string
}

// ProgramNames lists the programs that Start needs.
func (o *Options) ProgramNames() []string {
	names := []string{"etcd", "kube-apiserver", "kube-controller-manager"}
	if o.Scheduler {
		names = append(names, "kube-scheduler")
	}
	return names
}

// A Cluster is a running control plane. Its fields are set once by Start.
type Cluster struct {
	Address string // of the API server, host:port
	URL     string
	Admin   string // the kubeconfig file of a user that may do everything
	CA      *Authority

	dir       string
	starter   *Starter
	processes []*Process
}

// Start starts a control plane whose files are in a folder of their own inside dir,
// and returns when it serves requests and its controllers run. The error has the last
// lines of the program that failed. The caller must call Stop.
func Start(ctx context.Context, dir string, o Options) (_ *Cluster, err error) {
	if o.Programs == nil {
		if o.Programs, err = Programs(ctx, o.ProgramNames()...); err != nil {
			return nil, err
		}
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	c := &Cluster{dir: filepath.Join(dir, "controlplane")}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return nil, err
	}
	c.starter = NewStarter(c.dir)
	if err := c.start(ctx, &o); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, o *Options) error {
	free, err := freeAddresses(o.Host, 5)
	if err != nil {
		return err
	}
	etcd, peer, controllers, scheduler := free[0], free[1], free[2], free[3]
	c.Address, c.URL = free[4], "https://"+free[4]
	if err := c.issue(o.Host); err != nil {
		return err
	}
	admission, err := c.writeAdmissionConfig()
	if err != nil {
		return err
	}

	if err := c.run(ctx, o, "etcd", "http://"+etcd+"/readyz", etcdArguments(filepath.Join(c.dir, "etcd"), etcd, peer)...); err != nil {
		return err
	}
	if err := c.run(ctx, o, "kube-apiserver", c.URL+"/readyz", append(c.apiServerArguments(etcd, admission), o.APIServer...)...); err != nil {
		return err
	}
	user, err := c.Kubeconfig("controllers", "system:kube-controller-manager")
	if err != nil {
		return err
	}
	if err := c.run(ctx, o, "kube-controller-manager", "https://"+controllers+"/healthz", append(c.controllerManagerArguments(user, controllers), o.ControllerManager...)...); err != nil {
		return err
	}
	if !o.Scheduler {
		return nil
	}
	user, err = c.Kubeconfig("scheduler", "system:kube-scheduler")
	if err != nil {
		return err
	}
	return c.run(ctx, o, "kube-scheduler", "https://"+scheduler+"/readyz", c.schedulerArguments(user, scheduler)...)
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
func (c *Cluster) run(ctx context.Context, o *Options, name, url string, args ...string) error {
	p, err := c.starter.Start(name, nil, append([]string{o.Programs[name]}, args...)...)
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

// freeAddresses returns addresses that nobody listens on.
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
