package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
	"github.com/culvert-grpc/culvert/kubernetes/webhook"
)

//go:generate go test -count=1 -run ^TestReferenceMatchesTheProgram$ . -update

var update = flag.Bool("update", false, "write the generated page")

// TestReferenceMatchesTheProgram holds the page to commands, annotations, keys and
// metrics. What writes it is here, and not in the shipped program.
func TestReferenceMatchesTheProgram(t *testing.T) {
	const name = "../../../docs/reference/culvert-kube.md"
	want := referencePage(t)
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s isn't what culvert-kube says (%v): run `go -C kubernetes generate ./cmd/culvert-kube`", name, err)
	}
}

const referenceHead = `# culvert-kube

For people who put culvert into a cluster: the commands of ` + "`culvert-kube`" + `, annotations of pods, the injector's configuration
and metrics.
`

const exitCodes = `
Exit codes are [those of culvert](cli.md#exit-codes), except [check's](#culvert-kube-check).

Next: [injection](../guides/kubernetes.md), [how culvert drains with the pod](../guides/kubernetes-drain.md).
`

func referencePage(t *testing.T) []byte {
	var b bytes.Buffer
	b.WriteString(referenceHead)
	b.WriteString("\nEach command has help (`culvert-kube webhook --help`). `culvert-kube completion` prints completions for shells.\n")
	seen := map[string]string{} // the command that has a flag first, by the flag's row
	for _, c := range newRootCommand().Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" && c.Name() != "completion" {
			writeCommand(&b, c, seen)
		}
	}
	writeAnnotations(t, &b)
	writeConfig(t, &b)
	writeMetrics(t, &b)
	b.WriteString(exitCodes)
	return b.Bytes()
}

// inPlaceOfHelp is what the page says in place of a command's help, which needs more.
var inPlaceOfHelp = map[string]string{
	"inject": `inject prints manifests with culvert in the pods that ask for it by the [label](#annotations-of-pods), of the pod or of its
namespace in the same manifests. It finds pods in Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob,
ReplicationController, PodTemplate, and lists of these. With ~--all~, each pod gets culvert unless its label is ~disabled~.

Documents without such a pod pass byte for byte; others lose blank lines. If a pod asks for culvert and can't have it, inject exits with 1
and prints no manifest.`,
	"check": `check says which pods get culvert, which are refused, and which have an outdated culvert. It finds what keeps culvert from
running or from being reached, and where clients reach a backend's port past culvert. It prints the remedy.

Without ~-f~, check reads the cluster that kubectl uses. It needs the verbs get and list on pods, deployments, statefulsets, daemonsets, jobs,
cronjobs, services, limitranges, ingresses, networkpolicies, configmaps, endpointslices, namespaces and mutatingwebhookconfigurations, and
reads no Secrets. It compares the sidecars by the injector's configuration in the cluster or ~--config~, else only their image,
with ~--sidecar-image~.

It exits with 1 if it finds an error (see ~--fail-on~), and with 2 if it can't check.`,
	"webhook": `webhook serves the API server over HTTPS, and puts culvert into each new pod that asks for it. It refuses a pod that can't
have it, or that has more than 20000 fields and list items.

It finds the API server like kubectl, by KUBECONFIG or in a pod by the service account, and makes its own
[certificates](../guides/kubernetes-upgrades.md#certificates). With ~--tls-cert~ it needs no API server. It loads the files of certificates
again when they change, but not the file of ~--config~.`,
}

// writeCommand writes a command, with the flags that no command before has in the same words.
func writeCommand(b *bytes.Buffer, c *cobra.Command, seen map[string]string) {
	fmt.Fprintf(b, "\n## %s\n", c.CommandPath())
	if text := cmp.Or(strings.ReplaceAll(inPlaceOfHelp[c.Name()], "~", "`"), c.Long); text != "" {
		b.WriteString("\n" + text + "\n")
	}
	b.WriteString("\n```sh\n")
	for line := range strings.Lines(c.Example) {
		b.WriteString(strings.TrimPrefix(line, "  "))
	}
	b.WriteString("\n```\n")
	head, also := "\n| Flag | Meaning |\n|---|---|\n", map[string][]string{}
	c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
			usage += "; default `" + f.DefValue + "`"
		}
		name := "`--" + f.Name
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		row := fmt.Sprintf("| %s` | %s |\n", strings.TrimSpace(name+" "+value), strings.ReplaceAll(usage, "*", `\*`))
		if first := seen[row]; first != "" {
			also[first] = append(also[first], "`--"+f.Name+"`")
			return
		}
		seen[row] = c.Name()
		b.WriteString(head + row)
		head = ""
	})
	for _, first := range slices.Sorted(maps.Keys(also)) {
		fmt.Fprintf(b, "\nAs in [%s](#culvert-kube-%s): %s.\n", first, first, strings.Join(also[first], ", "))
	}
}

// annotationTexts are about the annotations that are no keys of culvert's
// configuration.
var annotationTexts = map[string]string{
	"args":             "more arguments of `culvert serve`: a list in JSON",
	"backend-host":     "the host of the gRPC service; default `127.0.0.1`",
	"backend-port":     "the number or name of the service's port; default: the only port named `grpc` or `grpc-…`",
	"config":           "a ConfigMap with culvert's configuration in the key `proxy.yaml`",
	"image":            "the sidecar's image",
	"listen-port":      "culvert's port for clients",
	"mounts":           "more mounts of the pod's volumes: a list in JSON",
	"security-context": "fields of the sidecar's security context in JSON. The others stay: to run as root, also set `runAsNonRoot` to `false`",
	"tls-secret":       "a Secret of the type `kubernetes.io/tls`, for clients that use TLS",
}

