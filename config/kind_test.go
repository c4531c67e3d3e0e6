package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const expressionForm = `scheme … "~https://pr-[0-9]+\.example\.com"`

func TestValuesByKind(t *testing.T) {
	for kindName, c := range map[string]struct {
		key   string
		right []string
		wrong map[string]string // the value, and what is said of it
	}{
		"address or unix socket": {
			"listen",
			[]string{"unix:/run/culvert.sock", "unix:///run/culvert.sock", ":8080", "127.0.0.1:0", "localhost:8080", "[::1]:8080", "0.0.0.0:65535"},
			map[string]string{
				"":                                 `empty … ":8080"`,
				"8080":                             `colon … ":8080"`,
				"localhost":                        `port … "localhost:8080"`,
				"::1":                              `IPv6 … "[::1]:8080"`,
				":http":                            `port … 0 … 65535`,
				":65536":                           `port … 0 … 65535`,
				"a:b:c":                            `"host:port" … ":port"`,
				"http://a:8080":                    `"host:port" … ":port"`,
				"unix:":                            `path … "unix:/run/culvert.sock"`,
				"unix:///":                         `path … "unix:/run/culvert.sock"`,
				"unix:run/a":                       `root … "unix:/run/culvert.sock"`,
				"unix://run/a":                     `root … "unix:/run/culvert.sock"`,
				"unix:/run/../":                    `root … "unix:/run/culvert.sock"`,
				"unix:/" + strings.Repeat("a", 95): "socket … 95 bytes",
			},
		},
		"URL of a receiver": {
			"otlp.endpoint",
			[]string{"", "http://localhost:4318", "https://otlp.example.com", "https://otlp.example.com/v1/traces", "http://[::1]:4318/"},
			map[string]string{
				"localhost:4317":         `URL … http://localhost:4318`,
				"grpc://a:4317":          `URL … http://localhost:4318`,
				"http://":                `URL … http://localhost:4318`,
				"http://a:4318/?token=x": `query … http://localhost:4318`,
			},
		},
		"URL of a receiver, or none": {
			"otlp.logs",
			[]string{"", "none", "http://localhost:4318/v1/logs"},
			map[string]string{"off": `URL … http://localhost:4318`},
		},
		"duration of 1s or more": {"otlp.metrics_interval", []string{"1s", "1m"}, map[string]string{"0s": `short … 1s`, "500ms": `short … 1s`}},
		"ratio, 0 to 1":          {"traces.ratio", []string{"0", "1", "0.01", "1.0"}, map[string]string{"1.5": `0 to 1 … 0.01`, "-1": `0 to 1 … 0.01`, "half": `ratio … 0.01`, "1e-3": `ratio … 0.01`}},
		"duration, more than 0s": {"otlp.timeout", []string{"1s"}, map[string]string{"0s": `time … 0s`}},
		"name in a baggage":      {"traces.baggage", []string{"tenant.id", "a_b-c"}, map[string]string{"": `empty … tenant.id`, "a b": `name … tenant.id`, "a=b": `name … tenant.id`, "a\x7f": `name … tenant.id`}},
		"optional address":       {"health.listen", []string{"", "off", ":9901"}, map[string]string{"no": `port … "no:8080"`}},
		"admin address": {
			"admin.listen",
			[]string{"", "off", "127.0.0.1:9902", "127.1.2.3:0", "[::1]:9902", "localhost:9902", ":9902", "10.0.0.1:9902", "unix:/run/culvert/admin.sock", "unix:///run/culvert/admin.sock"},
			map[string]string{
				"9902":       `colon … ":9902"`,
				"unix:admin": `root … "unix:/run/culvert.sock"`,
			},
		},
		"backend address": {
			"backend.address",
			[]string{"", "localhost:9000", "10.0.0.1:9000", "[::1]:9000", "dns:///orders:9000", "dns://8.8.8.8/orders", "unix:///run/orders", "unix:orders.sock", "unix-abstract:orders", "[fe80::1%eth0]:9000", "[fe80::1%25eth0]:9000", "dns:///[fe80::1%eth0]:9000", "unix:///run/50%.sock", "unix:///run/a%20b"},
			map[string]string{
				"http://localhost:9000":     `URL … "localhost:9000"`,
				"grpc://orders":             `URL … "orders:80"`,
				"https://orders.example/v1": `"orders.example:443" … backend.tls.enabled … --backend-tls`,
				"xds:///orders":             `scheme … "host:port" … "dns:///host:port" … "unix:///path"`,
				"unix://":                   `path … "unix:///path/to/socket"`,
				"dns:///":                   `name … "dns:///host:port"`,
				"9000":                      `port … "localhost:9000"`,
				":9000":                     `host … "localhost:9000"`,
				"orders":                    `port … "orders:50051"`,
				"orders:grpc":               `port … 1 … 65535`,
				"orders:0":                  `port … 1 … 65535`,
				"fe80::1":                   `IPv6 … "[fe80::1]:50051"`,
				"a:b:c":                     `"host:port" … "dns:///host:port" … "unix:///path"`,
				"fe80::1%eth0":              `IPv6 … "[fe80::1%eth0]:50051"`,
				"fe80::1%eth0:9000":         `IPv6 … "[fe80::1%eth0]:9000"`,
				"[::1]":                     `IPv6 … "[::1]:50051"`,
				"[fe80::1%eth0]":            `IPv6 … "[fe80::1%eth0]:50051"`,
				"unix://run/orders":         `slashes … "unix:///run/orders"`,
				"unix-abstract://orders":    `slashes … "unix-abstract:orders"`,
				"[fe80::1%]:9000":           `"host:port"`,
				"a%b:9000":                  `"host:port"`,
				"a?b:9000":                  `"host:port"`,
				"a\x7f:9000":                `control … "host:port"`,
				"dns:///a%zz:9000":          `"dns:///host:port"`,
				"dns://8.8.8.8:x/orders":    `"dns:///host:port"`,
			},
		},
		"origin": {
			"allow_origins",
			[]string{"*", "https://app.example.com", "https://app.example.com:8443", "https://*.example.com", "http://localhost:*", "http://[::1]:3000", "vscode-webview://*", "chrome-extension://abcdef", "http://127.0.0.1", "null", `~https://pr-[0-9]+\.example\.com`, `~^http://localhost:[0-9]{4,5}$`, `~https://.*\.example\.com`, `~chrome-extension://[a-p]{32}`},
			map[string]string{
				"":                            `empty … "https://app.example.com"`,
				"localhost:5173":              `scheme … "http://localhost:5173"`,
				"app.localhost":               `scheme … "http://app.localhost"`,
				"127.0.0.1:8000":              `scheme … "http://127.0.0.1:8000"`,
				"[::1]:8000":                  `scheme … "http://[::1]:8000"`,
				"app.example.com":             `scheme … "https://app.example.com"`,
				"app.example.com/x":           `scheme … "https://app.example.com"`,
				"https://app.example.com/":    `slash … "https://app.example.com"`,
				"https://app.example.com/x":   `path … "https://app.example.com"`,
				"https://App.example.com":     `"https://app.example.com"`,
				"https://bücher.example":      `"https://xn--bcher-kva.example"`,
				"https://*.bücher.example:*":  `"https://*.xn--bcher-kva.example:*"`,
				"https://ü\u200e.example":     `"https://xn--bcher-kva.example"`,
				"https://app.example.com:443": `port … "https://app.example.com"`,
				"http://app.example.com:80":   `port … "http://app.example.com"`,
				"https://a.example,https://b": "comma … entry … flag",
				"https://*":                   `"*" … "https://*.example.com"`,
				"https://app.*.com":           `"*" … label … "https://*.example.com" … "http://localhost:*"`,
				"https://*example.com":        `"*" … label … "https://*.example.com" … "http://localhost:*"`,
				"*://app.example.com":         `lower case … "https://app.example.com"`,
				"HTTPS://app.example.com":     `lower case … "https://app.example.com"`,
				"https://":                    `host … "https://app.example.com"`,
				"https://a@b":                 `host … "https://app.example.com"`,
				"http://localhost:port":       `port … 0 … 65535`,
				"NULL":                        `scheme … "https://NULL"`,
				"~":                           expressionForm,
				`~pr-[0-9]+\.example\.com`:    expressionForm,
				`~https?://app\.example\.com`: expressionForm,
				`~.*`:                         expressionForm,
				"~https://app.example.com":    `"." … "\."`,
				"~https://a?.example.com":     `"." … "\."`,
				"~https://(":                  "regular expression … missing closing ): `https://(`",
				`~https://a)|(?:.*`:           "regular expression … unexpected ): `https://a)|(?:.*`",
			},
		},
		"host": {
			"hosts",
			[]string{"grpc.example.com", "grpc.example.com:8443", "my_service", "10.0.0.1", "[::1]:80", "a."},
			map[string]string{
				"https://a.example": `host … "grpc.example.com" … "grpc.example.com:8080"`,
				"a/b":               `host name … "grpc.example.com"`,
				"*.example.com":     `host name … "grpc.example.com"`,
			},
		},
		"host name": {"backend.tls.server_name", []string{"", "grpc.example.com", "10.0.0.1"}, map[string]string{"a:1": `host name … "grpc.example.com"`}},
		"own name": {
			"tls.self_signed_names",
			[]string{"app.test", "my_host", "192.168.1.10", "fd00::1", "example.com", "app.internal"},
			map[string]string{
				"":       `empty … "app.test"`,
				"a:1":    `host name … "grpc.example.com"`,
				"com":    `domain … "app.com"`,
				"co.uk.": `domain … "app.co.uk."`,
			},
		},
		"web server": {
			"fallback",
			[]string{"", "http://localhost:3000", "http://localhost:3000/", "https://app.internal", "http://[::1]:3000", "https://192.0.2.1:8443", "http://[fe80::1%eth0]:3000", "http://[fe80::1%25eth0]", "unix:/run/app.sock", "unix:///run/app.sock"},
			map[string]string{
				"3000":                            `port … "http://localhost:3000"`,
				":3000":                           `host … "http://localhost:3000"`,
				"localhost:3000":                  `scheme … "http://localhost:3000"`,
				"ws://localhost:3000":             `"http://localhost:3000" … "unix:/run/app.sock"`,
				"h2c://localhost:3000":            `"http://localhost:3000" … "unix:/run/app.sock"`,
				"http://localhost:3000/app":       `path … "http://localhost:3000"`,
				"http://localhost:3000?x":         `path … "http://localhost:3000"`,
				"http://localhost:3000/#x":        `path … "http://localhost:3000"`,
				"http://me:secret@localhost":      `password … web server in front … "http://localhost:3000"`,
				"http://":                         `host … "http://localhost:3000"`,
				"http://?x":                       `path`,
				"http://:3000":                    `host … "http://localhost:3000"`,
				"http://a b":                      `host … "http://localhost:3000"`,
				"http://localhost:":               `port from 1 to 65535`,
				"http://localhost:0":              `port from 1 to 65535`,
				"http://localhost:99999":          `port from 1 to 65535`,
				"http://localhost:http":           `host … "http://localhost:3000"`,
				"unix:":                           `path … "unix:/run/culvert.sock"`,
				"unix:app.sock":                   `path … "unix:/run/culvert.sock"`,
				"https://xn--a.example:1/%2F/x?y": `path … "https://xn--a.example:1"`,
			},
		},
		"path prefix": {
			"path_prefix",
			[]string{"", "/grpc", "/a/b.c~d_e-f"},
			map[string]string{
				"/":      `path … ""`,
				"grpc/":  `slash … "/grpc"`,
				"/grpc/": `slash … "/grpc"`,
				"/a//b":  `path … "/grpc" … . _ ~ -`,
				"/a/../": `slash … "/a/.."`,
				"/a/..":  `path … "/grpc" … . _ ~ -`,
				"/a%2Fb": `path … "/grpc" … . _ ~ -`,
				"/a?b":   `path … "/grpc" … . _ ~ -`,
			},
		},
		"method pattern": {
			"methods.allow",
			[]string{"shop.v1.Orders/*", "/shop.v1.Orders/Get", "*/*", "shop.v1.*/Get*", "a/[A-C]*"},
			map[string]string{
				"":               `empty … "shop.v1.Orders/*"`,
				"*":              `slash … "*/*"`,
				"shop.v1.Orders": `method … "shop.v1.Orders/*"`,
				"/a/b/c":         `"package.Service/Method"`,
				"a/b,c/d":        "comma … entry … flag",
				"a/[b":           `bracket … "shop.v1.Orders/*"`,
			},
		},
		"method": {
			"message.method",
			[]string{"", "shop.v1.Orders/Watch", "/shop.v1.Orders/Watch"},
			map[string]string{
				"shop.v1.Orders":  `method … "shop.v1.Orders/Watch"`,
				"shop.v1.Orders/": `method … "shop.v1.Orders/Watch"`,
				"a.B/*":           `pattern … "shop.v1.Orders/Watch"`,
				"a.B/[C-D]":       `pattern … "shop.v1.Orders/Watch"`,
				"a.B/C,a.B/D":     `comma … "shop.v1.Orders/Watch"`,
				"/a/b/c":          `"package.Service/Method"`,
				"/":               `"package.Service/Method"`,
			},
		},
		"metadata name": {
			"metadata.vouched",
			[]string{"x-authenticated-user", "x_a.b-2"},
			map[string]string{
				"":       "empty … x-authenticated-user",
				"X-User": "metadata name … letters … digits",
				"a user": "metadata name … letters … digits",
			},
		},
		"field": {
			"log.fields",
			[]string{"host", "user_agent", "metadata.x-tenant"},
			map[string]string{
				"":                       "field … host … user_agent … metadata.x-tenant",
				"route":                  "without this key … remove",
				"x-tenant":               "field … metadata.x-tenant",
				"metadata.X-Tenant":      "lower-case … metadata.x-tenant",
				"metadata.x-trace-bin":   "binary … without -bin",
				"metadata.authorization": "secret … docs/reference/log.md#more-fields",
			},
		},
		"network": {
			"trusted_proxies",
			[]string{"10.0.0.0/8", "10.1.2.3", "::1", "2001:db8::/32", "0.0.0.0/0"},
			map[string]string{
				"":                    "10.1.2.3 … 10.0.0.0/8",
				"proxy.example":       "10.1.2.3 … 10.0.0.0/8",
				"10.0.0.1/8":          "bits … 10.0.0.0/8",
				"fe80::1%eth0":        "zone … address",
				"::ffff:10.0.0.0/104": "IPv4 … IPv6 … 10.0.0.0/8",
				"::ffff:0:0/96":       "IPv4 … IPv6 … 0.0.0.0/0",
			},
		},
		"number": {
			"limits.calls",
			[]string{"0", "5", "2147483647"},
			map[string]string{
				"many":                 "100",
				"1.5":                  "100",
				"-1":                   "0",
				"2147483648":           "2147483647",
				"99999999999999999999": "2147483647",
			},
		},
		"port or 0": {"tls.http_target", []string{"0", "443", "65535"}, map[string]string{"65536": "port … 443", "-1": "0", "https": "100"}},
		"duration of 1s or more, or 0s": {"backend.resolve_interval", []string{"0s", "0", "1s", "5m"}, map[string]string{
			"999ms": "1s … 0s", "-1s": "0s", "5": "unit … 5s",
		}},
		"count": {"limits.calls_per_connection", []string{"1"}, map[string]string{"0": "call … 1", "x": "100"}},
		"size, or 0": {"limits.memory", []string{"0", "0B", "512MiB"}, map[string]string{
			"512":  "unit … 512B … 512MiB",
			"0MiB": "byte … 16MiB",
			"lots": "64KiB … 16MiB",
		}},
		"size, 0 or auto": {"limits.decompressed_bytes_per_second", []string{"auto", "0", "0B", "64MiB"}, map[string]string{
			"64":   "unit … 64B … 64MiB",
			"Auto": "64KiB … 16MiB",
			"-1":   "zero … 16MiB",
		}},
		"size": {
			"limits.message_bytes",
			[]string{"1B", "16777216b", "16MiB", "1.5GiB", "16m", "64 KiB", "1024TiB"},
			map[string]string{
				"0":                            "byte … 16MiB",
				"0.1B":                         "byte … 16MiB",
				"-1MiB":                        "zero … 16MiB",
				"lots":                         "64KiB … 16MiB",
				"16":                           "unit … 16B … 16MiB",
				"16777216":                     "unit … 16777216B … 16777216MiB",
				"1.5":                          "unit … 1.5B … 1.5MiB",
				"1e9":                          "64KiB … 16MiB",
				"1025TiB":                      "1024TiB",
				"9223372036854775807B":         "1024TiB",
				"99999999999999999999B":        "1024TiB",
				strings.Repeat("9", 400) + "B": "1024TiB",
			},
		},
		"duration": {
			"drain_timeout",
			[]string{"0", "0s", "1h30m", "500ms", "1.5h"},
			map[string]string{
				"30":                    "unit … 30s",
				"-5s":                   "0s",
				"soon":                  "500ms … 30s … 5m … 1h30m",
				"1d":                    "500ms … 30s … 5m … 1h30m",
				"99999999999999999999s": "500ms … 30s … 5m … 1h30m",
			},
		},
		"boolean": {"backend.use_proxy", []string{"true", "false", "True", "1", "0"}, map[string]string{"yes": "true … false", "": "true … false"}},
		"words":   {"log.level", []string{"debug", "error"}, map[string]string{"INFO": `debug … info … warn … error … "info"`, "": "debug … info … warn … error"}},
	} {
		t.Run(kindName, func(t *testing.T) {
			k := fileKeys.key(c.key)
			if k.Name == "" {
				k = fileKeys.key("routes").entries.key(c.key)
			}
			for _, value := range c.right {
				if err := k.Check(value); err != nil {
					t.Errorf("%q is refused: %v", value, err)
				}
			}
			for value, want := range c.wrong {
				if err := k.Check(value); err == nil || !says(err.Error(), fmt.Sprintf("%q … %s", withoutUser(value), want)) {
					t.Errorf("got %v, want %q … %s", err, value, want)
				}
			}
		})
	}
}

