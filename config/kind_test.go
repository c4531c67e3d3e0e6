package config

import (
	"fmt"
	"strings"
	"testing"
)

const expressionForm = `doesn't begin with one scheme: write "~https://pr-[0-9]+\.example\.com"`

func TestValuesByKind(t *testing.T) {
	for kindName, c := range map[string]struct {
		key   string
		right []string
		wrong map[string]string // the value, and how the sentence about it goes on
	}{
		"address or unix socket": {
			"listen",
			[]string{"unix:/run/culvert.sock", "unix:///run/culvert.sock", ":8080", "127.0.0.1:0", "localhost:8080", "[::1]:8080", "0.0.0.0:65535"},
			map[string]string{
				"":                                 `is empty: write ":8080"`,
				"8080":                             `lacks a colon: write ":8080"`,
				"localhost":                        `has no port: write "localhost:8080"`,
				"::1":                              `is an IPv6 address without a port: write "[::1]:8080"`,
				":http":                            `has no port from 0 to 65535 after its colon`,
				":65536":                           `has no port from 0 to 65535 after its colon`,
				"a:b:c":                            `is no address: write "host:port" or ":port"`,
				"http://a:8080":                    `is no address: write "host:port" or ":port"`,
				"unix:":                            `has no path: write "unix:/run/culvert.sock"`,
				"unix:///":                         `has no path: write "unix:/run/culvert.sock"`,
				"unix:run/a":                       `is no plain path from the root on: write "unix:/run/culvert.sock"`,
				"unix://run/a":                     `is no plain path from the root on: write "unix:/run/culvert.sock"`,
				"unix:/run/../":                    `is no plain path from the root on: write "unix:/run/culvert.sock"`,
				"unix:/" + strings.Repeat("a", 95): "is too long for a socket: write a path of at most 95 bytes",
			},
		},
		"optional address": {"health.listen", []string{"", "off", ":9901"}, map[string]string{"no": `has no port: write "no:8080"`}},
		"backend address": {
			"backend.address",
			[]string{"", "localhost:9000", "10.0.0.1:9000", "[::1]:9000", "dns:///orders:9000", "dns://8.8.8.8/orders", "unix:///run/orders", "unix:orders.sock", "unix-abstract:orders"},
			map[string]string{
				"http://localhost:9000":     `is a URL: write "localhost:9000"`,
				"grpc://orders":             `is a URL: write "orders:80"`,
				"https://orders.example/v1": `is a URL: write "orders.example:443", and turn on backend.tls.enabled (--backend-tls)`,
				"xds:///orders":             `has a scheme that culvert doesn't know: write "host:port", "dns:///host:port" or "unix:///path"`,
				"unix://":                   `has no path: write "unix:///path/to/socket"`,
				"dns:///":                   `has no name: write "dns:///host:port"`,
				"9000":                      `is a port alone: write "localhost:9000"`,
				":9000":                     `has no host: write "localhost:9000"`,
				"orders":                    `has no port: write "orders:50051"`,
				"orders:grpc":               `has no port from 1 to 65535 after its colon`,
				"orders:0":                  `has no port from 1 to 65535 after its colon`,
				"fe80::1":                   `is an IPv6 address without a port: write "[fe80::1]:50051"`,
				"a:b:c":                     `is no address: write "host:port", "dns:///host:port" or "unix:///path"`,
			},
		},
		"origin": {
			"allow_origins",
			[]string{"*", "https://app.example.com", "https://app.example.com:8443", "https://*.example.com", "http://localhost:*", "http://[::1]:3000", "vscode-webview://*", "chrome-extension://abcdef", "http://127.0.0.1", "null", `~https://pr-[0-9]+\.example\.com`, `~^http://localhost:[0-9]{4,5}$`, `~https://.*\.example\.com`, `~chrome-extension://[a-p]{32}`},
			map[string]string{
				"":                            `is empty: write "https://app.example.com"`,
				"localhost:5173":              `has no scheme: write "http://localhost:5173"`,
				"app.localhost":               `has no scheme: write "http://app.localhost"`,
				"127.0.0.1:8000":              `has no scheme: write "http://127.0.0.1:8000"`,
				"[::1]:8000":                  `has no scheme: write "http://[::1]:8000"`,
				"app.example.com":             `has no scheme: write "https://app.example.com"`,
				"app.example.com/x":           `has no scheme: write "https://app.example.com"`,
				"https://app.example.com/":    `ends in a slash, which no browser sends: write "https://app.example.com"`,
				"https://app.example.com/x":   `has a path, which no browser sends: write "https://app.example.com"`,
				"https://App.example.com":     `has capitals, which no browser sends: write "https://app.example.com"`,
				"https://bücher.example":      `has letters that no browser sends as they are: write "https://xn--bcher-kva.example"`,
				"https://*.bücher.example:*":  `has letters that no browser sends as they are: write "https://*.xn--bcher-kva.example:*"`,
				"https://ü\u200e.example":     `has letters that no browser sends as they are: write "https://xn--bcher-kva.example"`,
				"https://app.example.com:443": `names the scheme's own port, which no browser sends: write "https://app.example.com"`,
				"http://app.example.com:80":   `names the scheme's own port, which no browser sends: write "http://app.example.com"`,
				"https://a.example,https://b": "holds a comma: one origin an entry, one entry a flag",
				"https://*":                   `lets every page in: write "*" if that is meant, else "https://*.example.com"`,
				"https://app.*.com":           `has a "*" that is neither the first label of the host nor the port: write "https://*.example.com" or "http://localhost:*"`,
				"https://*example.com":        `has a "*" that is neither the first label of the host nor the port: write "https://*.example.com" or "http://localhost:*"`,
				"*://app.example.com":         `has no scheme in lower case: write "https://app.example.com"`,
				"HTTPS://app.example.com":     `has no scheme in lower case: write "https://app.example.com"`,
				"https://":                    `has no host: write "https://app.example.com"`,
				"https://a@b":                 `has no host: write "https://app.example.com"`,
				"http://localhost:port":       `has no port from 0 to 65535 after its colon`,
				"NULL":                        `has no scheme: write "https://NULL"`,
				"~":                           expressionForm,
				`~pr-[0-9]+\.example\.com`:    expressionForm,
				`~https?://app\.example\.com`: expressionForm,
				`~.*`:                         expressionForm,
				"~https://app.example.com":    `has a "." that stands for any character: write "\."`,
				"~https://a?.example.com":     `has a "." that stands for any character: write "\."`,
				"~https://(":                  "is no regular expression: missing closing ): `https://(`",
				`~https://a)|(?:.*`:           "is no regular expression: unexpected ): `https://a)|(?:.*`",
			},
		},
		"host": {
			"hosts",
			[]string{"grpc.example.com", "grpc.example.com:8443", "my_service", "10.0.0.1", "[::1]:80", "a."},
			map[string]string{
				"https://a.example": `is no host: write "grpc.example.com" or "grpc.example.com:8080"`,
				"a/b":               `is no host name: write "grpc.example.com"`,
				"*.example.com":     `is no host name: write "grpc.example.com"`,
			},
		},
		"host name": {"backend.tls.server_name", []string{"", "grpc.example.com", "10.0.0.1"}, map[string]string{"a:1": `is no host name: write "grpc.example.com"`}},
		"own name": {
			"tls.self_signed_names",
			[]string{"app.test", "my_host", "192.168.1.10", "fd00::1", "example.com", "app.internal"},
			map[string]string{
				"":       `is empty: write "app.test", or remove it`,
				"a:1":    `is no host name: write "grpc.example.com"`,
				"com":    `is a domain that everybody has names in: write "app.com"`,
				"co.uk.": `is a domain that everybody has names in: write "app.co.uk."`,
			},
		},
		"path prefix": {
			"path_prefix",
			[]string{"", "/grpc", "/a/b.c~d_e-f"},
			map[string]string{
				"/":      `is every path: write "" for no prefix`,
				"grpc/":  `lacks its first slash: write "/grpc"`,
				"/grpc/": `ends in a slash: write "/grpc"`,
				"/a//b":  `is no plain path: write "/grpc", of letters, digits and . _ ~ -`,
				"/a/../": `ends in a slash: write "/a/.."`,
				"/a/..":  `is no plain path: write "/grpc", of letters, digits and . _ ~ -`,
				"/a%2Fb": `is no plain path: write "/grpc", of letters, digits and . _ ~ -`,
				"/a?b":   `is no plain path: write "/grpc", of letters, digits and . _ ~ -`,
			},
		},
		"method pattern": {
			"methods.allow",
			[]string{"shop.v1.Orders/*", "/shop.v1.Orders/Get", "*/*", "shop.v1.*/Get*", "a/[A-C]*"},
			map[string]string{
				"":               `is empty: write "shop.v1.Orders/*"`,
				"*":              `has no slash: write "*/*" for every method`,
				"shop.v1.Orders": `names no method: write "shop.v1.Orders/*" for all of the service`,
				"/a/b/c":         `is not "package.Service/Method"`,
				"a/b,c/d":        "holds a comma: one pattern an entry, one entry a flag",
				"a/[b":           `has a bracket without its end: write "shop.v1.Orders/*"`,
			},
		},
		"metadata name": {
			"metadata.vouched",
			[]string{"x-authenticated-user", "x_a.b-2"},
			map[string]string{
				"":       "is empty: write x-authenticated-user",
				"X-User": "is no metadata name: write it of small letters, digits, . _ and -",
				"a user": "is no metadata name: write it of small letters, digits, . _ and -",
			},
		},
		"network": {
			"trusted_proxies",
			[]string{"10.0.0.0/8", "10.1.2.3", "::1", "2001:db8::/32", "0.0.0.0/0"},
			map[string]string{
				"":                    "is neither an IP address nor a network: write 10.1.2.3 or 10.0.0.0/8",
				"proxy.example":       "is neither an IP address nor a network: write 10.1.2.3 or 10.0.0.0/8",
				"10.0.0.1/8":          "has address bits beyond its length: write 10.0.0.0/8",
				"fe80::1%eth0":        "has a zone: write the address without it",
				"::ffff:10.0.0.0/104": "is a network of IPv4 in IPv6's clothes: write 10.0.0.0/8",
				"::ffff:0:0/96":       "is a network of IPv4 in IPv6's clothes: write 0.0.0.0/0",
			},
		},
		"number": {
			"limits.calls",
			[]string{"0", "5", "2147483647"},
			map[string]string{
				"many":                 "is no whole number: write 100",
				"1.5":                  "is no whole number: write 100",
				"-1":                   "is below zero: write 0 or more",
				"2147483648":           "is too much: write at most 2147483647",
				"99999999999999999999": "is too much: write at most 2147483647",
			},
		},
		"port or 0": {"tls.http_target", []string{"0", "443", "65535"}, map[string]string{"65536": "is no port: write 443", "-1": "is below zero: write 0 or more", "https": "is no whole number: write 100"}},
		"duration of 1s or more, or 0s": {"backend.resolve_interval", []string{"0s", "0", "1s", "5m"}, map[string]string{
			"999ms": "is too often: write 1s or more, or 0s for never", "-1s": "is below zero: write 0s or more", "5": "lacks its unit: write 5s for seconds",
		}},
		"count": {"limits.calls_per_connection", []string{"1"}, map[string]string{"0": "leaves no room for a call: write 1 or more", "x": "is no whole number: write 100"}},
		"size, or 0": {"limits.memory", []string{"0", "0B", "512MiB"}, map[string]string{
			"512":  "lacks its unit: write 512B for bytes, or 512MiB",
			"0MiB": "leaves no room for a byte: write a size with its unit, as 16MiB",
			"lots": "is no size: write a number with its unit, as 64KiB or 16MiB",
		}},
		"size": {
			"limits.message_bytes",
			[]string{"1B", "16777216b", "16MiB", "1.5GiB", "16m", "64 KiB", "1024TiB"},
			map[string]string{
				"0":                            "leaves no room for a byte: write a size with its unit, as 16MiB",
				"0.1B":                         "leaves no room for a byte: write a size with its unit, as 16MiB",
				"-1MiB":                        "is below zero: write a size with its unit, as 16MiB",
				"lots":                         "is no size: write a number with its unit, as 64KiB or 16MiB",
				"16":                           "lacks its unit: write 16B for bytes, or 16MiB",
				"16777216":                     "lacks its unit: write 16777216B for bytes, or 16777216MiB",
				"1.5":                          "lacks its unit: write 1.5B for bytes, or 1.5MiB",
				"1e9":                          "is no size: write a number with its unit, as 64KiB or 16MiB",
				"1025TiB":                      "is too much: write at most 1024TiB",
				"9223372036854775807B":         "is too much: write at most 1024TiB",
				"99999999999999999999B":        "is too much: write at most 1024TiB",
				strings.Repeat("9", 400) + "B": "is too much: write at most 1024TiB",
			},
		},
		"duration": {
			"drain_timeout",
			[]string{"0", "0s", "1h30m", "500ms", "1.5h"},
			map[string]string{
				"30":                    "lacks its unit: write 30s for seconds",
				"-5s":                   "is below zero: write 0s or more",
				"soon":                  "is no duration: write 500ms, 30s, 5m or 1h30m",
				"1d":                    "is no duration: write 500ms, 30s, 5m or 1h30m",
				"99999999999999999999s": "is no duration: write 500ms, 30s, 5m or 1h30m",
			},
		},
		"boolean": {"backend.use_proxy", []string{"true", "false", "True", "1", "0"}, map[string]string{"yes": "is neither true nor false", "": "is neither true nor false"}},
		"words":   {"log.level", []string{"debug", "error"}, map[string]string{"INFO": `is none of debug, info, warn, error: did you mean "info"?`, "": "is none of debug, info, warn, error"}},
	} {
		t.Run(kindName, func(t *testing.T) {
			k := fileKeys.byPath[c.key]
			for _, value := range c.right {
				if err := k.Check(value); err != nil {
					t.Errorf("%q is refused: %v", value, err)
				}
			}
			for value, want := range c.wrong {
				if err := k.Check(value); err == nil || err.Error() != fmt.Sprintf("%q %s", value, want) {
					t.Errorf("got %v, want %q %s", err, value, want)
				}
			}
		})
	}
}

func TestSizeIsWrittenAsItIsRead(t *testing.T) {
	for size, want := range map[Size]string{
		0: "0B", 1: "1B", 1023: "1023B", 1024: "1KiB", 1025: "1025B", 64 << 10: "64KiB", 16 << 20: "16MiB", 3 << 29: "1536MiB", 1 << 50: "1024TiB",
	} {
		if got := size.String(); got != want {
			t.Errorf("%d is written %s, want %s", int64(size), got, want)
		}
		if got, err := parseSize(want); size > 0 && (err != nil || got != size) {
			t.Errorf("%s is read as %v, %v", want, got, err)
		}
	}
}
