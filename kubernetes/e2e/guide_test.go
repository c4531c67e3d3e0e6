package e2e

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// root is the repository.
const root = "../.."

// A step is a section of a guide, and what must be so when its commands have run.
type step struct {
	page, section string
	then          func(t *testing.T, r *reader, printed string)
}

// The steps are in the order in which an operator comes to them. A section with commands
// that isn't here fails the test.
var steps = []step{
	{"kubernetes.md", "Install the injector", func(t *testing.T, _ *reader, _ string) {
		eventually(t, "pods get culvert", injects(makeNamespace(t, injectLabel, "enabled")))
	}},
	{"kubernetes.md", "Try it", func(t *testing.T, _ *reader, printed string) {
		if n := strings.Count(printed, " culvert\n"); n != 2 {
			t.Errorf("%d pods with culvert, want 2:\n%s", n, printed)
		}
	}},
	{"kubernetes.md", "Annotations", nil},
	{"kubernetes-upgrades.md", "Upgrade", nil},
	{"kubernetes-upgrades.md", "Fail-closed and fail-open", func(t *testing.T, r *reader, _ string) {
		namespace := makeNamespace(t, injectLabel, "enabled")
		eventually(t, "pods are made without culvert", func(ctx context.Context) error {
			if injects(namespace)(ctx) == nil {
				return errors.New("they get culvert")
			}
			return nil
		})
		r.sh(t, r.pages["kubernetes-upgrades.md"][0].commands[0]) // an upgrade brings the registration back, as the page says
		eventually(t, "pods get culvert again", injects(namespace))
		if n, err := trusted(t.Context()); n != 1 {
			t.Errorf("the caBundle has %d CAs, want 1 (%v)", n, err)
		}
	}},
	{"kubernetes-upgrades.md", "Certificates", func(t *testing.T, _ *reader, _ string) {
		eventually(t, "the caBundle has a second CA", func(ctx context.Context) error {
			if n, err := trusted(ctx); err != nil || n < 2 {
				return errors.Join(fmt.Errorf("it has %d", n), err)
			}
			return nil
		})
		eventually(t, "pods get culvert", injects(makeNamespace(t, injectLabel, "enabled")))
	}},
	{"kubernetes-upgrades.md", "Change the certificate's source", func(t *testing.T, _ *reader, _ string) {
		c, err := kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), "culvert-injector", metav1.GetOptions{})
		if err != nil || *c.Webhooks[0].FailurePolicy != admissionv1.Fail || bundleOf(c) != string(read(t, cluster.CA.File("ca.crt"))) {
			t.Errorf("want Fail and the CA of the file: %v, %+v", err, c)
		}
		eventually(t, "pods get culvert", injects(makeNamespace(t, injectLabel, "enabled")))
	}},
	{"kubernetes-upgrades.md", "Uninstall", nil},
	{"kubernetes.md", "Without the injector", func(t *testing.T, r *reader, _ string) {
		if text := r.sh(t, "kubectl -n shop get deployment orders -o jsonpath='{.spec.template.spec.initContainers[*].name}'"); text != "culvert" {
			t.Errorf("the sidecars are %q, want culvert", text)
		}
	}},
	{"kubernetes-by-hand.md", "Start", nil},
}

// trusted counts the CAs that the API server trusts for the injector.
func trusted(ctx context.Context) (n int, err error) {
	c, err := kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, "culvert-injector", metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	for b, rest := pem.Decode(c.Webhooks[0].ClientConfig.CABundle); b != nil; b, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(b.Bytes); err == nil && c.IsCA {
			n++
		}
	}
	return n, nil
}

// notRun are the commands of the guides that take more than an API server, each with
// what shows it to be right.
var notRun = map[string]string{
	"docker ":       "tools/images assembles the images of the Dockerfile without an engine",
	" port-forward": "it takes a node: the package kubelet calls an injected pod",
}

// TestGuides runs the commands of the guides, one after the other. It isn't parallel: the
// registration is for all namespaces of the cluster.
func TestGuides(t *testing.T) {
	runNodes(t, "culvert-system", "shop", metav1.NamespaceDefault)
	r := newReader(t)
	t.Cleanup(func() { // other tests have the same names
		for _, objects := range [][]string{
			{"mutatingwebhookconfigurations", "culvert-injector"},
			{"deployments,services", "orders", "-n", "shop"},
			{"configmaps", "orders-culvert", "-n", "shop"},
			{"deployments,services", "orders", "-n", metav1.NamespaceDefault},
			{"secrets", "injector-tls", "-n", "culvert-system"},
		} {
			if text, err := r.try(context.Background(), "kubectl delete --ignore-not-found "+strings.Join(objects, " ")); err != nil {
				t.Errorf("%v: %s", err, text)
			}
		}
	})
	for _, s := range steps {
		ok := t.Run(s.page+"/"+s.section, func(t *testing.T) {
			printed := r.do(t, s.page, s.section)
			if s.then != nil {
				s.then(t, r, printed)
			}
		})
		if !ok {
			break // the rest builds on it
		}
	}
	for part := range notRun {
		if !t.Failed() && !r.left[part] {
			t.Errorf("no guide has %q: remove it from those that aren't run", part)
		}
	}
	for page := range r.pages {
		for _, section := range r.pages[page] {
			if !slices.ContainsFunc(steps, func(s step) bool { return s.page == page && s.section == section.title }) {
				t.Errorf("%s has commands under %q: add a step", page, section.title)
			}
		}
	}
}

