package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// collect takes events until one satisfies last, or the watch or the context ends.
func collect(ctx context.Context, w watch.Interface, last func(watch.Event) bool) ([]watch.Event, error) {
	events := []watch.Event{}
	for {
		select {
		case e, open := <-w.ResultChan():
			if !open {
				return events, errors.New("the watch ended")
			}
			events = append(events, e)
			if last(e) {
				return events, nil
			}
		case <-ctx.Done():
			return events, fmt.Errorf("waited too long after %d events", len(events))
		}
	}
}

func brief(events []watch.Event) string {
	words := []string{}
	for _, e := range events {
		name := "?"
		if o, ok := e.Object.(*unstructured.Unstructured); ok {
			name = o.GetName()
		}
		words = append(words, string(e.Type)+":"+name)
	}
	return strings.Join(words, " ")
}

func isDeleted(name string) func(watch.Event) bool {
	return func(e watch.Event) bool {
		o, ok := e.Object.(*unstructured.Unstructured)
		return ok && e.Type == watch.Deleted && o.GetName() == name
	}
}

func revision(e watch.Event) uint64 {
	n, _ := strconv.ParseUint(e.Object.(*unstructured.Unstructured).GetResourceVersion(), 10, 64)
	return n
}

// watches checks the stream itself, without an informer in between.
func (j *judge) watches() {
	var events []watch.Event
	j.check("watch: every change once, in order, with rising revisions", func(ctx context.Context) error {
		list, err := j.widgets().List(ctx, metav1.ListOptions{LabelSelector: "set=watch"})
		if err != nil {
			return err
		}
		w, err := j.widgets().Watch(ctx, metav1.ListOptions{LabelSelector: "set=watch", ResourceVersion: list.GetResourceVersion()})
		if err != nil {
			return err
		}
		defer w.Stop()
		if err = j.changes(ctx); err != nil {
			return err
		}
		if events, err = collect(ctx, w, isDeleted("w2")); err != nil {
			return fmt.Errorf("%w; saw %s", err, brief(events))
		}
		for i := 1; i < len(events); i++ {
			if revision(events[i]) <= revision(events[i-1]) {
				return fmt.Errorf("revision %d after %d", revision(events[i]), revision(events[i-1]))
			}
		}
		return want("events", brief(events), "ADDED:w1 ADDED:w2 MODIFIED:w1 MODIFIED:w2 DELETED:w1 ADDED:w1 DELETED:w2")
	})
	j.check("watch: resumed from any revision, the rest comes exactly once", func(ctx context.Context) error {
		for i := range len(events) - 1 {
			w, err := j.widgets().Watch(ctx, metav1.ListOptions{
				LabelSelector: "set=watch", ResourceVersion: strconv.FormatUint(revision(events[i]), 10),
			})
			if err != nil {
				return err
			}
			again, err := collect(ctx, w, isDeleted("w2"))
			w.Stop()
			if err != nil {
				return fmt.Errorf("from event %d: %w", i, err)
			}
			if err = want("events", brief(again), brief(events[i+1:])); err != nil {
				return fmt.Errorf("from event %d: %w", i, err)
			}
		}
		return nil
	})
	j.check("watch: without a revision the present objects come first", func(ctx context.Context) error {
		w, err := j.widgets().Watch(ctx, metav1.ListOptions{LabelSelector: "set=watch"})
		if err != nil {
			return err
		}
		defer w.Stop()
		first, err := collect(ctx, w, func(watch.Event) bool { return true })
		if err != nil {
			return err
		}
		return want("events", brief(first), "ADDED:w1")
	})
	j.check("watch: a label that comes and goes is ADDED and DELETED", func(ctx context.Context) error {
		list, err := j.widgets().List(ctx, metav1.ListOptions{LabelSelector: "tag"})
		if err != nil {
			return err
		}
		w, err := j.widgets().Watch(ctx, metav1.ListOptions{LabelSelector: "tag", ResourceVersion: list.GetResourceVersion()})
		if err != nil {
			return err
		}
		defer w.Stop()
		for _, patch := range []string{`{"metadata":{"labels":{"tag":"1"}}}`, `{"spec":{"size":50}}`, `{"metadata":{"labels":{"tag":null}}}`} {
			if _, err = j.widgets().Patch(ctx, "w1", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
				return err
			}
		}
		seen, err := collect(ctx, w, isDeleted("w1"))
		if err != nil {
			return err
		}
		return want("events", brief(seen), "ADDED:w1 MODIFIED:w1 DELETED:w1")
	})
	j.check("watch: a bookmark of the right kind before the end, and a clean end", j.bookmark)
	j.check("watch: WatchList sends the present, a closing bookmark, then changes", j.watchList)
	j.checkWithin(expireLimit+10*time.Second, "watch: the first revision is forgotten in the end", j.expireFirst)
	j.check("watch: too old a revision is Expired", func(ctx context.Context) error {
		w, err := j.widgets().Watch(ctx, metav1.ListOptions{ResourceVersion: "1"})
		if apierrors.IsResourceExpired(err) {
			return nil
		}
		if err != nil {
			return err
		}
		defer w.Stop()
		e, err := collect(ctx, w, func(watch.Event) bool { return true })
		if err != nil {
			return err
		}
		if e[0].Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(e[0].Object)) {
			return fmt.Errorf("wanted an Expired error, got %s %v", e[0].Type, e[0].Object)
		}
		return nil
	})
	j.check("list: a revision of the future times out and says so", func(ctx context.Context) error {
		_, err := j.widgets().List(ctx, metav1.ListOptions{ResourceVersion: "99999999999"})
		if !apierrors.IsTimeout(err) || !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
			return fmt.Errorf("wanted ResourceVersionTooLarge, got %v", err)
		}
		return nil
	})
}

