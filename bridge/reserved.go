package bridge

import "github.com/culvert-grpc/culvert/bridge/internal/headers"

// ReservedRequest reports whether nobody but culvert sets metadata of the lower-case name on
// its way to the backend, so that no service that an Authenticator asks may name it.
func ReservedRequest(name string) bool {
	switch name {
	case "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via", "forwarded", headers.ClientCert:
		return true // facts of the connection
	}
	return headers.OfRequest(name) == headers.Drop
}

// ReservedResponse reports whether nobody but culvert sets metadata of the lower-case name on
// its way to the client. Of set-cookie, Config.ForwardSetCookies decides.
func ReservedResponse(name string) bool { return headers.OfResponse(name) == headers.Drop }
