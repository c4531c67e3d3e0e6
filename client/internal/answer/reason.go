package answer

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// Reason returns culvert's reason in the details of a status; "": somebody else's status.
func Reason(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "culvert" {
			return info.GetReason()
		}
	}
	return ""
}
