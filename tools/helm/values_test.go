package main

import (
	"bytes"
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

	"go.yaml.in/yaml/v3"
)

// tree reads a file in YAML or JSON.
func tree(t *testing.T, file string) map[string]any {
	t.Helper()
	m, err := readTree(file)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestSchemaIsUpToDate compares the schema with the one that is made now.
func TestSchemaIsUpToDate(t *testing.T) {
	want, err := valuesSchema()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(schemaFile); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s isn't up to date: run \"make chart\" (%v)", schemaFile, err)
	}
}

// TestSchemaHasTheKeysOfValues looks in values.yaml for the keys of the schema. The
// other direction is an error when the schema is made.
func TestSchemaHasTheKeysOfValues(t *testing.T) {
	root := tree(t, schemaFile)
	delete(root["properties"].(map[string]any), "global") // Helm's own
	var compare func(path string, schema, values map[string]any)
	compare = func(path string, schema, values map[string]any) {
		schema = resolve(root, schema)
		properties, ok := schema["properties"].(map[string]any)
		if !ok || len(values) == 0 { // free keys, or keys that have no defaults
			return
		}
		if schema["additionalProperties"] != false {
			t.Errorf("%s: the schema allows every key", path)
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

// TestSchemaRefusesUnknownKeys looks for an object in the schema whose keys are fixed,
// and that yet allows others.
func TestSchemaRefusesUnknownKeys(t *testing.T) {
	var walk func(path string, node any)
	walk = func(path string, node any) {
		switch node := node.(type) {
		case []any:
			for _, n := range node {
				walk(path, n)
			}
		case map[string]any:
			if _, ok := node["properties"].(map[string]any); ok && node["additionalProperties"] == nil {
				t.Errorf("%s: the schema allows every key", path)
			}
			for key, n := range node {
				walk(path+"/"+key, n)
			}
		}
	}
	walk("", tree(t, schemaFile))
}

// TestSchemaKnowsTheInjectorsConfiguration compares the schema with the type that the
// injector reads.
func TestSchemaKnowsTheInjectorsConfiguration(t *testing.T) {
	node := any(tree(t, schemaFile))
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
		"unknown key":            {[]string{"--set", "injektor.enabled=true"}, []string{"injektor", "not allowed"}},
		"unknown key inside":     {[]string{"--set", "injector.replica=3"}, []string{"/injector", "'replica' not allowed"}},
		"wrong type":             {[]string{"--set-string", "injector.replicas=three"}, []string{"/injector/replicas", "want integer"}},
		"wrong word":             {[]string{"--set", "injector.failurePolicy=fail"}, []string{"/injector/failurePolicy", "'Fail', 'Ignore'"}},
		"the injector's key":     {[]string{"--set", "injector.config.listen=1"}, []string{"/injector/config", "'listen' not allowed"}},
		"a pattern of names":     {[]string{"--set", "injector.config.excludedNamespaces={team-*}"}, []string{"/injector/config/excludedNamespaces/0", "does not match pattern"}},
		"not a port":             {[]string{"--set", "injector.config.listenPort=70000"}, []string{"/injector/config/listenPort", "want 65,535"}},
		"not a duration":         {[]string{"--set", "injector.config.drainDelay=5"}, []string{"/injector/config/drainDelay", "want string"}},
		"not a digest":           {[]string{"--set", "image.digest=abc"}, []string{"/image/digest", "sha256"}},
		"no Secret":              {[]string{"--set", "injector.certificate.source=secret,injector.certificate.caBundle=-----BEGIN CERTIFICATE-----x-----END CERTIFICATE-----"}, []string{"injector.certificate.secretName: name the Secret"}},
		"no CA":                  {[]string{"--set", "injector.certificate.source=secret,injector.certificate.secretName=tls"}, []string{"injector.certificate.caBundle: the API server needs"}},
		"not a CA":               {[]string{"--set", "injector.certificate.caBundle=x"}, []string{"/injector/certificate/caBundle", "BEGIN CERTIFICATE"}},
		"a key set to null":      {[]string{"--set", "injector.replicas=null"}, []string{"at '/injector': missing property 'replicas'"}},
		"a tag in the name":      {[]string{"--set", "image.repository=registry:5000/culvert:1"}, []string{"/image/repository"}},
		"a unit's small letter":  {[]string{"--set", "injector.resources.limits.memory=128mi"}, []string{"/injector/resources/limits/memory"}},
		"the chart's label":      {[]string{"--set", `commonLabels.app\.kubernetes\.io/name=x`}, []string{"invalid propertyName 'app.kubernetes.io/name'"}},
		"not a label":            {[]string{"--set", "injector.podLabels.a=b c"}, []string{"/injector/podLabels/a"}},
		"a part of a second":     {[]string{"--set", "injector.config.drainDelay=500ms"}, []string{"/injector/config/drainDelay"}},
		"not restricted":         {[]string{"--set", "injector.config.allow[0].namespaces={a},injector.config.allow[0].annotations={config}"}, []string{"/annotations/0", "'backend-host'"}},
		"a budget of nothing":    {[]string{"--set", "injector.podDisruptionBudget.maxUnavailable=0%"}, []string{"/maxUnavailable"}},
		"not an interval":        {[]string{"--set", "sidecars.podMonitor.interval=1.5m"}, []string{"/sidecars/podMonitor/interval"}},
		"unknown key of culvert": {append(slices.Clone(gateway), "--set", "gateway.config.limits.mesage_bytes=1MiB"), []string{"/gateway/config/limits", "'mesage_bytes' not allowed"}},
		"wrong value of culvert": {append(slices.Clone(gateway), "--set", "gateway.config.limits.connection_max_age=10"), []string{"/gateway/config/limits/connection_max_age", "want string"}},
		"the chart's health":     {append(slices.Clone(gateway), "--set", "gateway.config.health.listen=:1"), []string{"gateway.config.health.listen: the chart sets this key"}},
		"the chart's admin":      {append(slices.Clone(gateway), "--set", "gateway.config.admin.listen=:1"), []string{"gateway.config.admin.listen: the chart sets this key"}},
		"the chart's TLS":        {append(slices.Clone(gateway), "--set", "gateway.config.tls.key=/k,gateway.tls.secretName=tls"), []string{"gateway.config.tls.key: the chart sets this key: use gateway.tls.secretName"}},
		"the chart's variable":   {append(slices.Clone(gateway), "--set", "gateway.env[0].name=CULVERT_LISTEN,gateway.env[0].value=:1"), []string{"gateway.env: CULVERT_LISTEN is set by the chart or is there twice"}},
		"a variable twice":       {append(slices.Clone(gateway), "--set", "gateway.env[0].name=A,gateway.env[1].name=A"), []string{"gateway.env: A is set by the chart or is there twice"}},
		"the chart's volume":     {append(slices.Clone(gateway), "--set", "gateway.volumes[0].name=config"), []string{"gateway.volumes: config is the chart's own or is there twice"}},
		"the volume for TLS":     {append(slices.Clone(gateway), "--set", "gateway.tls.secretName=tls,gateway.volumes[0].name=tls"), []string{"gateway.volumes: tls is the chart's own or is there twice"}},
		"a volume twice":         {append(slices.Clone(gateway), "--set", "gateway.volumes[0].name=a,gateway.volumes[1].name=a"), []string{"gateway.volumes: a is the chart's own or is there twice"}},
		"no traffic policy":      {append(slices.Clone(gateway), "--set", "gateway.service.externalTrafficPolicy=Local"), []string{"gateway.service.externalTrafficPolicy: a Service of the type ClusterIP has none"}},
		"nothing to divide by":   {append(slices.Clone(gateway), "--set", "gateway.autoscaling.enabled=true,gateway.resources.requests.cpu=null"), []string{"gateway.autoscaling.targetCPUUtilization: it is a percentage of gateway.resources.requests.cpu"}},
		"no configuration":       {gateway[:2], []string{"gateway.config: the gateway needs a configuration"}},
		"the chart's address":    {append(slices.Clone(gateway), "--set", "gateway.config.listen=:1"), []string{"gateway.config.listen: the chart sets this key: use gateway.service.port"}},
		"too short to end":       {append(slices.Clone(gateway), "--set", "gateway.drain.timeoutSeconds=60"), []string{"gateway.terminationGracePeriodSeconds: 30 is too short", "set at least 67"}},
		"fewer than the least":   {append(slices.Clone(gateway), "--set", "gateway.autoscaling.enabled=true,gateway.autoscaling.maxReplicas=1"), []string{"gateway.autoscaling.maxReplicas: 1 is less than minReplicas, 2"}},
		"nothing to scale with":  {append(slices.Clone(gateway), "--set", "gateway.autoscaling.enabled=true,gateway.autoscaling.targetMemoryUtilization=0,gateway.autoscaling.targetCPUUtilization=0"), []string{"nothing to scale by"}},
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

// TestEveryValueHasAComment: values.yaml is the reference of the values. Some sections, such as
// resources, have a comment for all of their keys.
func TestEveryValueHasAComment(t *testing.T) {
	text, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var look func(section *yaml.Node)
	look = func(section *yaml.Node) {
		for key, value := range entries(section) {
			if key.HeadComment == "" {
				t.Errorf("values.yaml:%d: %s has no comment", key.Line, key.Value)
			}
			if documented(value) {
				look(value)
			}
		}
	}
	look(document.Content[0])
}

// entries yields the keys and values of a mapping.
func entries(mapping *yaml.Node) func(func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			if !yield(mapping.Content[i], mapping.Content[i+1]) {
				return
			}
		}
	}
}

// documented reports whether the value is a section, whose keys have comments of their
// own.
func documented(value *yaml.Node) bool {
	if value.Kind != yaml.MappingNode {
		return false
	}
	for key := range entries(value) {
		if key.HeadComment != "" {
			return true
		}
	}
	return false
}
