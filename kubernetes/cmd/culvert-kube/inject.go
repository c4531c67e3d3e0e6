package main

import (
	"cmp"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
	"github.com/culvert-grpc/culvert/kubernetes/manifest"
)

func newInjectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inject -f FILE",
		Short: "Put culvert into the pods of manifests",
		Long: `inject reads manifests and prints them with culvert in the pods that ask for it. They
ask by the label culvert.dev/inject: enabled, of the pod or of its namespace in the
same manifests. With --all, each pod gets culvert unless its label is disabled.
Pods are found in Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob,
ReplicationController, PodTemplate, and lists of these.

Documents without such a pod pass byte for byte. The others lose blank lines, and
some texts get another form, for example "\U0001F680" for an emoji. A second inject
changes nothing.

Standard error has what inject did. If a pod asks for culvert and can't have it,
inject exits with 1 and prints no manifest.`,
		Example: `  culvert-kube inject -f app.yaml --sidecar-image culvert:1.0.0 | kubectl apply -f -
  kubectl get deployment orders -o yaml | culvert-kube inject -f - --all --sidecar-image culvert:1.0.0
  culvert-kube inject -f base.yaml -f more.yaml --config injector.yaml`,
		Args: noArguments,
	}
	files := addFiles(cmd)
	conf := addConfig(cmd)
	var o manifest.Options
	cmd.Flags().StringVarP(&o.Namespace, "namespace", "n", "default", "`namespace` of objects that name none")
	cmd.Flags().BoolVar(&o.All, "all", false, "inject every pod that doesn't opt out")
	cmd.RunE = failing(func(cmd *cobra.Command) (err error) {
		if o.Config, err = conf.load(); err != nil {
			return err
		}
		return rewrite(cmd, *files, func(text []byte) ([]byte, []manifest.Outcome, error) { return manifest.Inject(text, o) })
	})
	return cmd
}

func newUninjectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uninject -f FILE",
		Short: "Take culvert out of the pods of manifests",
		Long: `uninject prints manifests without culvert, and without the volumes and the grace
period that came with it. Documents without culvert pass byte for byte.`,
		Example: `  culvert-kube uninject -f injected.yaml
  kubectl get deployment orders -o yaml | culvert-kube uninject -f - | kubectl replace -f -`,
		Args: noArguments,
	}
	files := addFiles(cmd)
	cmd.RunE = failing(func(cmd *cobra.Command) error { return rewrite(cmd, *files, manifest.Remove) })
	return cmd
}

func addFiles(cmd *cobra.Command) *[]string {
	files := cmd.Flags().StringArrayP("filename", "f", nil, "`file` with manifests, - for standard input; may be given several times")
	_ = cmd.MarkFlagRequired("filename") // an error would mean that there is no such flag
	return files
}

// A configFlags are the flags about the injector's configuration.
type configFlags struct{ file, image string }

func addConfig(cmd *cobra.Command) *configFlags {
	c := new(configFlags)
	cmd.Flags().StringVar(&c.image, "sidecar-image", "", "`image` of culvert, such as culvert:1.0.0")
	cmd.Flags().StringVar(&c.file, "config", "", "`file` with the injector's configuration")
	return c
}

// load reads the file and the flags, which win over it.
func (f *configFlags) load() (*inject.Config, error) {
	c := inject.DefaultConfig()
	place := "--sidecar-image"
	if f.file != "" {
		place = f.file
		text, err := os.ReadFile(f.file)
		if err != nil {
			return nil, fmt.Errorf("--config: %w", err)
		}
		read, err := inject.ReadConfig(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.file, err)
		}
		c = *read
	}
	c.Image = cmp.Or(f.image, c.Image)
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	return &c, nil
}

// rewrite reads the files, and writes them changed. It writes nothing if one of them
// is wrong.
func rewrite(cmd *cobra.Command, files []string, change func([]byte) ([]byte, []manifest.Outcome, error)) error {
	text, err := readAll(files, cmd.InOrStdin())
	if err != nil {
		return err
	}
	out, outcomes, err := change(text)
	if err != nil {
		return err
	}
	changed := 0
	for _, o := range outcomes {
		line := fmt.Sprintf("%s: %s", o.Object, o.Action)
		if o.Reason != "" {
			line += ": " + o.Reason
		}
		if o.Changed {
			changed++
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "culvert-kube: %s\n", printable(line))
		for _, w := range o.Warnings {
			fmt.Fprintf(cmd.ErrOrStderr(), "culvert-kube: %s: warning: %s\n", printable(o.Object), w)
		}
	}
	if changed == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "culvert-kube: nothing was changed")
	}
	_, err = cmd.OutOrStdout().Write(out)
	return err
}

// readAll joins the files to one stream.
func readAll(files []string, stdin io.Reader) ([]byte, error) {
	texts := make([][]byte, 0, len(files))
	for _, name := range files {
		text, err := readFile(name, stdin)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return manifest.Join(texts...), nil
}

// readFile reads a file, or standard input if the name is "-".
func readFile(name string, stdin io.Reader) ([]byte, error) {
	from := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("-f: %w", err)
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, manifest.MaxSize+1))
	if err == nil && len(text) > manifest.MaxSize {
		err = fmt.Errorf("over the limit of %d MiB: split it", manifest.MaxSize>>20)
	}
	if err != nil {
		return nil, fmt.Errorf("-f %s: %w", name, err)
	}
	return text, nil
}
