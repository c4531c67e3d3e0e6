package config

import "testing"

// TestLoadKeys: one key has the source that Load would choose, and mistakes in
// other keys don't matter.
func TestLoadKeys(t *testing.T) {
	const key = "health.listen"
	for name, c := range map[string]struct {
		file, variable string
		flags          map[string]any
		want, err      string
	}{
		"default":            {want: "127.0.0.1:9901"},
		"file":               {file: "health: {listen: ':1'}", want: ":1"},
		"variable":           {file: "health: {listen: ':1'}", variable: ":2", want: ":2"},
		"flag":               {file: "health: {listen: ':1'}", variable: ":2", flags: map[string]any{key: ":3"}, want: ":3"},
		"empty flag":         {file: "health: {listen: ':1'}", variable: ":2", flags: map[string]any{key: ""}, want: ""},
		"off":                {file: "health: {listen: off}", want: ""},
		"other mistakes":     {file: "limts: {}\nhealth: {listen: ':1'}\nlimits: {calls: many}", want: ":1"},
		"contradictions":     {file: "tls: {cert: /c}\nlisten: ':1'\nhealth: {listen: ':1'}", want: ":1"},
		"mistake":            {file: "\nhealth: {listen: 9901}", err: `p.yaml:2: health.listen: "9901" … ":9901"`},
		"mistaken variable":  {variable: "9901", err: `CULVERT_HEALTH_LISTEN: "9901" … ":9901"`},
		"mistaken flag":      {flags: map[string]any{key: "9901"}, err: `--health-listen: "9901" … ":9901"`},
		"no YAML":            {file: "health: [", err: "p.yaml: … YAML"},
		"no YAML but a flag": {file: "health: [", flags: map[string]any{key: ":3"}, want: ":3"},
	} {
		t.Run(name, func(t *testing.T) {
			clearEnvironment(t)
			t.Chdir(t.TempDir())
			t.Setenv("CULVERT_LIMITS_CALLS", "many")
			t.Setenv("CULVERT_HEALTH_LISTEN", c.variable)
			writeHere(t, "p.yaml", c.file)
			l, err := LoadKeys([]string{key, "admin.token"}, "p.yaml", c.flags)
			switch {
			case c.err != "" && (err == nil || !says(err.Error(), c.err)):
				t.Errorf("got %v, want %s", err, c.err)
			case c.err == "" && err != nil:
				t.Error(err)
			case c.err == "" && l.Health.Listen != c.want:
				t.Errorf("got %q, want %q", l.Health.Listen, c.want)
			}
		})
	}
}

// TestLoadKeysReadsAll: the keys may have different sources.
func TestLoadKeysReadsAll(t *testing.T) {
	clearEnvironment(t)
	t.Chdir(t.TempDir())
	t.Setenv("CULVERT_ADMIN_TOKEN", "/run/token")
	writeHere(t, "p.yaml", "admin: {listen: ':1', token: ./other, tls: {cert: a.pem}}")
	l, err := LoadKeys([]string{"admin.listen", "admin.token", "admin.tls.cert"}, "p.yaml", map[string]any{"admin.listen": ":2"})
	if err != nil || l.Admin.Listen != ":2" || l.Admin.Token != "/run/token" || l.Admin.TLS.Cert != "a.pem" {
		t.Errorf("%+v, %v", l.Admin, err)
	}
}
