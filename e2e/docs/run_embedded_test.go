package docs

import "strings"

// embeddedServer is the program around a snippet that uses the server "b" and doesn't
// make it.
const embeddedServer = `
	server := grpc.NewServer()
	demopb.RegisterDemoServer(server, demopb.UnimplementedDemoServer{})
	backend, stop := bridge.InProcess(server)
	cfg := bridge.Config{Backend: backend}
	b, err := bridge.New(cfg)
	if err != nil { log.Fatal(err) }
	web := &http.Server{Addr: "127.0.0.1:0"}
	b.ConfigureHTTP(web)
	ln, err := net.Listen("tcp", web.Addr)
	if err != nil { log.Fatal(err) }
	go web.Serve(ln)
	cc, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil { log.Fatal(err) }
	if _, err = demopb.NewDemoClient(cc).Echo(ctx, &demopb.EchoRequest{}); status.Code(err) != codes.Unimplemented { log.Fatal(err) }
	_, _ = cfg, stop
`

// beforeServer returns what a snippet needs before it.
func beforeServer(snippet string) string {
	for _, use := range []string{"b.Apply(", "b.Snapshot(", "b.Shutdown("} {
		if strings.Contains(snippet, use) && !strings.Contains(snippet, "bridge.New(") {
			return embeddedServer
		}
	}
	return ""
}
