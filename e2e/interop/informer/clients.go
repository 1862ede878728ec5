package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"

	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

func readObject(file string) (*unstructured.Unstructured, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{}
	return object, yaml.Unmarshal(text, &object.Object)
}

func want(what string, got, wanted any) error {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		return fmt.Errorf("%s is %v, wanted %v", what, got, wanted)
	}
	return nil
}

// typedClients uses built-in kinds as Go programs do: protobuf in the request bodies.
func (j *judge) typedClients() {
	j.check("typed: a namespace is created from protobuf", func(ctx context.Context) error {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: j.namespace, Labels: map[string]string{"judge": "informer"}}}
		made, err := j.typed.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if made.UID == "" || made.ResourceVersion == "" || made.CreationTimestamp.IsZero() {
			return fmt.Errorf("system metadata is missing: %+v", made.ObjectMeta)
		}
		return want("labels", made.Labels, map[string]string{"judge": "informer", "kubernetes.io/metadata.name": j.namespace})
	})
	j.check("typed: config map created, read, updated, patched, listed, deleted", j.configMap)
	j.check("typed: secret with binary data and stringData", func(ctx context.Context) error {
		secrets := j.typed.CoreV1().Secrets(j.namespace)
		data := []byte{0, 1, 254, 255}
		made, err := secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "s-"},
			Data:       map[string][]byte{"bin": data}, StringData: map[string]string{"text": "hello"},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		got, err := secrets.Get(ctx, made.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if got.Type != corev1.SecretTypeOpaque || !strings.HasPrefix(got.Name, "s-") {
			return fmt.Errorf("type %q, name %q", got.Type, got.Name)
		}
		return want("data", got.Data, map[string][]byte{"bin": data, "text": []byte("hello")})
	})
	j.check("typed: lease with microsecond times", func(ctx context.Context) error {
		leases := j.typed.CoordinationV1().Leases(j.namespace)
		at, holder, seconds := metav1.NewMicroTime(time.UnixMicro(1700000000123456)), "me", int32(15)
		made, err := leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: "typed"},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &at},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if !made.Spec.RenewTime.Equal(&at) {
			return fmt.Errorf("renewTime is %v, wanted %v", made.Spec.RenewTime, at)
		}
		return want("holder", *made.Spec.HolderIdentity, "me")
	})
	j.check("typed: errors are the right ones and name fields", j.typedErrors)
	j.check("typed: self subject access review", func(ctx context.Context) error {
		review, err := j.typed.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: j.namespace, Verb: "create", Group: widgets.Group, Resource: widgets.Resource,
			}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		return want("allowed", review.Status.Allowed, true)
	})
	j.check("typed: an apply configuration", func(ctx context.Context) error {
		maps := j.typed.CoreV1().ConfigMaps(j.namespace)
		config := applycorev1.ConfigMap("applied", j.namespace).WithData(map[string]string{"a": "1"})
		if _, err := maps.Apply(ctx, config, metav1.ApplyOptions{FieldManager: "one"}); err != nil {
			return err
		}
		config = config.WithData(map[string]string{"a": "2"})
		_, err := maps.Apply(ctx, config, metav1.ApplyOptions{FieldManager: "two"})
		if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "one"`) {
			return fmt.Errorf("wanted a conflict with one, got %v", err)
		}
		made, err := maps.Apply(ctx, config, metav1.ApplyOptions{FieldManager: "two", Force: true})
		if err != nil {
			return err
		}
		return want("data", made.Data, map[string]string{"a": "2"})
	})
	j.check("typed: recorded events are counted, not repeated", j.recordedEvents)
	j.check("discovery and OpenAPI", func(ctx context.Context) error {
		lists, err := j.typed.Discovery().ServerPreferredResources()
		if err != nil {
			return err
		}
		found := map[string]bool{}
		for _, list := range lists {
			for _, r := range list.APIResources {
				found[list.GroupVersion+" "+r.Name+" "+r.Kind] = true
			}
		}
		for _, name := range []string{"v1 configmaps ConfigMap", "coordination.k8s.io/v1 leases Lease", "interop.flops.dev/v1 widgets Widget"} {
			if !found[name] {
				return fmt.Errorf("discovery lacks %s", name)
			}
		}
		paths, err := j.typed.Discovery().OpenAPIV3().Paths()
		if err != nil {
			return err
		}
		document, ok := paths["apis/interop.flops.dev/v1"]
		if !ok {
			return fmt.Errorf("OpenAPI v3 lacks the group of the CRD")
		}
		text, err := document.Schema("application/json")
		if err == nil && !strings.Contains(string(text), "How large the widget is") {
			err = fmt.Errorf("OpenAPI v3 of the CRD lacks its descriptions")
		}
		return err
	})
}

func (j *judge) configMap(ctx context.Context) error {
	maps := j.typed.CoreV1().ConfigMaps(j.namespace)
	made, err := maps.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "typed", Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"a": "ü"}},
		Data:       map[string]string{"k": "v", "empty": ""}, BinaryData: map[string][]byte{"b": {0, 255}},
	}, metav1.CreateOptions{FieldManager: "judge"})
	if err != nil {
		return err
	}
	if len(made.ManagedFields) != 1 || made.ManagedFields[0].Manager != "judge" {
		return fmt.Errorf("managedFields: %+v", made.ManagedFields)
	}
	stale := made.DeepCopy()
	made.Data["k"] = "w"
	updated, err := maps.Update(ctx, made, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	stale.Data["k"] = "x"
	if _, err = maps.Update(ctx, stale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		return fmt.Errorf("a stale update should be a conflict, got %v", err)
	}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		current, err := maps.Get(ctx, "typed", metav1.GetOptions{})
		if err == nil {
			current.Data["again"] = "1"
			_, err = maps.Update(ctx, current, metav1.UpdateOptions{})
		}
		return err
	})
	if err != nil {
		return err
	}
	patched, err := maps.Patch(ctx, "typed", types.StrategicMergePatchType, []byte(`{"data":{"k":null}}`), metav1.PatchOptions{})
	if err != nil {
		return err
	}
	if err = want("data", patched.Data, map[string]string{"again": "1", "empty": ""}); err != nil {
		return err
	}
	if err = want("binary data", patched.BinaryData, map[string][]byte{"b": {0, 255}}); err != nil {
		return err
	}
	if updated.ResourceVersion == patched.ResourceVersion {
		return fmt.Errorf("the revision did not move")
	}
	list, err := maps.List(ctx, metav1.ListOptions{LabelSelector: "l=1"})
	if err != nil {
		return err
	}
	if len(list.Items) != 1 || list.ResourceVersion == "" {
		return fmt.Errorf("%d listed at %q", len(list.Items), list.ResourceVersion)
	}
	uid := types.UID("00000000-0000-4000-8000-000000000000")
	err = maps.Delete(ctx, "typed", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if !apierrors.IsConflict(err) {
		return fmt.Errorf("a delete of another uid should be a conflict, got %v", err)
	}
	if err = maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "l=1"}); err != nil {
		return err
	}
	if _, err = maps.Get(ctx, "typed", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("wanted not found, got %v", err)
	}
	return nil
}

func (j *judge) typedErrors(ctx context.Context) error {
	maps := j.typed.CoreV1().ConfigMaps(j.namespace)
	one := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "twice"}}
	if _, err := maps.Create(ctx, one, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := maps.Create(ctx, one, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("wanted already exists, got %v", err)
	}
	_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "bad"}, Data: map[string]string{"a b": ""}}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) {
		return fmt.Errorf("wanted invalid, got %v", err)
	}
	causes := err.(apierrors.APIStatus).Status().Details.Causes
	if len(causes) != 1 || causes[0].Field != "data[a b]" {
		return fmt.Errorf("causes: %+v", causes)
	}
	absent := j.typed.CoreV1().ConfigMaps("no-such-namespace")
	if _, err = absent.Create(ctx, one, metav1.CreateOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("wanted not found for the namespace, got %v", err)
	}
	return nil
}

func (j *judge) recordedEvents(ctx context.Context) error {
	made, err := j.widgets().Create(ctx, widget("recorded", 1), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: j.typed.CoreV1().Events(j.namespace)})
	recorder := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "judge"})
	for range 3 {
		recorder.Event(made, corev1.EventTypeNormal, "Judged", "the same thing")
		time.Sleep(50 * time.Millisecond)
	}
	return eventually(ctx, 10*time.Second, func() (bool, string) {
		list, err := j.typed.CoreV1().Events(j.namespace).List(ctx, metav1.ListOptions{
			FieldSelector: "involvedObject.uid=" + string(made.GetUID()) + ",reason=Judged",
		})
		if err != nil {
			return false, err.Error()
		}
		return len(list.Items) == 1 && list.Items[0].Count == 3, fmt.Sprintf("%+v", list.Items)
	})
}

// dynamicClients uses the custom kind without Go types.
func (j *judge) dynamicClients() {
	j.check("dynamic: defaults, generation, status apart from spec", func(ctx context.Context) error {
		w, err := j.widgets().Create(ctx, widget("d1", 3), metav1.CreateOptions{})
		if err != nil {
			return err
		}
		color, _, _ := unstructured.NestedString(w.Object, "spec", "color")
		if err = want("color", color, "Green"); err != nil {
			return err
		}
		_ = unstructured.SetNestedField(w.Object, "Up", "status", "phase")
		_ = unstructured.SetNestedField(w.Object, int64(9), "spec", "size")
		if w, err = j.widgets().UpdateStatus(ctx, w, metav1.UpdateOptions{}); err != nil {
			return err
		}
		size, _, _ := unstructured.NestedInt64(w.Object, "spec", "size")
		if err = want("size, generation", fmt.Sprint(size, w.GetGeneration()), "3 1"); err != nil {
			return err
		}
		_ = unstructured.SetNestedField(w.Object, "Down", "status", "phase")
		_ = unstructured.SetNestedField(w.Object, int64(4), "spec", "size")
		if w, err = j.widgets().Update(ctx, w, metav1.UpdateOptions{}); err != nil {
			return err
		}
		phase, _, _ := unstructured.NestedString(w.Object, "status", "phase")
		return want("phase, generation", fmt.Sprint(phase, w.GetGeneration()), "Up2")
	})
	j.check("dynamic: an update that changes nothing keeps the revision", func(ctx context.Context) error {
		w, err := j.widgets().Get(ctx, "d1", metav1.GetOptions{})
		if err != nil {
			return err
		}
		again, err := j.widgets().Update(ctx, w, metav1.UpdateOptions{})
		if err != nil {
			return err
		}
		return want("revision", again.GetResourceVersion(), w.GetResourceVersion())
	})
	j.check("dynamic: server-side apply, conflict, force", func(ctx context.Context) error {
		if _, err := j.widgets().Apply(ctx, "d2", widget("d2", 3), metav1.ApplyOptions{FieldManager: "one"}); err != nil {
			return err
		}
		_, err := j.widgets().Apply(ctx, "d2", widget("d2", 4), metav1.ApplyOptions{FieldManager: "two"})
		if !apierrors.IsConflict(err) {
			return fmt.Errorf("wanted a conflict, got %v", err)
		}
		causes := err.(apierrors.APIStatus).Status().Details.Causes
		if len(causes) != 1 || causes[0].Field != ".spec.size" || causes[0].Type != metav1.CauseTypeFieldManagerConflict {
			return fmt.Errorf("causes: %+v", causes)
		}
		_, err = j.widgets().Apply(ctx, "d2", widget("d2", 4), metav1.ApplyOptions{FieldManager: "two", Force: true})
		return err
	})
	j.check("dynamic: pages are one snapshot", j.pages)
	j.check("dynamic: a finalizer holds, its removal lets go", func(ctx context.Context) error {
		w := widget("d3", 1)
		w.SetFinalizers([]string{"judge.flops.dev/hold"})
		if _, err := j.widgets().Create(ctx, w, metav1.CreateOptions{}); err != nil {
			return err
		}
		if err := j.widgets().Delete(ctx, "d3", metav1.DeleteOptions{}); err != nil {
			return err
		}
		held, err := j.widgets().Get(ctx, "d3", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if held.GetDeletionTimestamp() == nil {
			return fmt.Errorf("no deletionTimestamp")
		}
		held.SetFinalizers(nil)
		if _, err = j.widgets().Update(ctx, held, metav1.UpdateOptions{}); err != nil {
			return err
		}
		if _, err = j.widgets().Get(ctx, "d3", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("wanted not found, got %v", err)
		}
		return nil
	})
	j.check("metadata client: list and watch of PartialObjectMetadata", func(ctx context.Context) error {
		client := j.meta.Resource(widgets).Namespace(j.namespace)
		list, err := client.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(list.Items) == 0 || list.Items[0].Name == "" || list.Items[0].UID == "" {
			return fmt.Errorf("%d items, the first without name or uid", len(list.Items))
		}
		w, err := client.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
		if err != nil {
			return err
		}
		defer w.Stop()
		if _, err = j.widgets().Create(ctx, widget("meta", 1), metav1.CreateOptions{}); err != nil {
			return err
		}
		event := <-w.ResultChan()
		object, ok := event.Object.(*metav1.PartialObjectMetadata)
		if !ok {
			return fmt.Errorf("%s of %T", event.Type, event.Object)
		}
		return want("event", string(event.Type)+" "+object.Name, "ADDED meta")
	})
}

func (j *judge) pages(ctx context.Context) error {
	for i := range 7 {
		if _, err := j.widgets().Create(ctx, widget(fmt.Sprintf("page-%d", i), 1, "set=pages"), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	options := metav1.ListOptions{LabelSelector: "set=pages", Limit: 3}
	first, err := j.widgets().List(ctx, options)
	if err != nil {
		return err
	}
	if _, err = j.widgets().Create(ctx, widget("page-late", 1, "set=pages"), metav1.CreateOptions{}); err != nil {
		return err
	}
	if err = j.widgets().Delete(ctx, "page-6", metav1.DeleteOptions{}); err != nil {
		return err
	}
	names, at := []string{}, first.GetResourceVersion()
	for page := first; ; {
		if len(page.Items) > 3 || page.GetResourceVersion() != at {
			return fmt.Errorf("%d items at revision %s, wanted at most 3 at %s", len(page.Items), page.GetResourceVersion(), at)
		}
		for _, w := range page.Items {
			names = append(names, w.GetName())
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			break
		}
		if page, err = j.widgets().List(ctx, options); err != nil {
			return err
		}
	}
	return want("names", names, "[page-0 page-1 page-2 page-3 page-4 page-5 page-6]")
}
