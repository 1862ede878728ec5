package main

import (
	"reflect"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/structured-merge-diff/v4/fieldpath"
)

// ObjectMeta as the API server publishes it for custom resources, as far as it matters here.
const objectMeta = `{"type":"object","properties":{
 "annotations":{"type":"object","additionalProperties":{"type":"string"}},
 "labels":{"type":"object","additionalProperties":{"type":"string"}},
 "creationTimestamp":{"type":"string","format":"date-time"},
 "deletionTimestamp":{"type":"string","format":"date-time"},
 "deletionGracePeriodSeconds":{"type":"integer"},
 "generation":{"type":"integer"},
 "finalizers":{"type":"array","items":{"type":"string"},"x-kubernetes-list-type":"set"},
 "managedFields":{"type":"array","x-kubernetes-list-type":"atomic",
  "items":{"type":"object","x-kubernetes-preserve-unknown-fields":true}},
 "name":{"type":"string"},"namespace":{"type":"string"},"generateName":{"type":"string"},
 "resourceVersion":{"type":"string"},"selfLink":{"type":"string"},"uid":{"type":"string"},
 "ownerReferences":{"type":"array","x-kubernetes-list-type":"map",
  "x-kubernetes-list-map-keys":["uid"],
  "items":{"type":"object","x-kubernetes-map-type":"atomic","properties":{
   "apiVersion":{"type":"string"},"kind":{"type":"string"},"name":{"type":"string"},
   "uid":{"type":"string"},"controller":{"type":"boolean"},
   "blockOwnerDeletion":{"type":"boolean"}}}}}}`

type converter struct{}

func (converter) Convert(in, out, context interface{}) error { return nil }
func (converter) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}
func (converter) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

type defaulter struct{}

func (defaulter) Default(runtime.Object) {}

type creater struct{}

func (creater) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	o := &unstructured.Unstructured{Object: object{}}
	o.SetGroupVersionKind(gvk)
	return o, nil
}

type library struct {
	main, status *managedfields.FieldManager
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func newLibrary(openapi object, hasStatus bool) *library {
	root := clone(openapi).(object)
	properties := root["properties"].(object)
	properties["apiVersion"] = object{"type": "string"}
	properties["kind"] = object{"type": "string"}
	properties["metadata"] = object{"$ref": "#/definitions/ObjectMeta"}
	root["x-kubernetes-group-version-kind"] = []any{
		object{"group": "oracle.example", "version": "v1", "kind": kind}}
	models := map[string]*spec.Schema{}
	for name, source := range map[string]string{kind: text(root), "ObjectMeta": objectMeta} {
		models[name] = &spec.Schema{}
		must(models[name].UnmarshalJSON([]byte(source)))
	}
	types, err := managedfields.NewTypeConverter(models, false)
	must(err)
	reset := func(paths ...string) map[fieldpath.APIVersion]fieldpath.Filter {
		set := fieldpath.NewSet()
		for _, path := range paths {
			set.Insert(fieldpath.MakePathOrDie(path))
		}
		return map[fieldpath.APIVersion]fieldpath.Filter{
			apiVersion: fieldpath.NewExcludeSetFilter(set)}
	}
	var mainReset map[fieldpath.APIVersion]fieldpath.Filter
	if hasStatus {
		mainReset = reset("status")
	}
	gvk := schema.GroupVersionKind{Group: "oracle.example", Version: "v1", Kind: kind}
	l := &library{}
	l.main, err = managedfields.NewDefaultCRDFieldManager(types, converter{}, defaulter{},
		creater{}, gvk, gvk.GroupVersion(), "", mainReset)
	must(err)
	l.status, err = managedfields.NewDefaultCRDFieldManager(types, converter{}, defaulter{},
		creater{}, gvk, gvk.GroupVersion(), "status", reset("metadata", "spec"))
	must(err)
	return l
}

func (l *library) do(s *step, now string) (object, error) {
	manager := l.main
	if s.subresource != "" {
		manager = l.status
	}
	live := &unstructured.Unstructured{Object: object{"apiVersion": apiVersion, "kind": kind}}
	if s.live != nil {
		live.Object = clone(s.live).(object)
	}
	sent := &unstructured.Unstructured{Object: clone(s.sent).(object)}
	var result runtime.Object
	var err error
	if s.op == "apply" {
		result, err = manager.Apply(live, sent, s.manager, s.force)
	} else {
		result, err = manager.Update(live, sent, s.manager)
	}
	if err != nil {
		return nil, err
	}
	o := parse(text(result.(*unstructured.Unstructured).Object)).(object)
	if entries, ok := managedFields(o).([]any); ok {
		for _, e := range entries {
			entry := e.(object)
			if t, ok := entry["time"].(string); ok && !strings.HasPrefix(t, "2001-") {
				entry["time"] = now
			}
		}
	}
	return o, nil
}

// timeless gives the entries without times in one order. (The real server compares them pairwise as
// they stand, and so takes a mere change of their order for a change of the object.)
func timeless(entries []any) []string {
	list := []string{}
	for _, e := range entries {
		entry := clone(e).(object)
		delete(entry, "time")
		list = append(list, text(entry))
	}
	sort.Strings(list)
	return list
}

// serve does to a result what the server around the library does: what the endpoint does not write
// stays as it was, and times stay where nothing else changed.
func serve(s *step, hasStatus bool, result object) {
	if s.subresource == "status" {
		entries := managedFields(result)
		for k := range result {
			if k != "status" {
				delete(result, k)
			}
		}
		for k, v := range s.live {
			if k != "status" {
				result[k] = clone(v)
			}
		}
		meta := result["metadata"].(object)
		delete(meta, "managedFields")
		if entries != nil {
			meta["managedFields"] = entries
		}
	} else if hasStatus {
		delete(result, "status")
		if status, ok := s.live["status"]; ok {
			result["status"] = clone(status)
		}
	}
	if s.live == nil {
		return
	}
	old, _ := clone(managedFields(s.live)).([]any)
	now, _ := managedFields(result).([]any)
	if !reflect.DeepEqual(timeless(old), timeless(now)) {
		return
	}
	other := clone(result).(object)
	if len(old) > 0 {
		other["metadata"].(object)["managedFields"] = old
	}
	if text(other) == text(s.live) {
		for k := range result {
			result[k] = other[k]
		}
	}
}
