package main

import (
	"fmt"
	"math/rand"
	"os"
	"strings"
)

const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// world is one object of one random kind, and those who write to it.
type world struct {
	*rand.Rand
	schema    object
	hasStatus bool
	library   *library
	managers  []string
	configs   map[string]object // what each manager applied last
	live      object
	crowd     bool // many managers with a field of their own each
	unique    bool // no doubled items: an applier may not send them
}

func newWorld(r *rand.Rand) *world {
	w := &world{Rand: r, configs: map[string]object{}}
	properties := object{"spec": w.objectSchema(3)}
	if w.Intn(4) > 0 {
		w.hasStatus = w.Intn(4) > 0
		properties["status"] = w.objectSchema(2)
	}
	if w.Intn(6) == 0 {
		properties["extra"] = w.anySchema(2)
	}
	w.schema = object{"type": "object", "properties": properties}
	w.library = newLibrary(w.schema, w.hasStatus)
	for i := 0; i < 2+w.Intn(14); i++ {
		w.managers = append(w.managers, fmt.Sprintf("m%d", i))
	}
	if w.Intn(6) == 0 {
		w.crowd = true
		for i := 0; i < 12; i++ {
			w.managers = append(w.managers, fmt.Sprintf("n%d", i))
		}
	}
	if w.Intn(3) == 0 {
		w.managers = append(w.managers, "kubectl")
	}
	return w
}

// Schemas

func (w *world) objectSchema(depth int) object {
	properties := object{}
	for i := 0; i < 1+w.Intn(4); i++ {
		properties[string(rune('a'+i))] = w.anySchema(depth - 1)
	}
	s := object{"type": "object", "properties": properties}
	switch w.Intn(12) {
	case 0:
		s["x-kubernetes-map-type"] = "atomic"
	case 1:
		s["x-kubernetes-preserve-unknown-fields"] = true
	}
	return s
}

// changeSchema makes something atomic, or granular again. Objects whose entries may be
// anything stay as they are: when such a one becomes atomic, the library leaves what was owned in
// it as it was, while we own it as a whole.
func (w *world) changeSchema(s object) {
	switch s["type"] {
	case "object":
		element, _ := s["additionalProperties"].(object)
		isTyped := s["properties"] != nil || element["type"] != nil
		if w.Intn(3) == 0 && isTyped {
			if s["x-kubernetes-map-type"] == nil {
				s["x-kubernetes-map-type"] = "atomic"
			} else {
				delete(s, "x-kubernetes-map-type")
			}
			return
		}
		if properties, ok := s["properties"].(object); ok {
			for _, name := range names(properties) {
				if w.Intn(2) == 0 && name != "name" && name != "port" {
					w.changeSchema(properties[name].(object))
				}
			}
		}
		if element != nil {
			w.changeSchema(element)
		}
	case "array":
		if s["x-kubernetes-list-type"] != nil && w.Intn(2) == 0 {
			s["x-kubernetes-list-type"] = "atomic"
			delete(s, "x-kubernetes-list-map-keys")
		}
	}
}

func (w *world) scalarSchema() object {
	types := []string{"string", "integer", "boolean", "number", "string"}
	return object{"type": types[w.Intn(len(types))]}
}

func (w *world) listMapSchema(depth int) object {
	items := w.objectSchema(depth)
	delete(items, "x-kubernetes-map-type")
	properties := items["properties"].(object)
	keys := []any{"name"}
	properties["name"] = object{"type": "string"}
	items["required"] = []any{"name"}
	if w.Intn(3) == 0 {
		keys = append([]any{"port"}, keys...)
		properties["port"] = object{"type": "integer", "default": int64(80)}
	}
	return object{"type": "array", "x-kubernetes-list-type": "map",
		"x-kubernetes-list-map-keys": keys, "items": items}
}

