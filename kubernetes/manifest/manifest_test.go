package manifest_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
	"github.com/culvert-grpc/culvert/kubernetes/manifest"
)

var update = flag.Bool("update", false, "write the golden files")

func options() manifest.Options {
	c := inject.DefaultConfig()
	c.Image = "culvert:1.0.0"
	return manifest.Options{Config: &c, Namespace: "default"}
}

// TestGolden compares what inject makes of each manifest in testdata with the file
// beside it. Removal gives back the content.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in.*")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d manifests: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out, outcomes, err := manifest.Inject(in, options())
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.Replace(file, ".in.", ".out.", 1)
			if *update {
				if err := os.WriteFile(golden, out, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out, want) {
				t.Errorf("the result isn't %s:\n%s", golden, out)
			}
			injected := 0
			for _, o := range outcomes {
				if o.Action == inject.Injected {
					injected++
				}
			}
			if injected == 0 {
				t.Errorf("nothing was injected: %+v", outcomes)
			}
			again, _, err := manifest.Inject(out, options())
			if err != nil || !bytes.Equal(again, out) {
				t.Errorf("a second inject changes it (%v):\n%s", err, again)
			}
			back, _, err := manifest.Remove(out)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := content(t, back), content(t, in); got != want {
				t.Errorf("after removal:\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// injectedDeployment returns a manifest with culvert, for a test that edits it.
func injectedDeployment(t *testing.T) []byte {
	t.Helper()
	in, err := os.ReadFile("testdata/deployment.in.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := manifest.Inject(in, options())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestGracePeriodIsRaisedLater edits an injected manifest, so that its grace period is too
// short for culvert.
func TestGracePeriodIsRaisedLater(t *testing.T) {
	out := injectedDeployment(t)
	const field = "terminationGracePeriodSeconds: "
	if bytes.Contains(out, []byte(field)) {
		t.Fatalf("it has a grace period already:\n%s", out)
	}
	edited := bytes.Replace(out, []byte("      containers:\n"), []byte("      "+field+"5 # of ours\n      containers:\n"), 1)
	raised, outcomes, err := manifest.Inject(edited, options())
	if err != nil || !bytes.Contains(raised, []byte(field+"27")) || len(outcomes[0].Warnings) != 1 {
		t.Fatalf("%+v, %v: want 27 s and a warning\n%s", outcomes, err, raised)
	}
	back, _, err := manifest.Remove(raised)
	if err != nil || !bytes.Contains(back, []byte(field+"5")) {
		t.Errorf("after removal it isn't 5 s (%v):\n%s", err, back)
	}
}

// TestLimitsAreAddedLater edits an injected manifest, so that culvert has one CPU at most.
func TestLimitsAreAddedLater(t *testing.T) {
	out := injectedDeployment(t)
	edited := regexp.MustCompile(`( +)limits:\n`).ReplaceAll(out, []byte("${1}limits:\n${1}  cpu: 50m # of ours\n"))
	fitting, outcomes, err := manifest.Inject(edited, options())
	if err != nil || !outcomes[0].Changed || !bytes.Contains(fitting, []byte("name: GOMAXPROCS")) || bytes.Count(fitting, []byte("cpu: 50m")) != 2 {
		t.Fatalf("%+v, %v: want GOMAXPROCS, and a request of 50m\n%s", outcomes, err, fitting)
	}
	if again, _, err := manifest.Inject(fitting, options()); err != nil || !bytes.Equal(again, fitting) {
		t.Errorf("a second inject changes it (%v):\n%s", err, again)
	}
}

// content returns the documents without comments and style.
func content(t *testing.T, text []byte) string {
	t.Helper()
	var all []any
	decode := yaml.NewDecoder(bytes.NewReader(text)).Decode
	if json.Valid(text) { // not all of it is YAML
		decode = json.NewDecoder(bytes.NewReader(text)).Decode
	}
	for {
		var v any
		if decode(&v) != nil {
			break
		}
		all = append(all, v)
	}
	out, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestUntouched has what has no pod that asks: it passes byte for byte.
func TestUntouched(t *testing.T) {
	for _, text := range []string{
		"",
		"\n# nothing\n---\n---\n",
		"%YAML 1.2\n---\na:   1 # odd\n...\n",
		"a: 9007199254740993\r\n\r\nb: |\r\n  ---x\r\n",
		"\ufeffkind: ConfigMap\napiVersion: v1\ndata: {a: '---'}",
		"kind: Deployment\napiVersion: example.com/v1\nspec: 1\n",
		"kind: Pod\napiVersion: v1\nspec:   {containers: []}\n",
		"kind: Pod\napiVersion: v1\nmetadata: {labels: {1: x}}\nspec: {containers: []}\n",
		"kind: ReplicationController\napiVersion: v1\nspec: {replicas: 0}\n",
		"- just\n- a list\n",
		"--- text\n--- {a: 1}\n",
		"a: 1\na: 2\nkind: ConfigMap\napiVersion: v1\n",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: 3}\n", // a patch
		"apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: migrate-}",
		"x: &x {template: {spec: {containers: []}}}\napiVersion: apps/v1\nkind: Deployment\nspec: {<<: *x, replicas: 2}\n",
		"apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, ports: [{containerPort: '${PORT}'}]}]}\n",
		"a: &a {<<: {b: 1}}\nb: &b {<<: [*a, *a]}\napiVersion: apps/v1\nkind: Deployment\nspec: {<<: [*b, *b, *a]}\n",
		`{"apiVersion": "v1", "kind": "ConfigMap", "data": {"smile": "\ud83d\ude00", "lone": "\ud83d"}}`,
	} {
		out, _, err := manifest.Inject([]byte(text), options())
		if err != nil || string(out) != text {
			t.Errorf("%q became %q (%v)", text, out, err)
		}
		if out, _, err := manifest.Remove([]byte(text)); err != nil || string(out) != text {
			t.Errorf("removal: %q became %q (%v)", text, out, err)
		}
	}
}

func TestMistakes(t *testing.T) {
	const asking = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {culvert.dev/inject: enabled}}\n"
	for text, want := range map[string]string{
		"a: [\n":                           "document 1 (line 1)",
		"---\na: 1\n---\n\tb: 2\n":         "document 3 (line 3)",
		asking + "spec: {containers: 5}\n": "cannot unmarshal number",
		"{} {}":                            "document 1",
		"apiVersion: v1\nkind: List\nitems: []\nitems: []\n": `mapping key "items" already defined`,
		"&r {apiVersion: v1, kind: List, items: [*r]}":       "List: its lists hold each other",
		"a: &a {kind: List, items: []}\nb: &b {kind: List, items: [*a, *a, *a, *a, *a, *a]}\nc: &c {kind: List, items: [*b, *b, *b, *b, *b, *b]}\nd: &d {kind: List, items: [*c, *c, *c, *c, *c, *c]}\nkind: List\nitems: [*d, *d, *d, *d, *d, *d]\n": "List: its lists hold each other",
		"x: &x {template: {metadata: {labels: {culvert.dev/inject: enabled}}, spec: {containers: [{name: a, ports: [{name: grpc, containerPort: 1}]}]}}}\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {<<: *x, replicas: 2}\n":  "Deployment a: line 5: it has a merge key",
		"{\n\"apiVersion\": \"v1\",\n\"kind\": \"Pod\", \"kind\": \"Pod\"}":                                                                                                                                                "line 3: mapping key",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: a, app: b}}\nspec: {}\n":                                                                                                                             `Pod a:   line 3: mapping key "app" already defined`,
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  template: {}\n  template: {}\n":                                                                                                              `Deployment a: line 6: the key "template" stands twice`,
		asking + "spec: {terminationGracePeriodSeconds: &g 10, containers: [{name: a, ports: [{name: grpc, containerPort: 1}], lifecycle: {preStop: {sleep: {seconds: *g}}}}]}\n":                                          "unknown anchor 'g'",
		asking + "spec: {volumes: &v [], imagePullSecrets: *v, containers: [{name: a, ports: [{name: grpc, containerPort: 1}]}]}\n":                                                                                        "unknown anchor 'v'",
		"p: &p\n  apiVersion: v1\n  kind: Pod\n  metadata: {labels: {culvert.dev/inject: enabled}}\n  spec: {containers: [{name: a, ports: [{name: grpc, containerPort: 1}]}]}\napiVersion: v1\nkind: List\nitems: [*p]\n": "it has the anchor &p",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {}}\nspec: {template: {spec: {}}}\n":                                                                                                 `mapping key "spec" already defined`,
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {culvert.dev/inject: enabled}}\nspec: {containers: []}\n":                                                                                                  "Pod a: no container has a port named grpc",
		"x: &x {volumes: []}\napiVersion: v1\nkind: Pod\nmetadata: {labels: {culvert.dev/inject: enabled}}\nspec: {<<: *x, containers: [{name: a, ports: [{name: grpc, containerPort: 1}]}]}":                              "merge key",
	} {
		out, _, err := manifest.Inject([]byte(text), options())
		if err == nil || !strings.Contains(err.Error(), want) || out != nil {
			t.Errorf("%q: %q, %v, want %q in the error", text, out, err, want)
		}
	}
	if objects, err := manifest.Objects([]byte("&r {apiVersion: v1, kind: List, items: [*r]}")); err == nil {
		t.Errorf("a list that holds itself has the objects %v, want an error", objects)
	}
	shared, err := os.ReadFile("testdata/alias.in.yaml")
	if err != nil {
		t.Fatal(err)
	}
	shared = append(shared, "x-copy: *first\n"...)
	if _, _, err := manifest.Inject(shared, options()); err == nil || !strings.Contains(err.Error(), "Deployment orders: line 15: it has the anchor &first") {
		t.Errorf("a list that is shared: %v", err)
	}
}

