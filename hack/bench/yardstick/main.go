// Command yardstick does with controller-runtime what our control loops do for suspended Workloads, so that both
// can be measured with the same requests.  Where there was a choice it has the cheaper one: only the fields that
// the benchmark sets, no managedFields in its cache, no lease, no events, no limit on its requests.
//
//	yardstick KUBECONFIG METRICS-ADDRESS
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/go-logr/logr/funcr"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	finalizer = "flops.dev/workload"
	workers   = 2 // as ours
)

type reconciler struct{ client.Client }

func (r reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	w := &Workload{}
	if err := r.Get(ctx, request.NamespacedName, w); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	before := w.deepCopy()
	if !w.DeletionTimestamp.IsZero() {
		controllerutil.RemoveFinalizer(w, finalizer)
		return reconcile.Result{}, client.IgnoreNotFound(r.Patch(ctx, w, client.MergeFrom(before)))
	}
	if controllerutil.AddFinalizer(w, finalizer) {
		if err := r.Patch(ctx, w, client.MergeFrom(before)); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{}, r.show(ctx, w)
}

// show patches status where it differs from what is so.
func (r reconciler) show(ctx context.Context, w *Workload) error {
	before := w.deepCopy()
	w.Status.ObservedGeneration = w.Generation
	meta.SetStatusCondition(&w.Status.Conditions, metav1.Condition{
		Type: "Ready", Status: metav1.ConditionFalse, Reason: "Suspended", Message: "no instance runs",
		ObservedGeneration: w.Generation,
	})
	if equality.Semantic.DeepEqual(before.Status, w.Status) {
		return nil
	}
	return r.Status().Patch(ctx, w, client.MergeFrom(before))
}

func run(kubeconfig, metrics string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1 // no limit of the client's own
	scheme := runtime.NewScheme()
	addWorkloads(scheme)
	m, err := manager.New(config, manager.Options{
		Scheme:  scheme,
		Metrics: server.Options{BindAddress: metrics},
		Cache:   cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
	})
	if err != nil {
		return err
	}
	// Its own writes do not wake it, nor do ours wake us.
	err = builder.ControllerManagedBy(m).Named("workload").
		For(&Workload{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(reconciler{m.GetClient()})
	if err != nil {
		return err
	}
	return m.Start(signals.SetupSignalHandler())
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: yardstick KUBECONFIG METRICS-ADDRESS")
		os.Exit(2)
	}
	log.SetLogger(funcr.New(func(prefix, line string) { fmt.Fprintln(os.Stderr, prefix, line) }, funcr.Options{}))
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "yardstick:", err)
		os.Exit(1)
	}
}
