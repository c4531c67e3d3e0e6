package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// tree reads a file in YAML or JSON.
func tree(t *testing.T, file string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := yaml.Unmarshal(text, &m); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return m
}

// TestSchemaHasTheKeysOfValues compares the keys of values.yaml with those that the
// schema allows, in both directions.
func TestSchemaHasTheKeysOfValues(t *testing.T) {
	root := tree(t, chart+"/values.schema.json")
	delete(root["properties"].(map[string]any), "global") // Helm's own
	var compare func(path string, schema, values map[string]any)
	compare = func(path string, schema, values map[string]any) {
		if ref, ok := schema["$ref"].(string); ok {
			schema = root["definitions"].(map[string]any)[strings.TrimPrefix(ref, "#/definitions/")].(map[string]any)
		}
		properties, ok := schema["properties"].(map[string]any)
		if !ok || len(values) == 0 { // free keys, or keys that have no defaults
			return
		}
		if schema["additionalProperties"] != false {
			t.Errorf("%s: the schema allows every key", path)
		}
		for key := range values {
			if properties[key] == nil {
				t.Errorf("%s.%s: the schema doesn't know this value", path, key)
			}
		}
		for key, property := range properties {
			value, ok := values[key]
			if !ok {
				t.Errorf("%s.%s: values.yaml doesn't have this key of the schema", path, key)
			}
			if section, ok := value.(map[string]any); ok {
				compare(path+"."+key, property.(map[string]any), section)
			}
		}
	}
	compare("", root, tree(t, chart+"/values.yaml"))
}

// TestSchemaKnowsTheInjectorsConfiguration compares the schema with the type that the
// injector reads.
func TestSchemaKnowsTheInjectorsConfiguration(t *testing.T) {
	node := any(tree(t, chart+"/values.schema.json"))
	for _, key := range []string{"properties", "injector", "properties", "config", "properties"} {
		node = node.(map[string]any)[key]
	}
	got := slices.Sorted(maps.Keys(node.(map[string]any)))
	want := slices.DeleteFunc(configKeys(t), func(key string) bool { return key == "image" }) // the chart's value image
	if !slices.Equal(got, want) {
		t.Errorf("the schema has %v, and the injector reads %v", got, want)
	}
}

// configKeys returns the keys of the type Config in package inject. It reads the source,
// so that this module has the versions of its requirements from Helm alone.
func configKeys(t *testing.T) (keys []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../kubernetes/inject/config.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Config" {
			return true
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json"), ",")
			keys = append(keys, name)
		}
		return false
	})
	slices.Sort(keys)
	return keys
}

// TestEveryValueIsTried looks in ci/ for each value, so that the other tests see the
// templates with it.
func TestEveryValueIsTried(t *testing.T) {
	files, err := filepath.Glob(chart + "/ci/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	var walk func(path string, node any, leaf func(path string, value any))
	walk = func(path string, node any, leaf func(path string, value any)) {
		m, ok := node.(map[string]any)
		if !ok || len(m) == 0 {
			leaf(path, node)
			return
		}
		for key, value := range m {
			walk(path+"."+key, value, leaf)
		}
	}
	defaults := map[string]any{}
	walk("", tree(t, chart+"/values.yaml"), func(path string, value any) { defaults[path] = value })
	for _, file := range files {
		walk("", tree(t, file), func(path string, value any) {
			for prefix := path; prefix != ""; prefix = prefix[:strings.LastIndex(prefix, ".")] {
				if was, ok := defaults[prefix]; ok && (prefix != path || !reflect.DeepEqual(was, value)) {
					tried[prefix] = true
				}
			}
		})
	}
	for path := range defaults {
		if !tried[path] {
			t.Errorf("no file of ci/ changes the value %s", strings.TrimPrefix(path, "."))
		}
	}
}

// TestWrongValuesAreRefused reads the errors, which must name the value and say what
// is right.
func TestWrongValuesAreRefused(t *testing.T) {
	gateway := []string{"--set", "gateway.enabled=true", "--set", "gateway.config.backend.address=orders:9000"}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"unknown key":           {[]string{"--set", "injektor.enabled=true"}, []string{"injektor", "not allowed"}},
		"unknown key inside":    {[]string{"--set", "injector.replica=3"}, []string{"/injector", "'replica' not allowed"}},
		"wrong type":            {[]string{"--set-string", "injector.replicas=three"}, []string{"/injector/replicas", "want integer"}},
		"wrong word":            {[]string{"--set", "injector.failurePolicy=fail"}, []string{"/injector/failurePolicy", "'Fail', 'Ignore'"}},
		"the injector's key":    {[]string{"--set", "injector.config.listen=1"}, []string{"/injector/config", "'listen' not allowed"}},
		"not a port":            {[]string{"--set", "injector.config.listenPort=70000"}, []string{"/injector/config/listenPort", "want 65,535"}},
		"not a duration":        {[]string{"--set", "injector.config.drainDelay=5"}, []string{"/injector/config/drainDelay", "want string"}},
		"not a digest":          {[]string{"--set", "image.digest=abc"}, []string{"/image/digest", "sha256"}},
		"no Secret":             {[]string{"--set", "injector.certificate.source=secret,injector.certificate.caBundle=x"}, []string{"injector.certificate.secretName: name the Secret"}},
		"no CA":                 {[]string{"--set", "injector.certificate.source=secret,injector.certificate.secretName=tls"}, []string{"injector.certificate.caBundle: the API server needs"}},
		"no configuration":      {gateway[:2], []string{"gateway.config: the gateway needs a configuration"}},
		"the chart's address":   {append(slices.Clone(gateway), "--set", "gateway.config.listen=:1"), []string{"gateway.config.listen: the chart sets this key: use gateway.service.port"}},
		"too short to end":      {append(slices.Clone(gateway), "--set", "gateway.drain.timeoutSeconds=60"), []string{"gateway.terminationGracePeriodSeconds: 30 is too short", "set at least 67"}},
		"fewer than the least":  {append(slices.Clone(gateway), "--set", "gateway.autoscaling.enabled=true,gateway.autoscaling.maxReplicas=1"), []string{"gateway.autoscaling.maxReplicas: 1 is less than minReplicas, 2"}},
		"nothing to scale with": {append(slices.Clone(gateway), "--set", "gateway.autoscaling.enabled=true,gateway.autoscaling.targetMemoryUtilization=0,gateway.autoscaling.targetCPUUtilization=0"), []string{"nothing to scale by"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := template(t.Context(), aHelm(t), c.args...)
			if err == nil {
				t.Fatal("the chart accepts it")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error has no %q: %v", want, err)
				}
			}
		})
	}
}
