package bridge

import "testing"

func TestReserved(t *testing.T) {
	for name, want := range map[string]struct{ request, response bool }{
		"x-user":                  {},
		"authorization":           {},
		"cookie":                  {},
		"set-cookie":              {},
		"x-auth-request-user":     {}, // of a login in front, which a service may be
		"x-real-ip":               {},
		"grpc-timeout":            {true, true},
		":path":                   {true, true},
		"connection":              {true, true},
		"te":                      {true, true},
		"x-culvert-subject":       {true, true},
		"x_culvert_subject":       {true, true},
		"x-request-id":            {true, false},
		"host":                    {true, false},
		"x-forwarded-for":         {true, false},
		"x-forwarded-client-cert": {true, false},
		"via":                     {true, false},
		"x_forwarded_for":         {true, false},
		"location":                {false, true},
		"content-type":            {true, true},
		"access-control-max-age":  {true, true},
	} {
		if request, response := ReservedRequest(name), ReservedResponse(name); request != want.request || response != want.response {
			t.Errorf("%s is reserved for requests: %v, responses: %v; want %+v", name, request, response, want)
		}
	}
}