// A reader does what guides say, in a folder that has the repository's files.
type reader struct {
	dir   string
	env   []string
	pages map[string][]section
	left  map[string]bool // of notRun: whether a command was left out
}

func newReader(t *testing.T) *reader {
	t.Helper()
	r := &reader{dir: t.TempDir(), pages: map[string][]section{}, left: map[string]bool{}}
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(here)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := os.Symlink(filepath.Join(here, n.Name()), filepath.Join(r.dir, n.Name())); err != nil {
			t.Fatal(err)
		}
	}
	// The certificate that the operator brings.
	if err := cluster.CA.Issue("tls", "culvert-injector", nil, []string{"culvert-injector.culvert-system.svc"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		if err := os.Symlink(cluster.CA.File(name), filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	bin, home := t.TempDir(), t.TempDir()
	for _, name := range []string{"kubectl", "helm", "culvert-kube"} {
		if err := os.Symlink(programs[name], filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+home, "KUBECONFIG="+cluster.Admin)
	guides, err := filepath.Glob(filepath.Join(root, "docs/guides/kubernetes*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range guides {
		r.pages[filepath.Base(g)] = sections(string(read(t, g)))
	}
	return r
}

// A section of a guide has commands for a cluster.
type section struct {
	title    string
	commands []string
}

var (
	heading = regexp.MustCompile(`(?m)^## `)
	block   = regexp.MustCompile("(?ms)^```(sh cluster|console)\n(.*?)^```$")
)

// sections returns the sections of a guide that have commands for a cluster: those
// behind the fence "sh cluster", and those with culvert-kube in a session, which write
// the files that the others read.
func sections(page string) (all []section) {
	for _, text := range heading.Split(page, -1)[1:] {
		title, text, _ := strings.Cut(text, "\n")
		s, cluster := section{title: title}, false
		for _, b := range block.FindAllStringSubmatch(text, -1) {
			cluster = cluster || b[1] == "sh cluster"
			for line := range strings.Lines(strings.ReplaceAll(b[2], "\\\n", " ")) {
				line, isCommand := strings.CutPrefix(strings.TrimSpace(line), "$ ")
				if b[1] == "sh cluster" || isCommand && strings.HasPrefix(line, "culvert-kube ") {
					s.commands = append(s.commands, line)
				}
			}
		}
		if cluster {
			all = append(all, s)
		}
	}
	return all
}

// do runs the commands of a section, and returns what they print.
func (r *reader) do(t *testing.T, page, title string) (printed string) {
	t.Helper()
	i := slices.IndexFunc(r.pages[page], func(s section) bool { return s.title == title })
	if i < 0 {
		t.Fatalf("%s has no commands under %q", page, title)
	}
	for _, c := range r.pages[page][i].commands {
		if !r.leaves(c) {
			printed += r.sh(t, c)
		}
	}
	return printed
}

// leaves reports whether a command is one of notRun.
func (r *reader) leaves(command string) bool {
	for part := range notRun {
		if strings.Contains(command, part) {
			r.left[part] = true
			return true
		}
	}
	return false
}

// tooSoon is what kubectl says of a second restart within a second. Readers are slower.
const tooSoon = "please wait before attempting to trigger another"

// sh runs a command line, and returns what it prints.
func (r *reader) sh(t *testing.T, command string) (printed string) {
	t.Helper()
	eventually(t, command, func(ctx context.Context) (err error) {
		printed, err = r.try(ctx, command)
		if err != nil && !strings.Contains(err.Error(), tooSoon) {
			t.Fatalf("%s: %v\n%s", command, err, printed)
		}
		return err
	})
	return printed
}

// try runs a command line once. The error has what it says on standard error.
func (r *reader) try(ctx context.Context, command string) (printed string, err error) {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", command)
	cmd.Dir, cmd.Env = r.dir, r.env
	stderr := new(strings.Builder)
	cmd.Stderr = stderr
	text, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr)
	}
	return string(text), err
}