func (j *judge) changes(ctx context.Context) error {
	client := j.widgets()
	size := func(name string, n int) error {
		_, err := client.Patch(ctx, name, types.MergePatchType, fmt.Appendf(nil, `{"spec":{"size":%d}}`, n), metav1.PatchOptions{})
		return err
	}
	create := func(name string) error {
		_, err := client.Create(ctx, widget(name, 1, "set=watch"), metav1.CreateOptions{})
		return err
	}
	remove := func(name string) error { return client.Delete(ctx, name, metav1.DeleteOptions{}) }
	return errors.Join(create("w1"), create("w2"), size("w1", 2), size("w2", 3), size("w2", 3), remove("w1"), create("w1"), remove("w2"))
}

func (j *judge) bookmark(ctx context.Context) error {
	limit := int64(8)
	list, err := j.widgets().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	started := time.Now()
	w, err := j.widgets().Watch(ctx, metav1.ListOptions{
		ResourceVersion: list.GetResourceVersion(), AllowWatchBookmarks: true, TimeoutSeconds: &limit,
		LabelSelector: "set=none",
	})
	if err != nil {
		return err
	}
	defer w.Stop()
	// A change that this watch does not select moves its revision all the same.
	made, err := j.widgets().Create(ctx, widget("unseen", 1), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	events, err := collect(ctx, w, func(watch.Event) bool { return false })
	took := time.Since(started)
	if took < 7*time.Second || took > 12*time.Second {
		return fmt.Errorf("the watch ended after %v, wanted 8 s (%v)", took, err)
	}
	if len(events) == 0 {
		return errors.New("no bookmark")
	}
	for _, e := range events {
		o, ok := e.Object.(*unstructured.Unstructured)
		if e.Type != watch.Bookmark || !ok || o.GetKind() != "Widget" || o.GetAPIVersion() != "interop.flops.dev/v1" {
			return fmt.Errorf("wanted a bookmark of a Widget, got %s %v", e.Type, e.Object)
		}
	}
	last := revision(events[len(events)-1])
	if at, _ := strconv.ParseUint(made.GetResourceVersion(), 10, 64); last < at {
		return fmt.Errorf("the last bookmark is at %d, before %d", last, at)
	}
	return nil
}

func (j *judge) watchList(ctx context.Context) error {
	yes := true
	w, err := j.widgets().Watch(ctx, metav1.ListOptions{
		LabelSelector: "set=pages", SendInitialEvents: &yes, AllowWatchBookmarks: true,
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	if err != nil {
		return err
	}
	defer w.Stop()
	events, err := collect(ctx, w, func(e watch.Event) bool { return e.Type == watch.Bookmark || e.Type == watch.Error })
	if err != nil {
		return err
	}
	last := events[len(events)-1]
	o, ok := last.Object.(*unstructured.Unstructured)
	if last.Type != watch.Bookmark || !ok || o.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" {
		return fmt.Errorf("wanted the closing bookmark, got %s %v", last.Type, last.Object)
	}
	names := brief(events[:len(events)-1])
	for i := range 6 {
		if !strings.Contains(names, fmt.Sprintf("ADDED:page-%d", i)) {
			return fmt.Errorf("the present objects were %s", names)
		}
	}
	if _, err = j.widgets().Create(ctx, widget("page-z", 1, "set=pages"), metav1.CreateOptions{}); err != nil {
		return err
	}
	events, err = collect(ctx, w, func(e watch.Event) bool { return e.Type != watch.Bookmark })
	if err != nil {
		return err
	}
	return want("change", brief(events[len(events)-1:]), "ADDED:page-z")
}

// ---- shared informers --------------------------------------------------------------------------------

// wire counts what an informer asks for, can cut its connections, and can make
// the next watch ask for a revision long gone.
type wire struct {
	next http.RoundTripper

	mu                       sync.Mutex
	conns                    []net.Conn
	lists, watches, listlike int
	expire                   bool
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.URL.Query()
	w.mu.Lock()
	if strings.HasSuffix(r.URL.Path, "/widgets") && r.Method == http.MethodGet {
		switch {
		case q.Get("watch") == "":
			w.lists++
		case q.Get("sendInitialEvents") == "true":
			w.listlike++
		default:
			w.watches++
			if w.expire {
				w.expire = false
				q.Set("resourceVersion", "1")
				r = r.Clone(r.Context())
				r.URL.RawQuery = q.Encode()
			}
		}
	}
	w.mu.Unlock()
	return w.next.RoundTrip(r)
}

func (w *wire) counts() (lists, watches, listlike int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lists, w.watches, w.listlike
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

func (w *wire) attach(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			w.mu.Lock()
			w.conns = append(w.conns, c)
			w.mu.Unlock()
		}
		return c, err
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		w.next = next
		return w
	})
	return config
}