func TestSizeIsWrittenAsItIsRead(t *testing.T) {
	for size, want := range map[Size]string{
		0: "0", 1: "1B", 1023: "1023B", 1024: "1KiB", 1025: "1025B", 64 << 10: "64KiB", 16 << 20: "16MiB", 3 << 29: "1536MiB", 1 << 50: "1024TiB",
	} {
		if got := size.String(); got != want {
			t.Errorf("%d is written %s, want %s", int64(size), got, want)
		}
		if got, err := parseSize(want); size > 0 && (err != nil || got != size) {
			t.Errorf("%s is read as %v, %v", want, got, err)
		}
	}
}

// TestUnknownTagsPanic: a misspelt tag would leave a key unchecked.
func TestUnknownTagsPanic(t *testing.T) {
	type misspelt struct {
		Kind       string   `key:"kind" is:"addres"`
		Transports []string `key:"transports" words:"transport"`
	}
	of := reflect.TypeFor[misspelt]()
	for i := range of.NumField() {
		func() {
			defer func() {
				if text := fmt.Sprint(recover()); !strings.Contains(text, "BUG") || !strings.Contains(text, of.Field(i).Tag.Get("key")) {
					t.Errorf("%s: the panic says %q", of.Field(i).Name, text)
				}
			}()
			keyOf(of.Field(i), of.Field(i).Tag.Get("key"), "", inherited{}, nil)
		}()
	}
}
