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

// otelPrefix begins the variables of OTLP. Those of one signal have another word behind it, and
// win. https://opentelemetry.io/docs/specs/otel/protocol/exporter/
const otelPrefix = "OTEL_EXPORTER_OTLP_"

// A standardVariable is a variable of OpenTelemetry that stands for a key.
type standardVariable struct {
	key   string
	name  func(l *Loaded) (string, error) // "": none is set
	value func(l *Loaded, text string) (any, error)
}

// standardVariables are in an order: what others mean depends on the receivers, and the attributes
// on the name of the service.
var standardVariables = []standardVariable{
	{"otlp.protocol", otlp("PROTOCOL"), asIs},
	{"otlp.headers", otlp("HEADERS"), headersOfRequests},
	{"otlp.ca", otlp("CERTIFICATE"), forTLS},
	{"otlp.cert", otlp("CLIENT_CERTIFICATE"), forTLS},
	{"otlp.key", otlp("CLIENT_KEY"), forTLS},
	{"otlp.compression", otlp("COMPRESSION"), asIs},
	{"otlp.timeout", otlp("TIMEOUT"), inMilliseconds},
	{"otlp.metrics_interval", named("OTEL_METRIC_EXPORT_INTERVAL"), inMilliseconds},
	{"otlp.service", named("OTEL_SERVICE_NAME"), asIs},
	{"otlp.attributes", named("OTEL_RESOURCE_ATTRIBUTES"), resourceAttributes},
	{"traces.ratio", named("OTEL_TRACES_SAMPLER"), samplerRatio},
}

func named(name string) func(*Loaded) (string, error) {
	return func(*Loaded) (string, error) { return firstSet(name), nil }
}

// otlp returns the variable of OTLP that ends with a word. culvert has one value for all signals
// that it exports, so it refuses several: a header for one receiver must not reach another.
func otlp(word string) func(*Loaded) (string, error) {
	return func(l *Loaded) (found string, err error) {
		common := otelPrefix + word
		for i, s := range l.OTLP.Exported() {
			name := firstSet(ofSignal(s, word), common)
			if i > 0 && os.Getenv(name) != os.Getenv(found) {
				if name == "" || name == common {
					name = found
				}
				return "", fmt.Errorf("%s: differs from that of other signals, and culvert has one for all: set %s instead, or export to a collector", name, common)
			}
			found = name
		}
		return found, nil
	}
}

func ofSignal(s Signal, word string) string {
	return otelPrefix + strings.ToUpper(string(s)) + "_" + word
}

// mergeStandard sets the keys that nothing else sets from OpenTelemetry's variables. They have no
// effect unless a key or one of them names an endpoint: they may be there for another program.
func (l *Loaded) mergeStandard() {
	if !l.mergeReceivers() {
		return
	}
	for _, v := range standardVariables {
		if l.IsSet(v.key) {
			continue
		}
		name, err := v.name(l)
		if err != nil {
			l.mistakes = append(l.mistakes, err)
			continue
		}
		l.setStandard(v.key, name, v.value)
	}
	l.nameService()
}

// mergeReceivers sets the keys of receivers from their variables. It reports whether anything is
// exported.
func (l *Loaded) mergeReceivers() bool {
	if !strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		if !l.IsSet("otlp.endpoint") {
			l.setStandard("otlp.endpoint", firstSet(otelPrefix+"ENDPOINT"), asIs)
		}
		for _, s := range Signals {
			l.mergeReceiver(s)
		}
	}
	return len(l.OTLP.Exported()) > 0
}

// mergeReceiver sets the key of a signal's receiver, unless the configuration names the receiver of
// all signals, or says that there is none.
func (l *Loaded) mergeReceiver(s Signal) {
	key, exporter := "otlp."+string(s), "OTEL_"+strings.ToUpper(string(s))+"_EXPORTER" // how the signal is exported
	own := firstSet(ofSignal(s, "ENDPOINT"))
	if l.IsSet(key) || l.IsSet("otlp.endpoint") && l.origins["otlp.endpoint"].place != otelPrefix+"ENDPOINT" || own == "" && l.OTLP.Receiver(s) == "" {
		return
	}
	if all := os.Getenv(exporter); all != "" && !slices.Contains(strings.Split(all, ","), "otlp") {
		l.setStandard(key, exporter, func(*Loaded, string) (any, error) { return notExported, nil })
		if all != notExported {
			l.Warnings = append(l.Warnings, fmt.Sprintf("%s: culvert exports %s only by otlp, so it exports none: set it to otlp, or to none", exporter, s))
		}
		return
	}
	l.setStandard(key, own, asIs)
}

func firstSet(names ...string) string {
	for _, name := range names {
		if os.Getenv(name) != "" {
			return name
		}
	}
	return ""
}

// setStandard sets a key from the variable of the name, unless that is empty.
func (l *Loaded) setStandard(key, name string, read func(l *Loaded, text string) (any, error)) {
	if name == "" {
		return
	}
	if err := l.trySetStandard(fileKeys.key(key), name, read); err != nil {
		l.mistakes = append(l.mistakes, fmt.Errorf("%s: %w", name, err))
	}
}

func (l *Loaded) trySetStandard(k Key, name string, read func(l *Loaded, text string) (any, error)) error {
	value, err := read(l, os.Getenv(name))
	if err != nil || value == nil {
		return err
	}
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
	if l.IsSet("otlp.service") || l.IsSet("otlp.attributes") && l.origins["otlp.attributes"].inFile {
		return
	}
	for _, a := range l.OTLP.Attributes {
		if a.Name == "service.name" {
			l.OTLP.Service = a.Value
			l.origins["otlp.service"] = l.origins["otlp.attributes"]
		}
	}
}

func asIs(_ *Loaded, text string) (any, error) { return text, nil }

// forTLS leaves certificates out of plaintext: they may be there for another program.
func forTLS(l *Loaded, text string) (any, error) {
	if !slices.ContainsFunc(l.OTLP.Exported(), func(s Signal) bool { return strings.HasPrefix(l.OTLP.Receiver(s), "https:") }) {
		return nil, nil //nolint:nilnil // nothing to set
	}
	return text, nil
}

func inMilliseconds(_ *Loaded, text string) (any, error) {
	if strings.Trim(text, "0123456789") != "" {
		return nil, fmt.Errorf("%q is not a number of milliseconds: write 10000 for 10s", text)
	}
	return text + "ms", nil
}

// samplerRatio knows OpenTelemetry's own samplers. culvert's always asks a trusted parent first.
func samplerRatio(_ *Loaded, text string) (any, error) {
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
func headersOfRequests(_ *Loaded, text string) (any, error) {
	all, err := listOfPairs(text)
	for _, header := range all {
		header["name"] = strings.ToLower(header["name"].(string)) //nolint:forcetypeassert // listOfPairs has made it
	}
	return listOrNothing(all, err)
}

// resourceAttributes has no name of the service if a key or a variable of its own has it: they win.
func resourceAttributes(l *Loaded, text string) (any, error) {
	all, err := listOfPairs(text)
	if l.IsSet("otlp.service") {
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