// handlers count events by kind and keep what the events alone would make of the world.
type handlers struct {
	mu                    sync.Mutex
	added, updated, gone  int
	world                 map[string]string
	unknown, stale, twice int
}

func (h *handlers) funcs() cache.ResourceEventHandlerFuncs {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) {
			h.mu.Lock()
			defer h.mu.Unlock()
			w := o.(*unstructured.Unstructured)
			if _, known := h.world[w.GetName()]; known {
				h.twice++
			}
			h.added++
			h.world[w.GetName()] = w.GetResourceVersion()
		},
		UpdateFunc: func(before, o any) {
			h.mu.Lock()
			defer h.mu.Unlock()
			w := o.(*unstructured.Unstructured)
			if before.(*unstructured.Unstructured).GetResourceVersion() == w.GetResourceVersion() {
				return // a resync or a relist, not a change
			}
			if h.world[w.GetName()] != before.(*unstructured.Unstructured).GetResourceVersion() {
				h.stale++
			}
			h.updated++
			h.world[w.GetName()] = w.GetResourceVersion()
		},
		DeleteFunc: func(o any) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			w := o.(*unstructured.Unstructured)
			if _, known := h.world[w.GetName()]; !known {
				h.unknown++
			}
			h.gone++
			delete(h.world, w.GetName())
		},
	}
}