func (w *world) anySchema(depth int) object {
	if depth <= 0 || w.Intn(4) == 0 {
		return w.scalarSchema()
	}
	switch w.Intn(9) {
	case 0, 1:
		return w.objectSchema(depth)
	case 2:
		s := object{"type": "object", "additionalProperties": w.anySchema(depth - 1)}
		if w.Intn(6) == 0 {
			s["x-kubernetes-map-type"] = "atomic"
		}
		return s
	case 3:
		return object{"type": "array", "items": w.anySchema(depth - 1)}
	case 4:
		return object{"type": "array", "x-kubernetes-list-type": "set",
			"items": object{"type": []string{"string", "integer"}[w.Intn(2)]}}
	case 5, 6:
		return w.listMapSchema(depth - 1)
	case 7:
		return object{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
	default:
		return object{"x-kubernetes-int-or-string": true}
	}
}

// Values

var words = []string{"a", "b", "c", "d<e", "é\"x"}

func (w *world) scalar(kind any) any {
	switch kind {
	case "integer":
		return int64(w.Intn(4))
	case "number":
		return []any{int64(1), 1.5, 2.25}[w.Intn(3)]
	case "boolean":
		return w.Intn(2) == 0
	default:
		return words[w.Intn(len(words))]
	}
}

func (w *world) freeform(depth int) any {
	switch n := w.Intn(10); {
	case depth > 0 && n < 5:
		o := object{}
		for i := 0; i < w.Intn(4); i++ {
			o[words[w.Intn(3)]] = w.freeform(depth - 1)
		}
		return o
	case depth > 0 && n == 5:
		l := []any{}
		for i := 0; i < w.Intn(3); i++ {
			l = append(l, w.freeform(depth-1))
		}
		return l
	case n == 6 && w.Intn(2) == 0:
		return nil
	case n == 7:
		return int64(w.Intn(3))
	default:
		return words[w.Intn(3)]
	}
}

func (w *world) list(s object) []any {
	list, seen := []any{}, map[string]bool{}
	items, _ := s["items"].(object)
	keys, _ := s["x-kubernetes-list-map-keys"].([]any)
	for i := 0; i < w.Intn(5); i++ {
		item := w.value(items)
		identity := text(item)
		if keys != nil {
			o := item.(object)
			identity = ""
			for _, k := range keys {
				if k == "port" && w.Intn(2) == 0 {
					delete(o, "port")
					identity += ",80"
					continue
				}
				if o[k.(string)] == nil {
					o[k.(string)] = w.scalar(items["properties"].(object)[k.(string)].(object)["type"])
				}
				identity += "," + text(o[k.(string)])
			}
		}
		if s["x-kubernetes-list-type"] != nil && seen[identity] && (w.unique || w.Intn(3) > 0) {
			continue
		}
		seen[identity] = true
		list = append(list, item)
	}
	return list
}

func (w *world) value(s object) any {
	switch s["type"] {
	case "object":
		o := object{}
		if properties, ok := s["properties"].(object); ok {
			for _, name := range names(properties) {
				if w.Intn(3) > 0 {
					o[name] = w.value(properties[name].(object))
				}
			}
		}
		if element, ok := s["additionalProperties"].(object); ok {
			for i := 0; i < w.Intn(4); i++ {
				o[words[w.Intn(4)]] = w.value(element)
			}
		}
		if s["x-kubernetes-preserve-unknown-fields"] == true && w.Intn(2) == 0 {
			for i := 0; i < w.Intn(4); i++ {
				o["u"+words[w.Intn(3)]] = w.freeform(3)
			}
		}
		return o
	case "array":
		return w.list(s)
	case nil:
		return []any{int64(w.Intn(3)), words[w.Intn(3)]}[w.Intn(2)]
	default:
		return w.scalar(s["type"])
	}
}

func names(o object) []string {
	l := []string{}
	for k := range o {
		l = append(l, k)
	}
	for i := range l {
		for j := i; j > 0 && l[j] < l[j-1]; j-- {
			l[j], l[j-1] = l[j-1], l[j]
		}
	}
	return l
}

func (w *world) meta(o object, withIdentity bool) {
	meta := object{"name": "x", "namespace": "ns"}
	if withIdentity {
		meta["uid"] = "u-1"
		meta["resourceVersion"] = fmt.Sprint(w.Intn(1000))
		meta["generation"] = int64(w.Intn(5) + 1)
		meta["creationTimestamp"] = "2001-01-01T00:00:00Z"
	}
	for _, field := range []string{"labels", "annotations"} {
		if w.Intn(3) == 0 {
			continue
		}
		m := object{}
		for i := 0; i < w.Intn(4); i++ {
			m[words[w.Intn(4)]] = words[w.Intn(3)]
		}
		meta[field] = m
	}
	if w.Intn(3) == 0 {
		meta["finalizers"] = w.list(object{"x-kubernetes-list-type": "set",
			"items": object{"type": "string"}})
	}
	if w.Intn(4) == 0 {
		list := []any{}
		for i := 0; i < w.Intn(3); i++ {
			owner := object{"apiVersion": "v1", "kind": "K", "name": words[w.Intn(3)],
				"uid": fmt.Sprint("o", i)}
			if w.Intn(2) == 0 {
				owner["controller"] = w.Intn(2) == 0
			}
			list = append(list, owner)
		}
		meta["ownerReferences"] = list
	}
	o["metadata"] = meta
}

func (w *world) config(withIdentity bool) object {
	o := w.value(w.schema).(object)
	o["apiVersion"], o["kind"] = apiVersion, kind
	w.meta(o, withIdentity)
	return o
}

// mutate changes a few places of `o` to what another random value has there.
func (w *world) mutate(o, other object) {
	for _, k := range names(other) {
		if _, ok := o[k]; !ok && w.Intn(4) == 0 {
			o[k] = clone(other[k])
		}
	}
	for _, k := range names(o) {
		if k == "apiVersion" || k == "kind" || k == "name" || k == "namespace" || k == "uid" ||
			k == "managedFields" {
			continue
		}
		mine, ok := o[k].(object)
		theirs, ok2 := other[k].(object)
		switch {
		case ok && ok2 && w.Intn(5) > 0:
			w.mutate(mine, theirs)
		case w.Intn(8) == 0 && k != "metadata":
			delete(o, k)
		case other[k] != nil && w.Intn(3) == 0:
			o[k] = clone(other[k])
		}
	}
}

// Steps

func (w *world) nextUpdate(s *step) {
	s.op = "update"
	w.unique = w.Intn(3) > 0
	if w.live == nil {
		s.sent = w.config(false)
		if w.Intn(3) == 0 {
			w.annotate(s.sent)
		}
		return
	}
	s.sent = clone(w.live).(object)
	meta := s.sent["metadata"].(object)
	if w.crowd && w.Intn(10) > 0 {
		annotations, ok := meta["annotations"].(object)
		if !ok {
			annotations = object{}
			meta["annotations"] = annotations
		}
		annotations[s.manager] = words[w.Intn(3)]
		return
	}
	w.mutate(s.sent, w.config(true))
	switch w.Intn(40) {
	case 0:
		meta["managedFields"] = []any{}
	case 1:
		meta["managedFields"] = []any{object{}}
	case 2, 3, 4, 5:
		delete(meta, "managedFields")
	case 6:
		if entries, ok := meta["managedFields"].([]any); ok && len(entries) > 1 {
			at := w.Intn(len(entries))
			meta["managedFields"] = append(entries[:at:at], entries[at+1:]...)
		}
	case 7:
		w.annotate(s.sent)
	}
}

// annotate does what client-side apply does.
func (w *world) annotate(o object) {
	c := clone(o).(object)
	meta := c["metadata"].(object)
	for _, k := range []string{"managedFields", "uid", "resourceVersion", "generation",
		"creationTimestamp"} {
		delete(meta, k)
	}
	if a, ok := meta["annotations"].(object); ok {
		delete(a, lastApplied)
	}
	meta = o["metadata"].(object)
	annotations, ok := meta["annotations"].(object)
	if !ok {
		annotations = object{}
		meta["annotations"] = annotations
	}
	annotations[lastApplied] = text(c) + "\n"
}

func (w *world) nextApply(s *step) {
	s.op = "apply"
	w.unique = w.Intn(20) > 0
	s.force = w.Intn(2) == 0
	previous, ok := w.configs[s.manager+"/"+s.subresource]
	switch {
	case ok && w.Intn(5) == 0:
		s.sent = clone(previous).(object)
	case ok && w.Intn(3) > 0:
		s.sent = clone(previous).(object)
		w.mutate(s.sent, w.config(false))
	case w.live != nil && w.Intn(3) == 0:
		s.sent = clone(w.live).(object)
		meta := s.sent["metadata"].(object)
		for _, k := range []string{"managedFields", "resourceVersion"} {
			delete(meta, k)
		}
		w.mutate(s.sent, w.config(false))
		if w.Intn(2) == 0 {
			delete(s.sent, "status")
		}
	default:
		s.sent = w.config(false)
	}
}

func (w *world) next() *step {
	s := &step{live: w.live, manager: w.managers[w.Intn(len(w.managers))]}
	if w.live != nil && !w.crowd &&
		w.schema["properties"].(object)["status"] != nil && w.Intn(4) == 0 {
		s.subresource = "status"
	}
	if w.Intn(2) == 0 || (w.crowd && w.Intn(3) > 0) {
		w.nextUpdate(s)
	} else {
		w.nextApply(s)
	}
	return s
}

func (w *world) run(d *driver, total *counts, verbose bool) {
	d.send(object{"schema": w.schema})
	for i := 1; i <= 40; i++ {
		if w.Intn(40) == 0 {
			w.changeSchema(w.schema["properties"].(object)["spec"].(object))
			w.library = newLibrary(w.schema, w.hasStatus)
			d.send(object{"schema": w.schema})
		}
		s := w.next()
		now := fakeTime(total.steps%3000000*2 + i)
		request := object{"op": s.op, "manager": s.manager, "subresource": s.subresource,
			"time": now, "hasStatus": w.hasStatus, "force": s.force, "object": s.sent}
		if s.live != nil {
			request["live"] = s.live
		}
		ours := d.ask(request)
		theirs, err := w.library.do(s, now)
		if o, ok := ours["object"].(object); ok && err == nil {
			keepEmpty(theirs, o)
			serve(s, w.hasStatus, o)
		}
		if err == nil {
			serve(s, w.hasStatus, theirs)
		}
		total.steps++
		if s.op == "apply" {
			total.applied++
		}
		if err != nil && strings.HasPrefix(err.Error(), "Apply failed") {
			total.conflicts++
		} else if err != nil {
			total.errors++
		}
		if what := compare(ours, theirs, err); what != "" {
			total.differences++
			total.kinds[s.op+" "+what]++
			if verbose {
				fmt.Fprintf(os.Stderr, "--- %s: %v\n  ours   %s\n  theirs %s %v\n  schema %s\n",
					what, s, text(ours), text(theirs), err, text(w.schema))
			}
		}
		if err != nil {
			continue
		}
		if s.op == "apply" {
			w.configs[s.manager+"/"+s.subresource] = s.sent
		}
		total.meet(theirs)
		w.live = theirs
		meta := w.live["metadata"].(object)
		meta["uid"] = "u-1"
		meta["creationTimestamp"] = "2001-01-01T00:00:00Z"
	}
}
