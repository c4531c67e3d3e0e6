package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// rooms is a list of sections with all that one can have.
type room struct {
	Name  string `key:"name" is:"host" needed:"yes"`
	Count int    `key:"count"`
	Doors struct {
		Key   string `key:"key" is:"file"`
		Locks []lock `key:"locks"`
		shared
	} `key:"doors"`
	Proxies []netip.Prefix `key:"proxies" like:"trusted_proxies" group:"who"`
	Hosts   []string       `key:"hosts" is:"host" like:"hosts" group:"who"`
	Level   string         `key:"level" one:"debug,info" like:"log.level"`
}

type lock struct {
	Kind string   `key:"kind" one:"bolt,chain" needed:"yes"`
	Ways []string `key:"ways" is:"host"`
}

type shared struct {
	Limits Limits `key:"limits" like:"limits"`
}

var roomsKey = Key{path: "rooms", Name: "rooms"}.sectionList(reflect.TypeFor[room](), "")

// readRooms reads a file that holds nothing but rooms.
func readRooms(t *testing.T, file string) ([]section, map[string]int, string) {
	t.Helper()
	in := &table{keys: []Key{roomsKey}, sections: map[string]bool{"": true}}
	doc, errs := parse(Options{}, in, fileName, []byte(file), small)
	lines := make([]string, len(errs))
	for i, err := range errs {
		lines[i] = strings.TrimPrefix(err.Error(), fileName)
	}
	list, _ := doc.values["rooms"].([]section)
	return list, doc.lines, strings.Join(lines, "\n")
}

func TestMistakesInAListOfSectionsAreNamedByEntry(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"unknown key":       {"rooms:\n- name: a\n- name: b\n  cont: 3\n", `:4: … "cont" … "count"`},
		"other level":       {"rooms:\n- name: a\n  locks: []\n", `:3: … "locks" … "rooms[].doors.locks"`},
		"unknown inside":    {"rooms:\n- name: a\n  doors: {kee: a}\n", `:3: … "kee" … "key"`},
		"wrong value":       {"rooms:\n- name: a\n- name: b\n  count: -3\n", `:4: rooms[1].count: "-3" … 0`},
		"no value":          {"rooms:\n- name:\n", `:2: rooms[0].name … value … remove`},
		"needed key":        {"rooms:\n- name: a\n-\n  count: 3\n", `:4: rooms[1] … name: grpc.example.com`},
		"nothing":           {"rooms:\n- name: a\n-\n", `:3: rooms[1] … keys … dash`},
		"entry is a value":  {"rooms: [a]\n", `:1: rooms[0] … keys … indented`},
		"entry is a list":   {"rooms: [[a]]\n", `:1: rooms[0] … keys … indented`},
		"list is a value":   {"rooms: a\n", `:1: rooms … list … dash`},
		"list is a section": {"rooms:\n  name: a\n", `:2: rooms … list … dash`},
		"section in entry":  {"rooms:\n- name: a\n  doors: 5\n", `:3: rooms[0].doors … keys … indented`},
		"key twice":         {"rooms:\n- name: a\n  count: 1\n  name: b\n", `:4: … "name" … line 2 … remove`},
		"dotted key":        {"rooms:\n- name: a\n  doors.key: b\n", `:3: … "doors.key" … key … doors`},
		"list in entry":     {"rooms:\n- name: a\n  hosts: b\n", `:3: rooms[0].hosts … list … ["b"]`},
		"inner list":        {"rooms:\n- name: a\n  doors: {locks: [{kind: bolt}, {kind: bolts}]}\n", `:3: rooms[0].doors.locks[1].kind: "bolts" … bolt … chain … "bolt"`},
		"inner needed key":  {"rooms:\n- name: a\n  doors:\n    locks:\n    - ways: [x]\n", `:5: rooms[0].doors.locks[0] … kind: chain`},
		"unset variable":    {"rooms:\n- name: ${NOBODY}\n", `:2: rooms[0].name: … ${NOBODY} … environment … ${NOBODY:-default}`},
		"tag":               {"rooms:\n- !room {name: a}\n", `:2: … tag … !room … remove`},
		"alias of itself":   {"rooms:\n- &r\n  name: a\n  doors: {locks: [*r]}\n", ":3: … \"name\" … kind … ways\n:4: … \"doors\" … kind … ways"},
		"too many":          {"rooms: [" + strings.Repeat("a,", maxEntries+1) + "]\n", `:1: rooms … 10001 … 10000`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, got := readRooms(t, c.file); !sayLines(got, c.want) {
				t.Errorf("%s\ngot  %s\nwant %s", c.file, got, c.want)
			}
		})
	}
}