func TestJoin(t *testing.T) {
	for want, texts := range map[string][]string{
		"":                        nil,
		"a: 1":                    {"a: 1"},
		"a: 1\n---\nb: 2\n":       {"a: 1", "b: 2\n"},
		"a: 1\n---\nb: 2\n ":      {"a: 1", "---\nb: 2\n "},
		"---\na: 1\n---\n---x: 3": {"---\na: 1\n", "---x: 3"},
	} {
		var all [][]byte
		for _, text := range texts {
			all = append(all, []byte(text))
		}
		if got := string(manifest.Join(all...)); got != want {
			t.Errorf("%q: %q, want %q", texts, got, want)
		}
	}
}

// TestLabelOfTheNamespace has the namespace in the same manifest.
func TestLabelOfTheNamespace(t *testing.T) {
	const namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {1: a}, labels: {culvert.dev/inject: enabled}}\n---\n"
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\nspec: {containers: [{name: a, ports: [{name: grpc, containerPort: 1}]}]}\n"
	const aliases = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: other, labels: &l {culvert.dev/inject: enabled}}}\n- {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: *l}}\n---\n"
	const merges = "x: &x {culvert.dev/inject: enabled}\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {<<: *x}}\n---\n"
	const list = "x: &x\n- {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {culvert.dev/inject: enabled}}}\napiVersion: v1\nkind: List\nitems: *x\n---\n"
	for text, want := range map[string]inject.Action{
		namespace + pod: inject.Injected, aliases + pod: inject.Injected, merges + pod: inject.Injected, list + pod: inject.Injected,
		pod: inject.Skipped,
	} {
		out, outcomes, err := manifest.Inject([]byte(text), options())
		if err != nil || len(outcomes) != 1 || outcomes[0].Action != want {
			t.Errorf("%+v, %v, want %s", outcomes, err, want)
		}
		if !strings.HasPrefix(string(out), text[:len(text)-len(pod)]) {
			t.Errorf("the namespace's document changed:\n%s", out)
		}
	}
}

