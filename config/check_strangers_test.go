package config

import "testing"

// TestOriginsOfStrangers: entries that let in hosts that anybody can register,
// and those that only look so.
func TestOriginsOfStrangers(t *testing.T) {
	for entry, want := range map[string]string{
		"https://*.com":                                               "https://culvertforeign.com",
		"https://*.co.uk:*":                                           "https://culvertforeign.co.uk",
		"https://*.github.io":                                         "https://culvertforeign.github.io",
		"https://*.example.com":                                       "",
		"https://*.internal":                                          "",
		"http://localhost:*":                                          "",
		"vscode-webview://*":                                          "",
		`~vscode-webview://.*`:                                        "",
		`~https://.*example\.com`:                                     "https://culvertforeignexample.com",
		`~https://[a-z0-9-]+example\.com`:                             "https://culvertforeignaexample.com",
		`~https://(.*[.-])?example\.com`:                              "https://culvertforeign-example.com",
		`~https://app\.example\.com.*`:                                "https://app.example.com.culvertforeign.com",
		`~https://app\.example\.com[^/]*`:                             "https://app.example.com.culvertforeign.com",
		`~https://app\.example\.com(\.[a-z]+)?`:                       "https://app.example.com.dev",
		`~https://(a|b)\.example\.com|https://c\.org.*`:               "https://c.org.culvertforeign.com",
		`~https://[a-z]+\.vercel\.app`:                                "https://culvertforeigna.vercel.app",
		`~http://localhost.*`:                                         "http://localhost.culvertforeign.com",
		`~https://.*\.example\.com`:                                   "",
		`~https://.+\.example\.com(:[0-9]+)?`:                         "",
		`~^https://pr-[0-9]+\.example\.com$`:                          "",
		`~https://([a-z]+\.)*example\.com`:                            "",
		`~https://[a-z]{2,8}\.shop\.internal`:                         "",
		`~http://(localhost|127\.0\.0\.1)(:[0-9]+)?`:                  "",
		`~https://10\.0\.0\.[0-9]+`:                                   "",
		`~https://(a|b|c|d)(a|b|c|d)(a|b|c|d)(a|b|c|d)\.example\.com`: "",
	} {
		if got := strangerIn(entry); got != want {
			t.Errorf("%s lets %q in, want %q", entry, got, want)
		}
		if err := checkOrigin(entry); err != nil {
			t.Errorf("%s: %v", entry, err)
		}
	}
}