func writeAnnotations(t *testing.T, b *bytes.Buffer) {
	b.WriteString(`
## Annotations of pods

Names begin with ` + "`" + inject.AnnotationPrefix + "`" + `. A restricted annotation needs [permission](#the-injectors-configuration) for the namespace. The
label ` + "`" + inject.Label + "`" + ` with the value ` + "`" + inject.Enabled + "`" + `, on the pod or its namespace, asks for culvert. The pod's label wins.

| Annotation | Meaning |
|---|---|
`)
	described, limits := 0, false
	for _, name := range inject.AnnotationNames() {
		if strings.HasPrefix(name, "limits.") {
			if !limits {
				b.WriteString("| `limits.…` | each key of [`limits`](configuration.md#limits) and of [`limits.address`](configuration.md#limitsaddress) |\n")
			}
			limits = true
			continue
		}
		text := annotationTexts[name]
		if text != "" {
			described++
		} else if strings.Contains(name, "-") {
			t.Errorf("no text for the annotation %s", name)
		} else {
			text = "the key [`" + name + "`](configuration.md#" + strings.ReplaceAll(name, ".", "") + ")"
		}
		if inject.Restricted(name) {
			text = "restricted: " + text
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", name, text)
	}
	if described != len(annotationTexts) {
		t.Errorf("there is a text for %d annotations, and %d of them exist", len(annotationTexts), described)
	}
}

// configTexts are about the keys of the injector's configuration.
var configTexts = map[string]string{
	"image":              "the sidecar's image. Required, or `--sidecar-image`, which wins",
	"imagePullPolicy":    "`Always`, `IfNotPresent` or `Never`; default: Kubernetes' own",
	"listenPort":         "the port for clients, with the name `culvert`",
	"healthPort":         "the port for probes and metrics, with the name `culvert-health`, on the pod's address",
	"adminPort":          "the port for the drain, on loopback",
	"resources":          "requests and limits of the sidecar",
	"drainDelay":         "how long culvert still accepts calls when the pod begins to end, in whole seconds",
	"drainTimeout":       "culvert's `drain_timeout`, in whole seconds",
	"tlsSecret":          "a Secret of the pod's namespace, of the type `kubernetes.io/tls`; default: clients use plaintext",
	"hostNetwork":        "also inject pods with `hostNetwork`, whose ports are the node's",
	"excludedNamespaces": "namespaces that are never injected, besides " + "`" + strings.Join(inject.SystemNamespaces, "`, `") + "`",
	"allow":              "restricted annotations that pods may have: a list of `namespaces` (names or patterns such as `team-*`) with `annotations`",
}

func writeConfig(t *testing.T, b *bytes.Buffer) {
	b.WriteString(`
## The injector's configuration

` + "`--config`" + ` names a file in YAML with these keys. Annotations can't change it. An unknown key is an error.

| Key | Default | Meaning |
|---|---|---|
`)
	text, err := json.Marshal(inject.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	var defaults map[string]json.RawMessage
	if err := json.Unmarshal(text, &defaults); err != nil {
		t.Fatal(err)
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[inject.Config]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if configTexts[name] == "" {
			t.Errorf("no text for the key %s", name)
		}
		byDefault := ""
		if text := strings.Trim(string(defaults[name]), `"`); text != "" && text != "null" {
			byDefault = "`" + text + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, byDefault, configTexts[name])
	}
}

// writeMetrics takes the metrics from a server.
func writeMetrics(t *testing.T, b *bytes.Buffer) {
	b.WriteString(`
## Metrics

` + "`culvert-kube webhook`" + ` serves ` + "`/metrics`" + ` for Prometheus at ` + "`--health-listen`" + `, with those of Go and of the process.

| Metric | Type | Meaning |
|---|---|---|
`)
	ctx, cancel := context.WithCancel(t.Context())
	server, err := webhook.Listen(ctx, webhook.Options{
		Listen: "127.0.0.1:0", HealthListen: "127.0.0.1:0", Config: new(inject.Config), Log: slog.New(slog.DiscardHandler),
		Certificate: func() (*tls.Certificate, error) { return nil, errors.New("none") },
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1) // so that Run needn't wait for the test
	go func() { ended <- server.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + server.HealthAddr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(response.Body)
	response.Body.Close()
	cancel()
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^# HELP (culvert_\S+) (.*)\n# TYPE \S+ (\S+)$`).FindAllStringSubmatch(string(page), -1)
	if len(found) == 0 {
		t.Errorf("no metrics on\n%s", page)
	}
	for _, m := range found {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", m[1], m[3], m[2])
	}
	results := regexp.MustCompile(`(?m)^culvert_injector_reviews_total\{result="([^"]+)"\}`).FindAllStringSubmatch(string(page), -1)
	var names []string
	for _, m := range results {
		names = append(names, "`"+m[1]+"`")
	}
	fmt.Fprintf(b, "\nThe label `result` is one of %s.\n`irrelevant` isn't about a new pod. `malformed` is no request of an API server, or over 3328 KiB. `busy` is a request too many, or one that\nended before there was memory for it.\n", strings.Join(names, ", "))
}
