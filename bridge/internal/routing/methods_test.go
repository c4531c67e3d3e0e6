package routing

import (
	"strings"
	"testing"
)

func TestMethodPolicy(t *testing.T) {
	const testMethod, admin, channelz = "/test.Service/Method", "/acme.Admin/Drop", "/grpc.channelz.v1.Channelz/GetServers"
	for _, c := range []struct {
		name        string
		allow, deny []string
		want        map[string]bool
	}{
		{"none", nil, nil, map[string]bool{
			testMethod: true, admin: true, channelz: false,
			"/grpc.health.v1.Health/Check":                                  true,
			"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":     true,
			"/grpc.binarylog.v1.Log/X":                                      false,
			"/grpc.admin.v1.Admin/X":                                        false,
			"/envoy.service.status.v3.ClientStatusDiscoveryService/Fetch":   false,
			"/envoy.service.statusx.v3.ClientStatusDiscoveryService/Stream": true,
		}},
		{"a denied service", nil, []string{"acme.Admin/*"}, map[string]bool{testMethod: true, admin: false, "/acme.AdminX/Drop": true, channelz: false}},
		{"a denied method, with its slash", nil, []string{"/acme.Admin/Drop"}, map[string]bool{admin: false, "/acme.Admin/Show": true}},
		{"a denied package", nil, []string{"acme.*/*"}, map[string]bool{admin: false, "/acme.v1.Admin/Drop": false, testMethod: true}},
		{"an allowed service and nothing else", []string{"test.Service/*"}, nil, map[string]bool{testMethod: true, admin: false, channelz: false}},
		{"allowed methods by part", []string{"acme.*/Get*"}, nil, map[string]bool{"/acme.Admin/GetAll": true, admin: false}},
		{"deny wins", []string{"acme.Admin/*"}, []string{"*/Drop"}, map[string]bool{admin: false, "/acme.Admin/Show": true}},
		{"what shows insides, by name", []string{"grpc.channelz.v1.Channelz/*", "*/*"}, nil, map[string]bool{channelz: true, testMethod: true}},
		{"case matters", nil, []string{"acme.admin/*"}, map[string]bool{admin: true}},
		{"a class", []string{"acme.[AB]dmin/?rop"}, nil, map[string]bool{admin: true, "/acme.Cdmin/Drop": false}},
	} {
		p, err := NewMethodPolicy(c.allow, c.deny)
		if err != nil {
			t.Fatal(err)
		}
		for method, want := range c.want {
			if got := p.Allows(method); got != want {
				t.Errorf("%s: %s crosses: %v, want %v", c.name, method, got, want)
			}
		}
	}
}

func TestMethodPatternsThatMeanNothing(t *testing.T) {
	for _, text := range []string{"", "/", "acme.Admin", "/acme.Admin", "acme.Admin/Drop/x", "acme.Admin//Drop", "acme.[/Drop", "acme.Admin/[", `acme.Admin/\`, "**"} {
		for _, lists := range [][2][]string{{{text}, nil}, {nil, {text}}} {
			if _, err := NewMethodPolicy(lists[0], lists[1]); err == nil || !strings.Contains(err.Error(), "want") {
				t.Errorf("%q: got the error %v, want one that says what is wanted", text, err)
			}
		}
	}
}

func TestMethodPolicyKeepsNoListOfItsCaller(t *testing.T) {
	deny := []string{"/acme.Admin/*"}
	p, err := NewMethodPolicy(nil, deny)
	if err != nil {
		t.Fatal(err)
	}
	if deny[0] != "/acme.Admin/*" {
		t.Errorf("the caller's list became %q", deny)
	}
	deny[0] = "x/y"
	if p.Allows("/acme.Admin/Drop") {
		t.Error("the policy changed with the caller's list")
	}
}
