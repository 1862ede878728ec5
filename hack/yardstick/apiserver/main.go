// Command kube-apiserver is the unmodified Kubernetes API server, built from
// its published module.  It is the yardstick our own server is held against.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
