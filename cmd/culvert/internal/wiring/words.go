package wiring

import "github.com/culvert-grpc/culvert/bridge/report"

// flags are those that set what culvert's texts tell to set.
var flags = map[string]string{
	report.KeyOrigins:      "--allow-origin",
	report.KeyMethodsAllow: "--allow-method",
	report.KeyBackendTLS:   "--backend-tls",
}

// Words says the settings in the bridge's texts: by the keys of the file, and by flags where
// one is to be set. It is a report.Words.
func Words(key, value string, set bool) string {
	flag := flags[key]
	switch {
	case !set || flag == "":
		return key
	case value != "":
		return flag + " " + value
	case key == report.KeyOrigins:
		return flag + " (" + key + ")"
	}
	return flag
}
