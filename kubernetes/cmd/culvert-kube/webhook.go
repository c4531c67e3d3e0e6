package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/kubernetes/certs"
	"github.com/culvert-grpc/culvert/kubernetes/webhook"
)

type webhookFlags struct {
	options   webhook.Options
	cert, key string
	clientCA  string
	logFormat string
	injector  *configFlags
	certs     certs.Options
}

func newWebhookCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "Inject new pods, as a webhook of the API server",
		Long: `webhook serves the API server over HTTPS. It puts culvert into each new pod that asks
for it, and refuses a pod that can't have it.

A container with 128 MiB is enough. webhook refuses a pod with more than 20000 fields
and list items. Go's memory stays within nine tenths of the container's, unless
GOMEMLIMIT is set.

It makes its own serving certificate, and renews it without an outage. All replicas
share the CA, in a Secret and in the caBundle of the webhook's configuration.
culvert-kube finds the API server like kubectl: by KUBECONFIG, or in a pod by the
service account.

With --tls-cert it needs no API server, and doesn't touch the caBundle. It loads the
files of certificates again when they change, but not the file of --config.

At SIGTERM, /readyz fails first. webhook still serves for --drain-delay, while the API
server learns of its end.`,
		Example: `  culvert-kube webhook --sidecar-image culvert:1.0.0
  culvert-kube webhook --config injector.yaml --tls-cert tls.crt --tls-key tls.key`,
		Args: noArguments,
	}
	f := new(webhookFlags)
	flags := cmd.Flags()
	flags.StringVar(&f.options.Listen, "listen", ":8443", "`address` for the API server (HTTPS)")
	flags.StringVar(&f.options.HealthListen, "health-listen", ":9901", "`address` for /livez, /readyz and /metrics (HTTP)")
	flags.StringVar(&f.cert, "tls-cert", "", "`file` with the serving certificate (PEM)")
	flags.StringVar(&f.key, "tls-key", "", "`file` with its private key (PEM)")
	flags.StringVar(&f.certs.Namespace, "namespace", "", "`namespace` of Service and Secret (default POD_NAMESPACE, or the pod's own)")
	flags.StringVar(&f.certs.Service, "service", "culvert-injector", "`name` of the Service by which the API server calls the webhook")
	flags.StringVar(&f.certs.Secret, "secret", "culvert-injector-certs", "`name` of the Secret that keeps the CA")
	flags.StringVar(&f.certs.WebhookConfig, "webhook-config", "culvert-injector", "`name` of the MutatingWebhookConfiguration that gets the CA")
	flags.StringVar(&f.clientCA, "client-ca", "", "`file` with CA certificates for verifying the API server, which must then present a certificate (PEM)")
	flags.DurationVar(&f.options.DrainDelay, "drain-delay", 5*time.Second, "how long to serve after SIGTERM")
	flags.StringVar(&f.logFormat, "log-format", "json", "`format` of the log: json or text")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	f.injector = addConfig(cmd)
	cmd.RunE = failing(func(cmd *cobra.Command) error { return f.run(cmd.Context(), cmd.ErrOrStderr()) })
	return cmd
}

func (f *webhookFlags) run(ctx context.Context, stderr io.Writer) (err error) {
	if f.options.Log, err = newLog(stderr, f.logFormat); err != nil {
		return err
	}
	if f.options.DrainDelay < 0 {
		return fmt.Errorf("--drain-delay: %v is negative: write a duration such as 5s", f.options.DrainDelay)
	}
	if f.options.Config, err = f.injector.load(); err != nil {
		return err
	}
	keep, err := f.certificate()
	if err != nil {
		return err
	}
	if f.clientCA != "" {
		if f.options.ClientCA, err = webhook.AuthorityFile(f.clientCA, f.options.Log); err != nil {
			return fmt.Errorf("--client-ca: %w", err)
		}
	}
	f.options.Version = thisVersion(buildInfo())
	limitMemory(memlimit.FromCgroup)
	server, err := webhook.Listen(ctx, f.options)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	var running sync.WaitGroup
	var kept error
	running.Go(func() {
		if kept = keep(ctx); kept != nil {
			end() // the server couldn't go on for long
		}
	})
	err = server.Run(ctx)
	end()
	running.Wait()
	return errors.Join(err, kept)
}

// certificate sets where the serving certificate comes from. It returns what keeps it
// until the context ends.
func (f *webhookFlags) certificate() (keep func(context.Context) error, err error) {
	if f.cert == "" {
		f.certs.Log = f.options.Log
		source, err := certs.New(f.certs)
		if err != nil {
			return nil, err
		}
		f.options.Certificate = source.Certificate
		return source.Run, nil
	}
	if f.options.Certificate, err = webhook.CertificateFiles(f.cert, f.key, f.options.Log); err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	return func(context.Context) error { return nil }, nil
}

// limitMemory has the garbage collector keep to nine tenths of the container's memory. The
// rest is for what the kernel holds for the process. A limit by GOMEMLIMIT stays.
func limitMemory(container memlimit.Provider) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit, err := memlimit.ApplyRatio(container, 0.9)(); err == nil && limit < math.MaxInt64 { // otherwise there is none
		debug.SetMemoryLimit(int64(limit))
	}
}

func newLog(w io.Writer, format string) (*slog.Logger, error) {
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	}
	return nil, fmt.Errorf("--log-format: %q is neither json nor text", format)
}
