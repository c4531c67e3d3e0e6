package e2e

import (
	"fmt"
	"slices"
	"testing"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// How a transport passes nginx: by its HTTP/1.1, by its HTTP/2, or as TCP.
var (
	overHTTP1 = []wire.Transport{wire.Web, wire.WebText, wire.WebSocket, wire.Tunnel, wire.TunnelWeb}
	overHTTP2 = []wire.Transport{wire.GRPC, wire.WebH2}
)

const forwardingNginx = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n" + nginxHTTP + `
	server {
		listen %[1]s;
		location / {
			proxy_pass http://%[3]s;
			proxy_bind %[4]s;
			proxy_http_version 1.1;
			proxy_set_header Host $http_host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $connection_header;
			%[5]s
		}
	}
	server {
		listen %[2]s http2;
		location / {
			grpc_pass grpc://%[3]s;
			grpc_bind %[4]s;
			%[6]s
		}
	}
}
stream {
	server {
		listen %[7]s;
		proxy_pass %[8]s;
		proxy_bind %[4]s;
		proxy_protocol on;
	}
}
`

// nginx in front, which ends HTTP: culvert knows the client by the header that
// trusted_header names, and by no other, over every transport.
func TestBehindNginx(t *testing.T) {
	t.Parallel()
	for _, header := range []struct{ name, nginx, proxy, grpc string }{ // nginx has an address of its own, whose ports nobody else takes
		{"x-forwarded-for", "127.0.0.32", "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;", "grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"},
		{"forwarded", "127.0.0.33", `proxy_set_header Forwarded "for=$remote_addr;proto=$scheme";`, `grpc_set_header Forwarded "for=$remote_addr;proto=$scheme";`},
	} {
		t.Run(header.name, func(t *testing.T) {
			t.Parallel()
			b := startBackend(t, backendOptions{})
			c := startCulvert(t, b.address, culvertOptions{config: "trusted_proxies: [" + frontIP + "]\ntrusted_header: " + header.name + "\n"})
			behind := startCulvert(t, b.address, culvertOptions{config: "proxy_protocol: [" + frontIP + "]\n"})
			http1, http2, stream := header.nginx+":8001", header.nginx+":8002", header.nginx+":8003"
			dir := t.TempDir()
			file := write(t, dir, "nginx.conf", fmt.Sprintf(forwardingNginx, http1, http2, c.address, frontIP, header.proxy, header.grpc, stream, behind.address))
			startPathProcess(t, "nginx", stream, "-p", dir, "-c", file)

			chain := func(transport wire.Transport) string {
				seen := clientIP + ", " + frontIP
				inSocket := slices.Contains([]wire.Transport{wire.WebSocket, wire.Tunnel, wire.TunnelWeb}, transport)
				if header.name == "x-forwarded-for" && !inSocket { // nginx adds to what its client says, where it can see it
					return "6.6.6.6, " + seen
				}
				return seen
			}
			perTransport(t, overHTTP1, func(t *testing.T, transport wire.Transport) {
				wantPeer(t, dialFrom(t, transport, clientIP, http1), b, c, clientIP, chain(transport))
			})
			perTransport(t, overHTTP2, func(t *testing.T, transport wire.Transport) {
				wantPeer(t, dialFrom(t, transport, clientIP, http2), b, c, clientIP, chain(transport))
			})
			perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
				t.Run("stream", func(t *testing.T) {
					conn := dialFrom(t, transport, clientIP, stream)
					wantPeer(t, conn, b, behind, conn.TCP.LocalAddr().String(), clientIP)
				})
				t.Run("beside nginx", func(t *testing.T) {
					conn := dialFrom(t, transport, clientIP, c.address)
					wantPeer(t, conn, b, c, conn.TCP.LocalAddr().String(), clientIP)
				})
			})
		})
	}
}
