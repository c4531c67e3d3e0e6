package culvert.authz

# In the manner of the policies in OPA's documents about Envoy.

default allowed := false

allowed if {
	startswith(http.path, "/shop.v1.Catalog/")
}

allowed if {
	claims.sub
	http.path == "/shop.v1.Orders/Get"
	claims.tenant == "blue"
}

allowed if {
	input.attributes.source.principal == "spiffe://shop/batch"
	http.headers["content-type"] == "application/grpc"
}

http := input.attributes.request.http

# Signed with HS256 by a secret that only the test knows.
claims := payload if {
	startswith(http.headers.authorization, "Bearer ")
	token := substring(http.headers.authorization, 7, -1)
	[valid, _, payload] := io.jwt.decode_verify(token, {"secret": data.secret, "alg": "HS256", "time": 1700000000000000000})
	valid
}

headers["x-tenant"] := claims.tenant if allowed

headers["x-judged-by"] := "opa" if not allowed

request_headers_to_remove := ["authorization"] if claims.sub

response_headers_to_add["x-judged-by"] := "opa"

dynamic_metadata.culvert.subject := claims.sub

dynamic_metadata.culvert.backend := "blue" if claims.tenant == "blue"

http_status := 401 if not claims

body := "a token is needed" if not claims

body := sprintf("%s may not call %s", [claims.sub, http.path]) if {
	claims
	not allowed
}
