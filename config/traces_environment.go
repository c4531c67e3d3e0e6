package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
)

// otelPrefix begins the variables of OTLP. Those of traces alone have another word behind it,
// and win. https://opentelemetry.io/docs/specs/otel/protocol/exporter/
const otelPrefix = "OTEL_EXPORTER_OTLP_"

// A standardVariable is a variable of OpenTelemetry that stands for a key of traces.
type standardVariable struct {
	key   string
	names []string // the first that is set counts
	value func(l *Loaded, name, text string) (any, error)
}

// standardVariables are in an order: the endpoint's depends on the protocol, those of
// certificates on the endpoint, and the attributes on the service's name.
var standardVariables = []standardVariable{
	{"traces.protocol", otlp("PROTOCOL"), asIs},
	{"traces.endpoint", otlp("ENDPOINT"), otlpEndpoint},
	{"traces.headers", otlp("HEADERS"), headersOfRequests},
	{"traces.ca", otlp("CERTIFICATE"), forTLS},
	{"traces.cert", otlp("CLIENT_CERTIFICATE"), forTLS},
	{"traces.key", otlp("CLIENT_KEY"), forTLS},
	{"traces.compression", otlp("COMPRESSION"), asIs},
	{"traces.timeout", otlp("TIMEOUT"), inMilliseconds},
	{"traces.service", []string{"OTEL_SERVICE_NAME"}, asIs},
	{"traces.attributes", []string{"OTEL_RESOURCE_ATTRIBUTES"}, resourceAttributes},
	{"traces.ratio", []string{"OTEL_TRACES_SAMPLER"}, samplerRatio},
}

func otlp(word string) []string {
	return []string{otelPrefix + "TRACES_" + word, otelPrefix + word}
}

// mergeStandard sets the keys of traces that nothing else sets from OpenTelemetry's variables.
// They have no effect unless a key or one of them names the endpoint: they may be there for
// another program.
func (l *Loaded) mergeStandard() {
	if l.IsSet("traces.endpoint") && l.Traces.Endpoint == "" || !l.IsSet("traces.endpoint") && !l.standardEndpoint() {
		return
	}
	for _, v := range standardVariables {
		if l.IsSet(v.key) {
			continue
		}
		name := firstSet(v.names)
		if name == "" {
			continue
		}
		if err := l.setStandard(v, name); err != nil {
			l.mistakes = append(l.mistakes, fmt.Errorf("%s: %w", name, err))
		}
	}
	l.nameService()
}

// standardEndpoint reports whether OpenTelemetry's variables turn traces on.
func (l *Loaded) standardEndpoint() bool {
	if firstSet(otlp("ENDPOINT")) == "" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	exporters := os.Getenv("OTEL_TRACES_EXPORTER")
	if exporters == "" || slices.Contains(strings.Split(exporters, ","), "otlp") {
		return true
	}
	if exporters != "none" {
		l.Warnings = append(l.Warnings, "OTEL_TRACES_EXPORTER: culvert exports traces only by otlp, so it makes none: set it to otlp, or to none")
	}
	return false
}

func firstSet(names []string) string {
	for _, name := range names {
		if os.Getenv(name) != "" {
			return name
		}
	}
	return ""
}

func (l *Loaded) setStandard(v standardVariable, name string) error {
	value, err := v.value(l, name, os.Getenv(name))
	if err != nil || value == nil {
		return err
	}
	k := fileKeys.byPath[v.key]
	if text, ok := value.(string); ok {
		if err := k.Check(text); err != nil {
			return err
		}
	}
	l.origins[k.Name] = origin{place: name}
	if entries, ok := value.([]section); ok {
		for i, e := range entries {
			l.origins[Entry(k.Name, i)] = origin{place: name}
			for key := range e {
				l.origins[join(Entry(k.Name, i), key)] = origin{place: name}
			}
		}
	}
	return k.set(reflect.ValueOf(&l.Config).Elem(), value)
}

// nameService takes the service's name from the attributes, unless another variable or a key
// has it.
func (l *Loaded) nameService() {
	if l.IsSet("traces.service") || l.IsSet("traces.attributes") && l.origins["traces.attributes"].inFile {
		return
	}
	for _, a := range l.Traces.Attributes {
		if a.Name == "service.name" {
			l.Traces.Service = a.Value
			l.origins["traces.service"] = l.origins["traces.attributes"]
		}
	}
}

func asIs(_ *Loaded, _, text string) (any, error) { return text, nil }

// forTLS leaves certificates out of plaintext: they may be there for another program.
func forTLS(l *Loaded, _, text string) (any, error) {
	if !strings.HasPrefix(l.Traces.Endpoint, "https:") {
		return nil, nil //nolint:nilnil // nothing to set
	}
	return text, nil
}

func inMilliseconds(_ *Loaded, _, text string) (any, error) {
	if strings.Trim(text, "0123456789") != "" {
		return nil, fmt.Errorf("%q is not a number of milliseconds: write 10000 for 10s", text)
	}
	return text + "ms", nil
}

// otlpEndpoint adds the path of traces to an endpoint of all signals.
func otlpEndpoint(l *Loaded, name, text string) (any, error) {
	if name == otelPrefix+"ENDPOINT" && l.Traces.Protocol != "grpc" && checkReceiver(text) == nil {
		return strings.TrimRight(text, "/") + "/v1/traces", nil
	}
	return text, nil
}

// samplerRatio knows OpenTelemetry's own samplers. culvert's always asks a trusted parent first.
func samplerRatio(_ *Loaded, _, text string) (any, error) {
	switch strings.TrimPrefix(text, "parentbased_") {
	case "always_on":
		return "1", nil
	case "always_off":
		return "0", nil
	case "traceidratio":
		return cmp.Or(os.Getenv("OTEL_TRACES_SAMPLER_ARG"), "1"), nil
	}
	return nil, fmt.Errorf("%q is not a sampler that culvert has: use parentbased_always_on, parentbased_always_off or parentbased_traceidratio, or set traces.ratio", text)
}

// maxPairs bounds the headers and attributes in a variable.
const maxPairs = 128

// headersOfRequests are in lower case, as gRPC wants them.
func headersOfRequests(_ *Loaded, _, text string) (any, error) {
	all, err := listOfPairs(text)
	for _, header := range all {
		header["name"] = strings.ToLower(header["name"].(string)) //nolint:forcetypeassert // listOfPairs has made it
	}
	return listOrNothing(all, err)
}

// resourceAttributes has no name of the service if a key or a variable of its own has it: they win.
func resourceAttributes(l *Loaded, _, text string) (any, error) {
	all, err := listOfPairs(text)
	if l.IsSet("traces.service") {
		all = slices.DeleteFunc(all, func(a section) bool { return a["name"] == "service.name" })
	}
	return listOrNothing(all, err)
}

func listOrNothing(all []section, err error) (any, error) {
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all, nil
}

// listOfPairs reads "name=value,name=value" with escapes of URLs in the values. Its errors
// have no part of the text, since a header may be a secret.
func listOfPairs(text string) ([]section, error) {
	var all []section
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, escaped, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(escaped))
		if name = strings.TrimSpace(name); !ok || name == "" || err != nil {
			return nil, fmt.Errorf("entry %d isn't name=value with %%XX for special characters: correct it", len(all)+1)
		}
		all = append(all, section{"name": name, "value": value})
		if len(all) > maxPairs {
			return nil, errors.New("has too many entries")
		}
	}
	return all, nil
}
