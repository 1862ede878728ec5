// Command etcd is the unmodified etcd server of the release line kube-apiserver
// is made for.  The one Debian 12 packages is older than what a watch that
// begins with the present objects needs.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