// agrees compares store and handlers with a fresh list of the server.
func (j *judge) agrees(ctx context.Context, store cache.Store, h *handlers) (bool, string) {
	list, err := j.widgets().List(ctx, metav1.ListOptions{LabelSelector: "set=informer"})
	if err != nil {
		return false, err.Error()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(store.ListKeys()) != len(list.Items) || len(h.world) != len(list.Items) {
		return false, fmt.Sprintf("%d on the server, %d in the store, %d by events", len(list.Items), len(store.ListKeys()), len(h.world))
	}
	for _, w := range list.Items {
		o, found, _ := store.GetByKey(w.GetNamespace() + "/" + w.GetName())
		if !found || o.(*unstructured.Unstructured).GetResourceVersion() != w.GetResourceVersion() || h.world[w.GetName()] != w.GetResourceVersion() {
			return false, "differs in " + w.GetName()
		}
	}
	return true, ""
}

func (j *judge) sharedInformers() {
	const present = 60
	background, stop := context.WithCancel(context.Background())
	defer stop()
	w := &wire{}
	client, err := dynamic.NewForConfig(w.attach(j.config))
	if err != nil {
		j.report("informer: a client", err)
		return
	}
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, j.namespace,
		func(o *metav1.ListOptions) { o.LabelSelector = "set=informer" })
	informer := factory.ForResource(widgets).Informer()
	h := &handlers{world: map[string]string{}}
	name := func(i int) string { return fmt.Sprintf("inf-%03d", i) }

	j.check("informer: syncs with what is there, indexed", func(ctx context.Context) error {
		_ = j.widgets().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "set=informer"})
		for i := range present {
			o := widget(name(i), int64(i+1), "set=informer")
			_ = unstructured.SetNestedField(o.Object, []string{"Red", "Blue"}[i%2], "spec", "color")
			if _, err := j.widgets().Create(ctx, o, metav1.CreateOptions{}); err != nil {
				return err
			}
		}
		err := informer.AddIndexers(cache.Indexers{"color": func(o any) ([]string, error) {
			color, _, err := unstructured.NestedString(o.(*unstructured.Unstructured).Object, "spec", "color")
			return []string{color}, err
		}})
		if err != nil {
			return err
		}
		if _, err = informer.AddEventHandler(h.funcs()); err != nil {
			return err
		}
		factory.Start(background.Done())
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return errors.New("no sync")
		}
		red, err := informer.GetIndexer().ByIndex("color", "Red")
		if err != nil {
			return err
		}
		return want("red ones", len(red), present/2)
	})
	j.check("informer: asks as this mode asks", func(ctx context.Context) error {
		lists, watches, listlike := w.counts()
		if watchListOn() {
			return want("lists, WatchLists", fmt.Sprint(lists, listlike), "0 1")
		}
		return eventually(ctx, 5*time.Second, func() (bool, string) {
			lists, watches, listlike = w.counts()
			return lists == 1 && watches == 1 && listlike == 0, fmt.Sprint(lists, watches, listlike)
		})
	})
	j.check("informer: follows concurrent changes without loss", func(ctx context.Context) error {
		if err := j.churn(ctx, name, present); err != nil {
			return err
		}
		if err := eventually(ctx, 15*time.Second, func() (bool, string) { return j.agrees(ctx, informer.GetStore(), h) }); err != nil {
			return err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		return want("added, gone, twice, stale, unknown", fmt.Sprint(h.added, h.gone, h.twice, h.stale, h.unknown), fmt.Sprint(present+present, 20, 0, 0, 0))
	})
	j.check("informer: a cut connection is resumed without a list", func(ctx context.Context) error {
		lists, _, listlike := w.counts()
		w.cut()
		for i := range 10 {
			if _, err := j.widgets().Patch(ctx, name(30+i), types.MergePatchType, []byte(`{"spec":{"replicas":9}}`), metav1.PatchOptions{}); err != nil {
				return err
			}
		}
		if err := eventually(ctx, 20*time.Second, func() (bool, string) { return j.agrees(ctx, informer.GetStore(), h) }); err != nil {
			return err
		}
		listsNow, _, listlikeNow := w.counts()
		return want("lists", listsNow+listlikeNow, lists+listlike)
	})
	j.check("informer: after Expired it lists anew and loses nothing", func(ctx context.Context) error {
		lists, _, listlike := w.counts()
		w.mu.Lock()
		w.expire = true
		w.mu.Unlock()
		w.cut()
		if err := j.widgets().Delete(ctx, name(50), metav1.DeleteOptions{}); err != nil {
			return err
		}
		if err := eventually(ctx, 30*time.Second, func() (bool, string) {
			listsNow, _, listlikeNow := w.counts()
			return listsNow+listlikeNow > lists+listlike, "no new list"
		}); err != nil {
			return err
		}
		if _, err := j.widgets().Create(ctx, widget("inf-after", 1, "set=informer"), metav1.CreateOptions{}); err != nil {
			return err
		}
		if err := eventually(ctx, 15*time.Second, func() (bool, string) { return j.agrees(ctx, informer.GetStore(), h) }); err != nil {
			return err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		return want("twice, unknown", fmt.Sprint(h.twice, h.unknown), "0 0")
	})
}

// churn has four writers: they create as many as there are, change 30 and delete 20 of the present.
func (j *judge) churn(ctx context.Context, name func(int) string, present int) error {
	var group sync.WaitGroup
	failures := make([]error, 4)
	for k := range failures {
		group.Go(func() {
			for i := k; i < present && failures[k] == nil; i += len(failures) {
				_, err := j.widgets().Create(ctx, widget(name(present+i), 1, "set=informer"), metav1.CreateOptions{})
				if err == nil && i < 30 {
					_, err = j.widgets().Patch(ctx, name(i), types.MergePatchType, []byte(`{"spec":{"size":77}}`), metav1.PatchOptions{})
				}
				if err == nil && i < 20 {
					err = j.widgets().Delete(ctx, name(i), metav1.DeleteOptions{})
				}
				failures[k] = err
			}
		})
	}
	group.Wait()
	return errors.Join(failures...)
}

// ---- leader election ---------------------------------------------------------------------------------

type candidate struct {
	name    string
	leading chan struct{}
	stop    context.CancelFunc
	done    chan struct{}
}

func (j *judge) campaign(ctx context.Context, name string) *candidate {
	ctx, stop := context.WithCancel(ctx)
	c := &candidate{name: name, leading: make(chan struct{}), stop: stop, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: j.namespace},
				Client:     j.typed.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: name},
			},
			LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 300 * time.Millisecond,
			ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { close(c.leading) },
				OnStoppedLeading: func() {},
			},
		})
	}()
	return c
}