func TestAListOfSectionsReachesItsStructs(t *testing.T) {
	list, lines, problems := readRooms(t, `
rooms:
- name: a
- &b
  name: ${LEVEL}
  count: 3
  doors:
    key: keys/b.pem
    limits: {message_bytes: 1MiB}
    locks:
    - {kind: bolt, ways: []}
    - kind: chain
  proxies: []
- *b
`)
	if problems != "" {
		t.Fatal(problems)
	}
	var got struct{ Rooms []room }
	if err := roomsKey.setEntries(reflect.ValueOf(&got).Elem().Field(0), list); err != nil {
		t.Fatal(err)
	}
	b := room{Name: "warn", Count: 3, Proxies: []netip.Prefix{}}
	b.Doors.Key = "/etc/culvert/keys/b.pem"
	b.Doors.Limits.MessageBytes = 1 << 20
	b.Doors.Locks = []lock{{Kind: "bolt", Ways: []string{}}, {Kind: "chain"}}
	if want := []room{{Name: "a"}, b, b}; !reflect.DeepEqual(got.Rooms, want) {
		t.Errorf("got  %+v\nwant %+v", got.Rooms, want)
	}
	for name, want := range map[string]int{
		"rooms": 2, "rooms[0]": 3, "rooms[0].name": 3, "rooms[1]": 4, "rooms[1].doors.key": 8,
		"rooms[1].doors.limits.message_bytes": 9, "rooms[1].doors.locks[1]": 12, "rooms[1].doors.locks[1].kind": 12, "rooms[1].proxies": 13, "rooms[2]": 14,
	} {
		if got := lines[name]; got != want {
			t.Errorf("%s stands in line %d, want %d", name, got, want)
		}
	}
}

// What an entry sets wins, also when it is an empty list; what belongs
// together is inherited together.
func TestEntriesInheritWhatTheyDontSet(t *testing.T) {
	one, two := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")
	for name, c := range map[string]struct {
		set  []string
		in   room
		want room
	}{
		"nothing":     {nil, room{}, room{Proxies: []netip.Prefix{one}, Hosts: []string{"a"}, Level: "info"}},
		"its own":     {[]string{"level"}, room{Level: "debug"}, room{Proxies: []netip.Prefix{one}, Hosts: []string{"a"}, Level: "debug"}},
		"empty":       {[]string{"proxies", "hosts"}, room{Proxies: []netip.Prefix{}}, room{Proxies: []netip.Prefix{}, Level: "info"}},
		"of the same": {[]string{"proxies"}, room{Proxies: []netip.Prefix{two}}, room{Proxies: []netip.Prefix{two}, Hosts: []string{}, Level: "info"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := Loaded{Config: Defaults(), origins: map[string]origin{}, derived: map[string]string{}}
			l.TrustedProxies, l.Hosts = []netip.Prefix{one}, []string{"a"}
			c.want.Doors.Limits = l.Limits
			for _, key := range c.set {
				l.origins["rooms[0]."+key] = origin{}
			}
			l.inheritEntry(roomsKey.entries, "rooms[0]", reflect.ValueOf(&c.in).Elem(), reflect.ValueOf(&l.Config).Elem())
			if !reflect.DeepEqual(c.in, c.want) {
				t.Errorf("got  %+v\nwant %+v", c.in, c.want)
			}
		})
	}
}

