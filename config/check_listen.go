package config

import "net"

// checkListeners finds listeners that can't be there together, and keys that
// say nothing of theirs.
func checkListeners(l *Loaded) []error {
	var errs []error
	if len(l.Listen) == 0 {
		errs = append(errs, l.Errorf("listen", `names no address: write ":8080", or leave it out`))
	}
	addresses, names := map[string]bool{}, map[string]bool{}
	for i, ln := range l.Listen {
		entry := Entry("listen", i)
		_, port, _ := net.SplitHostPort(ln.Address)
		if addresses[ln.Address] && port != "0" {
			errs = append(errs, l.Errorf(entry+".address", "stands twice: one listener has an address"))
		}
		if ln.Name != "" && names[ln.Name] {
			errs = append(errs, l.Errorf(entry+".name", "stands twice: the log couldn't tell them apart"))
		}
		addresses[ln.Address], names[ln.Name] = true, true
		if l.IsSet(entry+".mode") && ln.Socket() == "" {
			errs = append(errs, l.Errorf(entry+".mode", "is for unix sockets, and address is a port: remove it"))
		}
	}
	return errs
}