func (j *judge) leaderElection() {
	j.check("leader election: one leads, renews, and hands over", func(ctx context.Context) error {
		first := j.campaign(ctx, "first")
		select {
		case <-first.leading:
		case <-ctx.Done():
			return errors.New("nobody leads")
		}
		second := j.campaign(ctx, "second")
		defer second.stop()
		lease, err := j.typed.CoordinationV1().Leases(j.namespace).Get(ctx, "leader", metav1.GetOptions{})
		if err != nil {
			return err
		}
		err = eventually(ctx, 5*time.Second, func() (bool, string) {
			now, err := j.typed.CoordinationV1().Leases(j.namespace).Get(ctx, "leader", metav1.GetOptions{})
			if err != nil {
				return false, err.Error()
			}
			return now.Spec.RenewTime.After(lease.Spec.RenewTime.Time) && *now.Spec.HolderIdentity == "first", now.String()
		})
		if err != nil {
			return err
		}
		select {
		case <-second.leading:
			return errors.New("two lead")
		default:
		}
		first.stop()
		<-first.done
		select {
		case <-second.leading:
		case <-time.After(10 * time.Second):
			return errors.New("nobody took over")
		}
		lease, err = j.typed.CoordinationV1().Leases(j.namespace).Get(ctx, "leader", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if *lease.Spec.LeaseTransitions < 1 {
			return fmt.Errorf("%d transitions", *lease.Spec.LeaseTransitions)
		}
		return want("holder", *lease.Spec.HolderIdentity, "second")
	})
}
