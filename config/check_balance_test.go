package config

import (
	"strings"
	"testing"
)

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