// FuzzManifest checks that nothing panics, that a manifest without a pod that asks
// stays as it is, and that a second inject changes nothing.
func FuzzManifest(f *testing.F) {
	files, err := filepath.Glob("testdata/*.in.*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("&r {apiVersion: v1, kind: List, items: [*r]}"))
	f.Add([]byte("x: &x {template: {spec: {containers: []}}}\napiVersion: apps/v1\nkind: Deployment\nspec: {<<: *x, replicas: 2}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		out, outcomes, err := manifest.Inject(text, options())
		if err != nil {
			return
		}
		changed := false
		for _, o := range outcomes {
			changed = changed || o.Action == inject.Injected
		}
		if !changed {
			if !bytes.Equal(out, text) {
				t.Errorf("%q became %q", text, out)
			}
			return
		}
		again, _, err := manifest.Inject(out, options())
		if err != nil || !bytes.Equal(again, out) {
			t.Errorf("a second inject (%v) makes of\n%s\nthis:\n%s", err, out, again)
		}
		if _, _, err := manifest.Remove(out); err != nil {
			t.Errorf("removal: %v", err)
		}
	})
}

// TestCustomResources: inject doesn't know what other kinds make of a template, and says so
// if their pods ask for culvert.
func TestCustomResources(t *testing.T) {
	const rollout = `apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: orders, namespace: shop}
spec:
  template:
    metadata: {labels: {LABEL}}
    spec: {containers: [{name: orders, image: "orders:1", ports: [{name: grpc, containerPort: 9000}]}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {NAMESPACE}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rollouts.argoproj.io}
spec: {versions: [{schema: {openAPIV3Schema: {properties: {metadata: {type: object}, spec: {properties: {containers: {type: array}}}}}}}]}
`
	for name, row := range map[string]struct {
		label, namespace string
		warned           bool
	}{
		"a label of the pods":          {"culvert.dev/inject: enabled", "", true},
		"a label of the namespace":     {"", "culvert.dev/inject: enabled", true},
		"pods that opt out":            {"culvert.dev/inject: disabled", "culvert.dev/inject: enabled", false},
		"pods that don't say anything": {"", "", false},
	} {
		in := strings.NewReplacer("LABEL", row.label, "NAMESPACE", row.namespace).Replace(rollout)
		out, outcomes, err := manifest.Inject([]byte(in), options())
		if err != nil || string(out) != in {
			t.Errorf("%s: it is changed (%v):\n%s", name, err, out)
		}
		warned := len(outcomes) == 1 && outcomes[0].Object == "Rollout shop/orders" && len(outcomes[0].Warnings) == 1
		if warned != row.warned || len(outcomes) > 1 {
			t.Errorf("%s: the outcomes are %+v, want a warning: %v", name, outcomes, row.warned)
		}
	}
}