func TestListenersComeFromAListOrAnAddress(t *testing.T) {
	ten := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	tls := ListenerTLS{ServerTLS: Defaults().TLS.ServerTLS}
	for name, c := range map[string]struct {
		file     string
		flags    map[string]any
		variable string
		want     []Listener
		places   map[string]string // of keys
	}{
		"default": {
			"", nil, "",
			[]Listener{{Address: ":8080", TLS: tls, TrustedHeader: "x-forwarded-for"}},
			map[string]string{"listen": "listen", "listen[0]": "listen", "listen[0].address": "listen"},
		},
		"one address": {
			"log: {}\nlisten: :80", nil, "",
			[]Listener{{Address: ":80", TLS: tls, TrustedHeader: "x-forwarded-for"}},
			map[string]string{"listen": "FILE:2: listen", "listen[0].address": "FILE:2: listen", "listen[0].name": "FILE:2: listen"},
		},
		"addresses": {
			"trusted_proxies: [10.0.0.0/8]\nlisten:\n- :80\n- unix:///run/x", nil, "",
			[]Listener{{Address: ":80", TLS: tls, TrustedHeader: "x-forwarded-for", TrustedProxies: ten}, {Address: "unix:/run/x", TLS: tls, TrustedHeader: "x-forwarded-for", TrustedProxies: ten}},
			map[string]string{"listen[1].address": "FILE:4: listen[1].address", "listen[1]": "FILE:4: listen[1]"},
		},
		"sections": {
			"trusted_proxies: [10.0.0.0/8]\nlisten:\n- address: :80\n  name: in\n- :81\n- address: :82\n  trusted_proxies: []", nil, "",
			[]Listener{{Address: ":80", TLS: tls, TrustedHeader: "x-forwarded-for", Name: "in", TrustedProxies: ten}, {Address: ":81", TLS: tls, TrustedHeader: "x-forwarded-for", TrustedProxies: ten}, {Address: ":82", TLS: tls, TrustedHeader: "x-forwarded-for", TrustedProxies: []netip.Prefix{}}},
			map[string]string{"listen": "FILE:2: listen", "listen[0].name": "FILE:4: listen[0].name", "listen[2].name": "FILE:6: listen[2].name"},
		},
		"variable": {
			"listen: [':80', ':81']", nil, ":82",
			[]Listener{{Address: ":82", TLS: tls, TrustedHeader: "x-forwarded-for"}},
			map[string]string{"listen": "CULVERT_LISTEN", "listen[0].address": "CULVERT_LISTEN"},
		},
		"variable beside one address": {
			"log: {}\nlisten: :80", nil, ":82",
			[]Listener{{Address: ":82", TLS: tls, TrustedHeader: "x-forwarded-for"}},
			nil,
		},
		"flag": {
			"listen: [':80', ':81']",
			map[string]any{"listen": ":83"},
			":82",
			[]Listener{{Address: ":83", TLS: tls, TrustedHeader: "x-forwarded-for"}},
			map[string]string{"listen": "--listen", "listen[0].address": "--listen"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			clearEnvironment(t)
			t.Setenv("CULVERT_LISTEN", c.variable)
			file := write(t, "proxy.yaml", c.file)
			l, err := Load(Options{}, file, c.flags)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(l.Listen, c.want) {
				t.Errorf("got %+v, want %+v", l.Listen, c.want)
			}
			replaced := strings.Contains(c.places["listen"], "LISTEN") || c.flags != nil
			if warnings := strings.Join(l.Warnings, "\n"); strings.Contains(warnings, "replaces the list listen in "+file+":1") != replaced {
				t.Errorf("a list replaced: %v, warnings: %s", replaced, warnings)
			}
			for key, want := range c.places {
				if got := strings.ReplaceAll(l.Place(key), file, "FILE"); got != want {
					t.Errorf("%s is said to stand in %q, want %q", key, got, want)
				}
			}
		})
	}
}

// What an entry inherits has to be there to be inherited, and of its type; what
// a comment of the example shows has to be legal.
func TestTagsOfEntriesAreRight(t *testing.T) {
	var walk func(of reflect.Type, keys []Key)
	walk = func(of reflect.Type, keys []Key) {
		for _, k := range keys {
			field := of.FieldByIndex(k.index)
			if k.like != "" {
				from := fileKeys.key(k.like)
				if from.Name == "" || reflect.TypeFor[Config]().FieldByIndex(from.index).Type != field.Type {
					t.Errorf("%s can't have the value of %s", k.Name, k.like)
				}
			}
			if k.entries != nil {
				walk(field.Type.Elem(), k.entries.keys)
			} else if err := k.Check(k.example()); err != nil {
				t.Errorf("%s: its example is wrong: %v", k.Name, err)
			}
		}
	}
	walk(reflect.TypeFor[Config](), fileKeys.keys)
}

// The example's comment on lists of sections, uncommented, is a file.
func TestExampleOfEntriesIsLegal(t *testing.T) {
	clearEnvironment(t)
	defaults := Defaults()
	lines := strings.Split(uncommented(string(defaultsFile(readStruct(t), &defaults))), "\n")
	for i, line := range lines {
		indent, _, found := strings.Cut(line, "# A list of sections with")
		if !found {
			continue
		}
		end := i + 1
		for end < len(lines) && strings.HasPrefix(lines[end], indent+"#") {
			lines[end] = indent + strings.TrimPrefix(strings.TrimPrefix(lines[end], indent+"#"), " ")
			end++
		}
		lines[i-1] = "" // the default that the list stands in place of
	}
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "#") })
	_, errs := parse(Options{}, fileKeys, filepath.Join(t.TempDir(), "proxy.yaml"), []byte(strings.Join(lines, "\n")), small)
	if len(errs) > 0 {
		t.Error(fmt.Sprint(errs), "\n", strings.Join(lines, "\n"))
	}
}
