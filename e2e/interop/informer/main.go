// Command informer judges an API server as the controllers of Kubernetes do: with
// client-go, unmodified.  It prints a line a check and "N passed, N failed" at the
// end, and fails when any failed.
//
//	informer [-crd widget-crd.yaml] KUBECONFIG
//	informer -expire KUBECONFIG     only makes the server forget revision 1
//
// The checks of shared informers run in two child processes, one with WatchList
// (a watch that begins with the present objects) and one with LIST and WATCH,
// since client-go reads that choice once, from its environment.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	checkTimeout = 60 * time.Second
	protobuf     = "application/vnd.kubernetes.protobuf"
)

var (
	widgets = schema.GroupVersionResource{Group: "interop.flops.dev", Version: "v1", Resource: "widgets"}
	crds    = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

// judge holds what the checks share: clients, and a namespace of this run.
type judge struct {
	config    *rest.Config
	namespace string
	typed     *kubernetes.Clientset // sends protobuf bodies
	objects   dynamic.Interface
	meta      metadata.Interface

	number, failed int
}

func newJudge(kubeconfig, namespace string) (*judge, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1 // no limit of the client's own
	config.UserAgent = "informer-judge"
	j := &judge{config: config, namespace: namespace}
	binary := rest.CopyConfig(config)
	binary.ContentType = protobuf
	binary.AcceptContentTypes = protobuf + ",application/json"
	if j.typed, err = kubernetes.NewForConfig(binary); err != nil {
		return nil, err
	}
	if j.objects, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	j.meta, err = metadata.NewForConfig(config)
	return j, err
}

func (j *judge) widgets() dynamic.ResourceInterface {
	return j.objects.Resource(widgets).Namespace(j.namespace)
}

// check runs one test and reports it; a panic or a timeout is a failure too.
func (j *judge) check(name string, test func(context.Context) error) {
	j.checkWithin(checkTimeout, name, test)
}

func (j *judge) checkWithin(limit time.Duration, name string, test func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("panic: %v", r)
			}
		}()
		done <- test(ctx)
	}()
	var err error
	select {
	case err = <-done:
	case <-time.After(limit + 5*time.Second):
		err = errors.New("did not end")
	}
	j.report(name, err)
}

func (j *judge) report(name string, err error) {
	j.number++
	if err == nil {
		fmt.Printf("ok %d - %s\n", j.number, name)
		return
	}
	j.failed++
	fmt.Printf("not ok %d - %s\n    %s\n", j.number, name, strings.ReplaceAll(err.Error(), "\n", "\n    "))
}

func (j *judge) finish() int {
	fmt.Printf("%d passed, %d failed\n", j.number-j.failed, j.failed)
	if j.failed > 0 {
		return 1
	}
	return 0
}

// child runs this program again for the informer checks and passes its lines on as checks of ours.
func (j *judge) child(kubeconfig, watchList string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*checkTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-informers", "-namespace", j.namespace, kubeconfig)
	cmd.Env = append(os.Environ(), "KUBE_FEATURE_WatchListClient="+watchList)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	seen, name, lines := 0, "", []string{}
	flush := func() {
		if name != "" {
			var failure error
			if len(lines) > 0 {
				failure = errors.New(strings.Join(lines, "\n"))
			}
			j.report(name+" (WatchList "+watchList+")", failure)
		}
		name, lines = "", nil
	}
	for scanner := bufio.NewScanner(strings.NewReader(string(out))); scanner.Scan(); {
		line := scanner.Text()
		head, rest, found := strings.Cut(line, " - ")
		switch {
		case found && (strings.HasPrefix(head, "ok ") || strings.HasPrefix(head, "not ok ")):
			flush()
			seen++
			name = rest
			if strings.HasPrefix(head, "not ok ") {
				lines = append(lines, "failed")
			}
		case strings.HasPrefix(line, "    "):
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	flush()
	if seen == 0 || (err != nil && j.failed == 0) {
		j.report("informers (WatchList "+watchList+")", fmt.Errorf("the child gave %d checks: %v", seen, err))
	}
}

func widget(name string, size int64, labels ...string) *unstructured.Unstructured {
	w := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "interop.flops.dev/v1",
		"kind":       "Widget",
		"metadata":   map[string]any{"name": name},
		"spec":       map[string]any{"size": size},
	}}
	if len(labels) > 0 {
		set := map[string]string{}
		for _, l := range labels {
			k, v, _ := strings.Cut(l, "=")
			set[k] = v
		}
		w.SetLabels(set)
	}
	return w
}

// eventually waits until the condition holds, and says what it saw last when it never does.
func eventually(ctx context.Context, limit time.Duration, condition func() (bool, string)) error {
	until := time.Now().Add(limit)
	for {
		ok, saw := condition()
		if ok {
			return nil
		}
		if time.Now().After(until) || ctx.Err() != nil {
			return fmt.Errorf("never became true; last: %s", saw)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (j *judge) setUp(ctx context.Context, crdFile string) error {
	crd, err := readObject(crdFile)
	if err != nil {
		return err
	}
	_, err = j.objects.Resource(crds).Create(ctx, crd, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	err = eventually(ctx, 20*time.Second, func() (bool, string) {
		_, err := j.objects.Resource(widgets).Namespace("default").List(ctx, metav1.ListOptions{Limit: 1})
		return err == nil, fmt.Sprint(err)
	})
	return err
}

func main() {
	crd := flag.String("crd", "e2e/interop/testdata/widget-crd.yaml", "the CRD of the judges")
	informers := flag.Bool("informers", false, "only the checks of shared informers, in -namespace")
	namespace := flag.String("namespace", fmt.Sprintf("informer-%d", os.Getpid()), "namespace of this run")
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig of the server, or the first argument")
	expire := flag.Bool("expire", false, "only make the server forget revision 1")
	flag.Parse()
	if flag.NArg() > 0 {
		*kubeconfig = flag.Arg(0)
	}
	j, err := newJudge(*kubeconfig, *namespace)
	if err != nil {
		fmt.Fprintln(os.Stderr, "informer:", err)
		os.Exit(2)
	}
	if *expire {
		if err := j.expireOnly(); err != nil {
			fmt.Fprintln(os.Stderr, "informer:", err)
			os.Exit(1)
		}
		return
	}
	if *informers {
		j.sharedInformers()
		os.Exit(j.finish())
	}
	j.check("the CRD of the judges is served", func(ctx context.Context) error { return j.setUp(ctx, *crd) })
	j.typedClients()
	j.dynamicClients()
	j.watches()
	for _, watchList := range []string{"true", "false"} {
		j.child(*kubeconfig, watchList)
	}
	klog.SetLogger(logr.Discard()) // it tells of each candidate on standard error
	j.leaderElection()
	j.check("the namespace of this run is deleted", func(ctx context.Context) error {
		return j.typed.CoreV1().Namespaces().Delete(ctx, j.namespace, metav1.DeleteOptions{})
	})
	os.Exit(j.finish())
}

func watchListOn() bool { return os.Getenv("KUBE_FEATURE_WatchListClient") == "true" }
