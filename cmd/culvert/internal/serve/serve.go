// Package serve is a program that serves clients in front of gRPC servers, from its start to
// its end. It opens what the rooms beside it have: certificates, files, sockets, a log. It
// reloads the configuration while it runs.
//
// To read it, begin with serve.go, which opens everything in order, and run.go, which serves.
// drain.go has what SIGTERM does, and reload.go what SIGHUP or a changed file does.
//
// Each part of the program has a file: ports (what it listens on), observers (what sees its
// calls), reloader (which configuration runs), announcer (what the backends have), memory
// and releaser (what it may use, and gives back), and the watchdog of systemd. A program has
// them all, opens them in one order, and ends them in the other.
package serve

import (
	"context"
	"crypto/tls"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/files"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/keys"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/logs"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

// Options are what a program gets from its command.
type Options struct {
	Config  *config.Loaded                 // with a backend
	Again   func() (*config.Loaded, error) // loads it again
	Signals <-chan os.Signal               // SIGTERM, SIGINT and SIGHUP
	Out     io.Writer                      // for people
	Stderr  io.Writer                      // for the log
	Text    func(error) string             // an error as it is written on standard error
	Abort   func()                         // ends the process at once, as one that failed
	Version string                         // of this build
}

// Run serves until a signal or an error of a listener. If it returns an error, it has written
// it behind the log.
func Run(ctx context.Context, o Options) (err error) {
	block, stopCollector := setCollector()
	defer stopCollector()
	p := &program{Options: o, began: time.Now(), memory: newMemoryLimit(block)}
	p.log = p.exports.openLog(&o) //nolint:contextcheck // the log outlasts the context
	defer func() { p.closeLog(err) }()
	defer p.memory.remove()
	warn(p.log.Logger, p.Config.Warnings, nil)
	p.memory.set(p.log.Logger, p.memory.find(p.Config.Limits.Memory))
	opened, err := p.unlessEnded(func() error { return p.open(ctx) }) //nolint:contextcheck // what is closed then runs for no context
	if !opened {
		return err
	}
	return p.run(ctx)
}

// Warnings returns the warnings about a configuration that config can't give.
func Warnings(c *config.Loaded) []string { return append(files.Exposed(c), wiring.Warnings(c)...) }

type program struct {
	Options // Config is the one at the start, compact when open returns; reloads has the current one
	log     *logs.Log
	memory  memoryLimit
	ends    time.Time // by when culvert must have ended; zero: it doesn't drain

	observers observers
	exports   exports
	keys      *keys.Ring
	described *files.Descriptors
	auth      *gatekeeper
	bridge    *bridge.Server
	ports     ports
	health    admin.Health
	draining  admin.Drain // on request of an operator
	began     time.Time
	access    admin.Access
	token     *files.Token
	adminTLS  *tls.Config // nil: the admin address speaks plaintext
	reloads   *reloader
	announcer *announcer
}

// openingPatience limits how long culvert waits at its end for an open that
// still runs. Without the wait, a unix socket could remain.
const openingPatience = time.Second

// unlessEnded handles signals while open runs, because a name server or a
// file system that doesn't respond must not keep culvert from ending. opened is
// false if there is nothing to run.
func (p *program) unlessEnded(open func() error) (opened bool, err error) {
	opening := make(chan error, 1)    // so that open never waits for the receiver
	go func() { opening <- open() }() // received below, or the process ends
	for {
		select {
		case err := <-opening:
			return err == nil, err
		case s := <-p.Signals:
			if s == syscall.SIGHUP { // open reads everything anyway
				continue
			}
			p.log.Info("stopped before culvert served clients", "signal", s.String())
			select {
			case err := <-opening:
				if err == nil {
					p.close()
				}
			case <-time.After(openingPatience): // the end of the process closes the rest
			}
			return false, nil
		}
	}
}

// open binds the addresses and reads the certificates, so that all errors
// occur before culvert reports that it is ready.
func (p *program) open(ctx context.Context) (err error) {
	defer func() { //nolint:contextcheck // nothing runs yet that a context could end
		if err != nil {
			p.close()
		}
	}()
	cfg := wiring.Bridge(p.Config)
	cfg.Logger, cfg.Version = p.log.Logger, p.Version
	certificates := p.observers.open(&cfg, p.Config, p.log, p.Version, func() int64 { return p.bridge.Snapshot().ClientBytes })
	later := Warnings(p.Config) // here, because a file system may hang
	warn(p.log.Logger, later, nil)
	if err = p.openKeys(&cfg, certificates); err != nil { //nolint:contextcheck // no context ends the reading of files
		return err
	}
	if p.auth, err = openGatekeeper(p.Config, p.log.Logger, p.keys.SecureAuth); err != nil { //nolint:contextcheck // the fetches of keys outlast the context
		return err
	}
	p.auth.into(&cfg)
	if err = p.openExports(&cfg); err != nil { //nolint:contextcheck // the exporters outlast the context
		return err
	}
	if err = p.ports.bind(ctx, p.Config, p.log.Logger, p.keys.Serves); err != nil {
		return err
	}
	boundMemory(&cfg, p.memory.bytes, p.Config)
	p.memory.warn(p.log.Logger, &cfg)
	wiring.LogLimits(p.log.Logger, cfg.Limits)
	if p.bridge, err = wiring.New(cfg, p.Config); err != nil {
		return err
	}
	if err = p.ports.bindOthers(ctx, p.Config, p.log.Logger); err != nil {
		return err
	}
	p.keys.StartFetching(ctx)
	p.announcer = newAnnouncer(p.Config, p.bridge.Services, p.log.Logger)
	p.openReloads(ctx)
	p.reloads.later = later
	p.watchReloads()
	p.Config = p.Config.Compact() // a running program keeps no other
	return nil
}

// problems returns a line for each problem that doesn't keep culvert from serving.
func (p *program) problems() []string {
	return slices.Concat(p.reloads.problems(), p.keys.Problems(), p.described.Problems(), p.auth.problems(), p.token.Problems(), p.bridge.Problems())
}

// openKeys reads the certificates and descriptors, and sets what each of listen accepts.
func (p *program) openKeys(cfg *bridge.Config, obs keys.Observer) (err error) {
	if p.described, err = files.OpenDescriptors(p.Config, p.log.Logger); err != nil {
		return err
	}
	p.described.Describe(cfg.Backends, p.Config)
	if p.keys, err = keys.Open(p.Config, p.log.Logger, obs, p.Out); err != nil {
		return err
	}
	p.health.SetDetail(p.problems)
	p.health.SetBackends(p.backends)
	p.keys.Secure(cfg.Backends)
	certificates, err := p.keys.Listeners(p.Config)
	if err != nil {
		return err
	}
	for i, own := range certificates {
		rules := wiring.Listener(p.Config, i)
		if own != nil {
			rules.TLS, rules.SamePolicy = own.Config, own.SamePolicy
		}
		p.ports.public = append(p.ports.public, port{rules: rules})
	}
	return p.openAccess()
}

// close releases the resources of open if run isn't called.
func (p *program) close() {
	if p.keys != nil {
		p.keys.Close(keys.Patience)
	}
	p.ports.close()
	if p.bridge != nil {
		_ = p.bridge.Close() // the error that counts is the one that led here
	}
	if p.auth != nil {
		p.auth.close()
	}
	p.closeExports()
}

// lastLog is how long the end of culvert waits for the log, unless a drain leaves less.
const lastLog = time.Second

// closeLog waits for a short time until the log is written, with err behind it: its reader
// is the only one that may block.
func (p *program) closeLog(err error) {
	if err != nil {
		p.log.Last(p.Text(err))
	}
	p.log.Close(patienceUntil(p.ends, lastLog, 0))
}
