// Command pause is the container that keeps the namespaces of a pod. It does nothing
// until it is told to end. As the first process of a pod it would also wait for
// orphans, if the containers shared their processes: these don't.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
}
