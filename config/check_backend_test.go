package config

import (
	"strings"
	"testing"
)

// TestHealthCheckWithoutEffect: a service's name alone doesn't turn the check on.
func TestHealthCheckWithoutEffect(t *testing.T) {
	for _, c := range []struct{ file, warning string }{
		{"backend: {address: \"a:1\", health_check: {service: a.B}}", "backend.health_check.service"},
		{"backends:\n  - {name: default, address: \"a:1\", health_check: {service: a.B}}", "backends[0].health_check.service"},
		{"backend: {address: \"a:1\", health_check: {service: a.B, enabled: true}}", ""},
		{"backend: {address: \"a:1\", health_check: {enabled: true}}", ""},
	} {
		got := strings.Join(loadText(t, c.file).Warnings, "\n")
		if warned := strings.Contains(got, "health_check"); warned != (c.warning != "") || !strings.Contains(got, c.warning) {
			t.Errorf("%s: %q, want a warning of %q", c.file, got, c.warning)
		}
	}
}

// TestBalanceWithoutEffect: a policy needs several addresses.
func TestBalanceWithoutEffect(t *testing.T) {
	for _, c := range []struct {
		file string
		warn bool
	}{
		{"backend: {address: \"orders:9000\", balance: pick_first}", false},
		{"backend: {address: \"dns:///orders:9000\", balance: pick_first}", false},
		{"backend: {address: \"dns://192.0.2.53/orders:9000\", balance: pick_first}", false},
		{"backend: {address: \"unix:///run/orders\"}", false},
		{"backend: {address: \"unix:///run/orders\", balance: least_request}", true},
		{"backend: {address: \"192.0.2.1:9000\", balance: pick_first}", true},
		{"backend: {address: \"[2001:db8::1]:9000\", balance: pick_first}", true},
		{"backend: {address: \"dns:///192.0.2.1:9000\", balance: pick_first}", true},
		{"backend: {address: \"orders:9000\", use_proxy: true, balance: least_request}", true},
	} {
		l := loadText(t, c.file)
		warned := strings.Contains(strings.Join(l.Warnings, "\n"), "backend.balance")
		if warned != c.warn {
			t.Errorf("%s: warns %v, want %v: %q", c.file, warned, c.warn, l.Warnings)
		}
	}
}
